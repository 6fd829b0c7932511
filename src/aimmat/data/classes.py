"""Photographs whose folder names their class, as square crops: what an encoder is trained on before it sees a matte."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from aimmat.data.facts import tell, window
from aimmat.data.layouts import Entry
from aimmat.data.scenes import Key, _chw
from aimmat.images import read_image
from aimmat.schema import AimmatError

AREA = (0.08, 1.0)  # of the picture, that a random crop covers
RATIO = (3 / 4, 4 / 3)  # of its width to its height
SHORT = 256 / 224  # the shorter side of a whole picture, in sides of its centre crop


class ClassDataset(Dataset):
    """Crops of a split's pictures with the numbers of their classes, which count the folders' names in order.

    A sample is a pure function of (entries, seed, epoch, index): `image` (3, size, size) uint8 RGB, `label` and `name`.

    Args:
        entries: as `aimmat.data.read_dataset` gives them, with the role class.
        split: "train", "val" or "test".
        seed: of the whole dataset.
        size: side of the crop, pixels.
        augment: True takes a random part of the picture, resizes it to the crop and mirrors half of them; False
            resizes the shorter side to 8/7 of the crop and takes the centre.

    Raises:
        AimmatError: the split has no picture.

    Source:
        Random part: Szegedy et al., CVPR 2015, section 6. Numbers and interpolation are those of torchvision's
        reference script for classification, whose pictures are 224 x 224 out of 256.
    """

    def __init__(
        self, entries: Iterable[Entry], split: str = "train", seed: int = 0, size: int = 224, augment: bool = False
    ) -> None:
        self.pictures = [entry for entry in entries if entry.split == split and entry.role == "class"]
        if not self.pictures:
            raise AimmatError(
                f"the {split} split has no picture in a folder of its class; "
                f"python -m aimmat.prepare layout imagenet shows where they belong"
            )
        self.classes = tuple(sorted({Path(entry.path).parent.name for entry in self.pictures}))
        self._numbers = {name: number for number, name in enumerate(self.classes)}
        self.seed, self.size, self.augment = seed, size, augment
        self.recipe = f"{len(self.pictures):,} pictures of {len(self.classes):,} classes"

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: Key | int) -> dict[str, object]:
        """The sample `key`.

        Raises:
            AimmatError: the file is missing or damaged.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        entry = self.pictures[index]
        tell(picture=entry.path)
        picture = read_image(entry.path)
        if self.augment:
            rng = np.random.default_rng([self.seed, epoch, index])
            height, width = picture.shape[:2]
            part = _part(height, width, rng)
            tell(window=window(part))
            crop = _resized(picture[part], (self.size, self.size))
            if rng.random() < 0.5:
                crop = crop[:, ::-1]
        else:
            crop = _centre(picture, self.size)
        label = self._numbers[Path(entry.path).parent.name]
        return {"image": _chw(crop), "label": label, "name": entry.stem}


def _part(height: int, width: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A part of random area, shape and place; the centre of a picture so long that ten tries do not fit into it."""
    for _ in range(10):
        area = height * width * rng.uniform(*AREA)
        ratio = np.exp(rng.uniform(*np.log(RATIO)))
        columns, rows = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < columns <= width and 0 < rows <= height:
            top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
            return slice(top, top + rows), slice(left, left + columns)
    rows, columns = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def _centre(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle of the picture, whose shorter side becomes 8/7 of `size`."""
    short = round(SHORT * size)
    height, width = picture.shape[:2]
    resized = _resized(picture, (short * width // min(height, width), short * height // min(height, width)))
    top, left = (round((side - size) / 2) for side in resized.shape[:2])
    return resized[top : top + size, left : left + size]


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """To (width, height), bilinear and low-passed where it shrinks."""
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
