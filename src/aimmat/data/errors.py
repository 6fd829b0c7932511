"""Files that would spoil a training: what is wrong with one, said once for all readers; going on without it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Dataset

from aimmat.data.layouts import Entry, Location
from aimmat.images import read_alpha, read_cutout, read_image, read_trimap
from aimmat.schema import AimmatError

LEAST = 32  # pixels a side of a foreground: the network's stride
VISIBLE, OPAQUE = 8, 247  # alpha of 255 below which a pixel counts as empty, above which as opaque; JPEG mattes waver

_ATTEMPTS = 20  # other samples that are tried: so many bad ones in a row are no accident


def read_pair(entry: Entry, photo: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Colour and alpha of an entry, or the sentence that says why it cannot be trained on.

    Args:
        entry: one with an alpha; `aimmat.prepare check` names the same faults before a training meets them.
        photo: read the photograph although the entry has the colours of its foreground.

    Returns:
        Colour (H, W, 3) uint8, straight, and alpha (H, W) uint8.

    Raises:
        AimmatError: a file is missing or damaged, or `faults` finds something.
    """
    colour, alpha = decode_pair(entry, photo)
    for _, sentence in faults(entry, colour, alpha, photo):
        raise AimmatError(sentence)
    return colour, alpha


def decode_pair(entry: Entry, photo: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Colour and alpha as the files hold them.

    Raises:
        AimmatError: a file is missing, damaged or of the wrong kind.
    """
    path = colour_path(entry, photo)
    if entry.alpha is None and path == entry.path:
        return read_cutout(path)
    return read_image(path), read_alpha(entry.alpha or entry.path)


def trimap_of(entry: Entry, alpha: np.ndarray) -> np.ndarray:
    """The data set's own trimap of an entry that has one.

    Args:
        entry: one with a trimap.
        alpha: (H, W) uint8, its matte.

    Returns:
        (H, W) int64 class index.

    Raises:
        AimmatError: the file is missing, damaged, no trimap, or of another size than the matte.
    """
    assert entry.trimap is not None
    trimap = read_trimap(entry.trimap)
    if trimap.shape != alpha.shape:
        (height, width), (rows, columns) = alpha.shape, trimap.shape
        raise AimmatError(
            f"{entry.trimap} is {columns} x {rows} pixels but the alpha of its picture, {entry.alpha or entry.path}, "
            f"is {width} x {height}; both must have one size"
        )
    return trimap


def colour_path(entry: Entry, photo: bool = False) -> Location:
    """The file that has an entry's colours: of its foreground, or the picture itself."""
    return entry.path if photo or entry.foreground is None else entry.foreground


def faults(entry: Entry, colour: np.ndarray, alpha: np.ndarray, photo: bool = False) -> Iterator[tuple[str, str]]:
    """What is wrong with decoded files so that they would spoil a training.

    Args:
        entry: where they come from.
        colour: (H, W, 3) uint8.
        alpha: (H, W) uint8.
        photo: as for `read_pair`.

    Yields:
        A word for the kind of fault, and a sentence.
    """
    path, file = colour_path(entry, photo), entry.alpha or entry.path
    height, width = alpha.shape
    if colour.shape[:2] != alpha.shape:
        yield (
            "size",
            f"{path} is {colour.shape[1]} x {colour.shape[0]} pixels but its alpha {file} is {width} x {height}; "
            f"both must have one size",
        )
        return
    if min(height, width) < LEAST and not photo:
        yield "small", f"{path} is {width} x {height} pixels; a foreground must have {LEAST} a side, so leave it out"
    if entry.role == "saliency":
        return  # a mask may be empty or full, and the colours are a photograph's
    if alpha.max() < VISIBLE:
        yield (
            "empty",
            f"{file} is empty: its alpha is {alpha.max()} at most, of 255; save its matte again or leave it out",
        )
    elif alpha.min() > OPAQUE:
        yield (
            "full",
            f"{file} is full: its alpha is {alpha.min()} at least, of 255, so nothing is cut out; save its matte again "
            f"or leave it out",
        )
    elif (path != entry.path or entry.role == "foreground") and is_premultiplied(colour, alpha):
        yield (
            "premultiplied",
            f"{path} is premultiplied: no soft pixel is brighter than its alpha, which draws dark edges; save it with "
            f"straight colours",
        )


def is_premultiplied(colour: np.ndarray, alpha: np.ndarray) -> bool:
    """Whether colours were multiplied by alpha: then no soft pixel is brighter than its alpha.

    Dark foregrounds are nearly so by themselves; they are let pass.

    Args:
        colour: (H, W, 3) uint8.
        alpha: (H, W) uint8.
    """
    step = -(-max(alpha.shape) // 256)
    colour, alpha = colour[::step, ::step], alpha[::step, ::step]
    soft = (alpha > 12) & (alpha < 242)
    if np.count_nonzero(soft) < 50:
        return False
    brightness, level = colour[soft].max(axis=1).astype(np.float32), alpha[soft].astype(np.float32)
    return bool((brightness > level + 8).mean() < 0.005 and np.median(brightness / level) > 0.25)


class SkipErrors(Dataset):
    """Another sample in place of one whose files cannot be used; a pure function of (seed, epoch, index) as before.

    A sample gains the key `skipped`: the sentence of each file that was left out, a line each; "" for none. So what a
    worker met reaches the process that trains.

    Args:
        dataset: gives a sample for a key.
        seed: of the choice of other samples.
    """

    def __init__(self, dataset: Dataset, seed: int = 0) -> None:
        self.dataset, self.seed = dataset, seed
        self.recipe: str = getattr(dataset, "recipe", "")

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, object]:
        """The sample `key` (`aimmat.data.Key` or an index), or the first of some others that can be made.

        Raises:
            AimmatError: none of them can.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        others = np.random.default_rng([self.seed, epoch, index, 2]).integers(len(self), size=_ATTEMPTS)
        sentences: list[str] = []
        for other in (index, *others.tolist()):
            try:
                sample = self.dataset[epoch, other]
            except AimmatError as error:
                sentences.append(str(error))
            else:
                return {**sample, "skipped": "\n".join(sentences)}
        raise AimmatError(
            f"{len(sentences)} samples in a row cannot be used although data.on_error=skip leaves bad files out; the "
            f"last: {sentences[-1]}"
        )
