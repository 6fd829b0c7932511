"""Training composites of large cut-outs over large photographs, crop first: only the crop is read, then resized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

import albumentations as A
import numpy as np
import torch
from torch.utils.data import Dataset

from aimmat.data.cache import PictureReader
from aimmat.data.errors import colour_path
from aimmat.data.facts import tell, window
from aimmat.data.layouts import Entry
from aimmat.data.scenes import Key, _chw, _shrink, _straight
from aimmat.data.transforms import seeded
from aimmat.schema import AimmatError, ImageType

PAIRINGS = ("fresh", "fixed")


class CompositeDataset(Dataset):
    """Samples for a DataLoader: the layers of a crop, resized and augmented, as uint8 tensors.

    A pass shows every foreground so often as `repeats` says, each time over another background: number i of a pass has
    number i of the shuffled backgrounds, modulo how many there are. The background covers the foreground's frame, its
    aspect ratio kept, and only the part behind the crop is read. Compositing happens later, on the device. A sample is
    a pure function of (entries, seed, epoch, index).

    Args:
        entries: as `aimmat.data` reads them, of one data set or by name of several; a photo needs the colours of its
            foreground.
        split: "train", "val" or "test".
        seed: of the whole dataset.
        repeats: how often a pass shows a foreground; one number, or one for each data set (dim: 5, ...), 1 for others.
        pairing: "fresh" shuffles the backgrounds for every epoch, "fixed" once.
        crop_sizes: sides of the crop, pixels of the foreground, one drawn per sample. A foreground in which it does not
            fit takes the largest that fits; one in which none does, its own shorter side.
        input_size: side of what the network sees, pixels.
        transition: share of the crops that are centred on a pixel of the transition; the others, on any pixel.
        flip: share of the samples that are mirrored.
        photometric: albumentations Compose for each colour layer by itself; None leaves colours alone.
        types: the types of foreground to use, by name; None uses all.
        binary: True turns alpha into a mask, as saliency data sets have it, and the type into SO.
        cache: folder that `python -m aimmat.prepare cache` wrote; None decodes the files for every sample.

    Raises:
        AimmatError: no foreground or no background is left, a photo without foreground colours, no cache where one is
            named, or an unknown pairing.

    Source:
        AIM paper, section 4.2: crops of 640, 960 or 1280 pixels, resized to 320; 5, 5 and 2 backgrounds for a
        foreground of Composition-1k, HAtt and AM-2k. It does not say where a crop lies; the released code draws a pixel
        of the transition for one half of them and takes it as the corner. Here it is the centre, pushed back into the
        frame, and the background is not stretched.
    """

    def __init__(
        self,
        entries: Iterable[Entry] | Mapping[str, Iterable[Entry]],
        split: str = "train",
        seed: int = 0,
        repeats: int | Mapping[str, int] = 1,
        pairing: str = "fresh",
        crop_sizes: Sequence[int] = (640, 960, 1280),
        input_size: int = 320,
        transition: float = 0.5,
        flip: float = 0.5,
        photometric: A.Compose | None = None,
        types: Sequence[str] | None = None,
        binary: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        if pairing not in PAIRINGS:
            raise AimmatError(f"pairing must be {' or '.join(PAIRINGS)}, got {pairing!r}")
        mine = [entry for entry in flat(entries) if entry.split == split]
        wanted = {ImageType(name) for name in types} if types else set(ImageType)
        self.foregrounds = [entry for entry in mine if entry.role in ("foreground", "photo") and entry.type in wanted]
        self.backgrounds = [entry for entry in mine if entry.role == "background"]
        for role, found in (("foreground", self.foregrounds), ("background", self.backgrounds)):
            if not found:
                of = f" of type {', '.join(sorted(wanted))}" if types and role == "foreground" else ""
                raise AimmatError(f"the {split} split has no {role}{of}; add some to the data set, or use data=sample")
        if bare := [entry for entry in self.foregrounds if entry.role == "photo" and entry.foreground is None]:
            raise AimmatError(
                f"{bare[0].path} and {len(bare) - 1} more are photographs without the colours of their foregrounds; "
                f"estimate them with python -m aimmat.prepare foregrounds, or leave them out"
            )
        self.recipe = recipe(self.foregrounds + self.backgrounds, repeats)
        self._pass = [entry for entry in self.foregrounds for _ in range(often(repeats, entry.dataset))]
        self.seed, self.pairing, self.crop_sizes, self.input_size = seed, pairing, sorted(crop_sizes), input_size
        self.transition, self.flip, self.photometric, self.binary = transition, flip, photometric, binary
        self.reader = PictureReader(cache)

    def __len__(self) -> int:
        return len(self._pass)

    def __getitem__(self, key: Key | int) -> dict[str, object]:
        """The sample `key`, one of `aimmat.schema.Layers` without its batch dimension."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng([self.seed, epoch, index])
        entry = self._pass[index]
        order = _shuffled(len(self.backgrounds), self.seed, epoch if self.pairing == "fresh" else 0)
        backdrop = self.backgrounds[order[index % len(order)]]
        cutout = self.reader.cutout(entry)
        shape = cutout.shape
        side = fitting(int(rng.choice(self.crop_sizes)), self.crop_sizes, shape)
        pixel = cutout.transition_pixel(rng) if rng.random() < self.transition else cutout.any_pixel(rng)
        part = window_around(pixel, side, shape)
        tell(foreground=colour_path(entry), alpha=entry.alpha, background=backdrop.path, window=window(part))
        crop = resized(cutout.crop(part), self.input_size)
        alpha = np.ascontiguousarray(crop[..., 3])
        foreground = _straight(crop[..., :3], alpha)
        behind = cover_window(self.reader.background(backdrop), shape, part, rng)
        background = resized(behind, self.input_size)
        if rng.random() < self.flip:
            foreground, alpha, background = foreground[:, ::-1], alpha[:, ::-1], background[:, ::-1]
        if self.photometric is not None:
            foreground = seeded(self.photometric, rng)(image=np.ascontiguousarray(foreground))["image"]
            background = seeded(self.photometric, rng)(image=np.ascontiguousarray(background))["image"]
        name = f"{entry.stem}+{backdrop.stem}"
        return as_layers(foreground, alpha, background, entry, self.input_size / side, rng, name, self.binary)


