"""Natural photographs with their mattes, one item a picture: test sets at full size, saliency sets resized."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from aimmat.data.composites import as_layers, flat
from aimmat.data.errors import read_pair, trimap_of
from aimmat.data.facts import tell
from aimmat.data.layouts import Entry
from aimmat.data.scenes import Key, _shrink
from aimmat.schema import AimmatError, ImageType


class PhotoDataset(Dataset):
    """Photographs as layers, uint8: foreground and background both are the picture, so their composite is it too.

    What is done to one of the two layers would undo that: to train on photographs, turn RSSN off (conf/data/duts.yaml).
    A sample is a pure function of (entries, seed, epoch, index).

    Where every photograph has a trimap of its set's own, samples have it too, and the regions of the metrics are the
    data set's; otherwise all trimaps are made from the mattes, so that a table has regions of one kind.

    Args:
        entries: as `aimmat.data` reads them, of one data set or by name of several; photos and saliency pictures count.
        split: "train", "val" or "test".
        seed: of the whole dataset.
        input_size: sides of the result, pixels, whatever the picture's aspect ratio; None keeps its own size.
        flip: share of the samples that are mirrored.
        types: the types of picture to use, by name; None uses all.
        binary: True turns alpha into a mask, as saliency data sets have it, and the type into SO.

    Raises:
        AimmatError: no picture is left.

    Source:
        AIM paper, section 4.2: pictures of DUTS are resized to 320 x 320; the released code also mirrors half of them.
    """

    def __init__(
        self,
        entries: Iterable[Entry] | Mapping[str, Iterable[Entry]],
        split: str = "test",
        seed: int = 0,
        input_size: int | None = None,
        flip: float = 0.0,
        types: Sequence[str] | None = None,
        binary: bool = False,
    ) -> None:
        wanted = {ImageType(name) for name in types} if types else set(ImageType)
        self.photos = [
            entry
            for entry in flat(entries)
            if entry.split == split and entry.role in ("photo", "saliency") and entry.type in wanted
        ]
        if not self.photos:
            of = f" of type {', '.join(sorted(wanted))}" if types else ""
            raise AimmatError(f"the {split} split has no photo{of}; add some to the data set, or use data=sample")
        self.seed, self.input_size, self.flip, self.binary = seed, input_size, flip, binary
        self.with_trimaps = not binary and all(entry.trimap is not None for entry in self.photos)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: Key | int) -> dict[str, object]:
        """The sample `key`, one of `aimmat.schema.Layers` without its batch dimension.

        Raises:
            AimmatError: a file is missing or damaged, or cannot be learnt from or tested on.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng([self.seed, epoch, index])
        entry = self.photos[index]
        tell(picture=entry.path, alpha=entry.alpha)
        picture, alpha = read_pair(entry, photo=True)
        trimap = trimap_of(entry, alpha).astype(np.uint8) if self.with_trimaps else None
        height, width = alpha.shape
        scale = 1.0
        if self.input_size:
            size = (self.input_size, self.input_size)
            picture, alpha = _shrink(picture, size), _shrink(alpha, size)
            trimap = None if trimap is None else _resized(trimap, size)
            scale = self.input_size / (height * width) ** 0.5  # the two sides' scales, averaged
        if rng.random() < self.flip:
            picture, alpha = picture[:, ::-1], alpha[:, ::-1]
            trimap = None if trimap is None else trimap[:, ::-1]
        sample = as_layers(picture, alpha, picture, entry, scale, rng, entry.stem, self.binary)
        return sample if trimap is None else {**sample, "trimap": torch.from_numpy(np.ascontiguousarray(trimap))[None]}


def _resized(trimap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Class indices, uint8, resized: what two classes share becomes transition."""
    levels = _shrink(127 * trimap, size)
    return np.asarray((levels > 0).astype(np.uint8) + (levels == 254))