def often(repeats: int | Mapping[str, int], dataset: str) -> int:
    """How often a pass shows a foreground of a data set; once if `repeats` does not name it."""
    return repeats if isinstance(repeats, int) else repeats.get(dataset, 1)


def recipe(entries: Sequence[Entry], repeats: int | Mapping[str, int]) -> str:
    """How many composites a pass has and what of.

    >>> cats = [Entry(Path(f"{i}.png"), "foreground", "train", dataset="am2k") for i in range(3)]
    >>> recipe([*cats, Entry(Path("sea.jpg"), "background", "train")], {"am2k": 2})
    'am2k 3 x 2 = 6 composites over 1 background'
    """
    roles = Counter(entry.role == "background" for entry in entries)
    backgrounds = f"{roles[True]:,} background" + "s" * (roles[True] != 1)
    counts = Counter(entry.dataset for entry in entries if entry.role != "background")
    terms = " + ".join(f"{name} {count:,} x {often(repeats, name)}".lstrip() for name, count in counts.items())
    total = sum(count * often(repeats, name) for name, count in counts.items())
    return f"{terms} = {total:,} composites over {backgrounds}"


def as_layers(
    foreground: np.ndarray,
    alpha: np.ndarray,
    background: np.ndarray,
    entry: Entry,
    scale: float,
    rng: np.random.Generator,
    name: str,
    binary: bool,
) -> dict[str, object]:
    """One of `aimmat.schema.Layers` without its batch dimension, from arrays of uint8.

    Args:
        foreground: (H, W, 3).
        alpha: (H, W).
        background: (H, W, 3).
        entry: has the type and the category.
        scale: working pixels per pixel of the original.
        rng: draws the seed of what is drawn on the device.
        name: of the sample.
        binary: turn alpha into a mask and the type into SO.
    """
    if binary:
        alpha = np.where(alpha >= 128, np.uint8(255), np.uint8(0))
    return {
        "foreground": _chw(foreground),
        "alpha": torch.from_numpy(np.ascontiguousarray(alpha))[None],
        "background": _chw(background),
        "type": ImageType.SO.number if binary else entry.type.number,
        "category": entry.category.number,
        "scale": np.float32(scale),
        "seed": int(rng.integers(2**31)),
        "name": name,
    }


def flat(entries: Iterable[Entry] | Mapping[str, Iterable[Entry]]) -> list[Entry]:
    """Entries of one data set, or of several that are given by name: a config can leave one of those out."""
    return list(chain.from_iterable(entries.values()) if isinstance(entries, Mapping) else entries)


def fitting(side: int, sides: Sequence[int], shape: tuple[int, int]) -> int:
    """The side if a picture of this shape (H, W) holds it, else the largest of `sides` that it holds, else its own."""
    short = min(shape)
    return side if side <= short else max((other for other in sides if other <= short), default=short)


def window_around(pixel: tuple[int, int], side: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    """A square centred on a pixel (row, column), pushed back into the frame of shape (H, W)."""
    top, left = (int(np.clip(place - side // 2, 0, length - side)) for place, length in zip(pixel, shape, strict=True))
    return slice(top, top + side), slice(left, left + side)


def cover_window(
    picture: np.ndarray, shape: tuple[int, int], part: tuple[slice, slice], rng: np.random.Generator
) -> np.ndarray:
    """The part of a picture behind a part of a frame that the picture covers, its aspect ratio kept.

    Args:
        picture: (h, w, 3), of any size.
        shape: (H, W) of the frame.
        part: a square inside the frame.
        rng: draws which part of the picture the frame shows, along the side that it does not fill.

    Returns:
        A square view of the picture, rounded to its pixels.
    """
    zoom = min(length / other for length, other in zip(picture.shape[:2], shape, strict=True))  # picture per frame
    side = max(1, round((part[0].stop - part[0].start) * zoom))
    behind = []
    for length, other, inside in zip(picture.shape[:2], shape, part, strict=True):
        start = rng.random() * (length - other * zoom) + inside.start * zoom
        first = int(np.clip(round(start), 0, length - side))
        behind.append(slice(first, first + side))
    return picture[tuple(behind)]


def resized(square: np.ndarray, size: int) -> np.ndarray:
    """A square resized by means of areas, or linearly on the way up; (n, n, C) to (size, size, C).

    A whole factor goes first, since OpenCV is several times as fast there; the pixels that are left over by it, fewer
    than the factor, are cut off.
    """
    whole = len(square) // size
    if whole > 1:
        inner = len(square) // whole
        square = _shrink(square[: inner * whole, : inner * whole], (inner, inner))
    return _shrink(square, (size, size))


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([count, seed, epoch, 1]).permutation(count)
