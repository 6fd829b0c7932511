"""Training and test samples: scenes in layers, a pure function of (source, seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import albumentations as A
import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from aimmat.data import synthetic
from aimmat.data.errors import read_pair
from aimmat.data.facts import tell, window
from aimmat.data.layouts import Entry
from aimmat.data.transforms import seeded
from aimmat.images import read_image
from aimmat.schema import AimmatError, ImageType, Scene

cv2.setNumThreads(0)  # a worker forked while OpenCV's threads run can wait for them for ever; the pictures are small


class Key(NamedTuple):
    """What a sampler asks a dataset for. The epoch travels with the index, so workers may persist."""

    epoch: int
    sample: int


class SceneSource(Protocol):
    """Something that scenes can be drawn from."""

    def __len__(self) -> int:
        """How many scenes make one pass."""
        ...

    def draw(self, index: int, rng: np.random.Generator) -> Scene:
        """Scene number `index` of a pass, its free choices drawn from `rng`."""
        ...

    def only(self, types: Collection[ImageType]) -> SceneSource:
        """The same source without the scenes of other types."""
        ...


class CutoutScenes:
    """Cut-outs laid over backgrounds on a square canvas.

    SO and STM cut-outs are scaled to a share of the canvas and put somewhere on it; NS ones, which have no outline of
    their own, cover it. Decoded pictures are kept in memory at no more than `keep` pixels a side, so a source is meant
    for small sets.

    Args:
        entries: as `aimmat.data.layouts` reads them.
        split: "train", "val" or "test".
        size: side of the canvas, pixels.
        fill: range of the longer side of an SO or STM cut-out, as a share of the canvas.
        repeats: how often a pass shows each cut-out, each time on another background; one number, or one for each type
            (SO: 3, ...), so that rare types are seen as often as common ones.

    Raises:
        AimmatError: no foreground or no background is left in the split.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        split: str,
        size: int,
        fill: tuple[float, float] = (0.6, 1.0),
        repeats: int | Mapping[str, int] = 1,
    ) -> None:
        mine = [entry for entry in entries if entry.split == split]
        self.foregrounds = [entry for entry in mine if entry.role == "foreground"]
        self.backgrounds = [entry for entry in mine if entry.role == "background"]
        for role, found in (("foreground", self.foregrounds), ("background", self.backgrounds)):
            if not found:
                raise AimmatError(f"the {split} split has no {role}; add some to the data set, or use data=sample")
        self.split, self.size, self.fill, self.repeats = split, size, fill, repeats
        often = repeats if isinstance(repeats, Mapping) else dict.fromkeys(ImageType, repeats)
        self._pass = [entry for entry in self.foregrounds for _ in range(often.get(entry.type, 1))]

    def __len__(self) -> int:
        return len(self._pass)

    def only(self, types: Collection[ImageType]) -> CutoutScenes:
        """The cut-outs of these types, over the same backgrounds."""
        foregrounds = [entry for entry in self.foregrounds if entry.type in types]
        if not foregrounds:
            raise AimmatError(
                f"the {self.split} split has no foreground of type {', '.join(sorted(types))}; "
                f"add some, or leave out the stage that asks for them: stages=[matting]"
            )
        return CutoutScenes(foregrounds + self.backgrounds, self.split, self.size, self.fill, self.repeats)

    def draw(self, index: int, rng: np.random.Generator) -> Scene:
        """Cut-out number `index` of a pass over a background drawn from `rng`."""
        entry = self._pass[index]
        backdrop = self.backgrounds[rng.integers(len(self.backgrounds))]
        tell(foreground=entry.path, alpha=entry.alpha, background=backdrop.path)
        premultiplied, alpha = _place(*_cutout(entry, 2 * self.size), self.size, entry.type, self.fill, rng)
        return Scene(
            foreground=_straight(premultiplied, alpha),
            alpha=alpha,
            background=cover(_background(backdrop.path, 3 * self.size), self.size, rng),
            type=entry.type,
            category=entry.category,
            name=f"{entry.stem}+{backdrop.stem}",
        )


class SyntheticScenes:
    """Procedural scenes, without any file.

    Args:
        size: side, pixels.
        length: how many make one pass.
        first_seed: passes that must not share a scene start at seeds that are `length` apart.
        fixed: True draws the same scenes in every pass (val, test), False new ones.
    """

    def __init__(self, size: int, length: int, first_seed: int = 0, fixed: bool = False) -> None:
        self.size, self.length, self.first_seed, self.fixed = size, length, first_seed, fixed
        self.types = list(ImageType)

    def __len__(self) -> int:
        return self.length

    def only(self, types: Collection[ImageType]) -> SyntheticScenes:
        """As many scenes, of these types."""
        source = SyntheticScenes(self.size, self.length, self.first_seed, self.fixed)
        source.types = sorted(types, key=list(ImageType).index)
        return source

    def draw(self, index: int, rng: np.random.Generator) -> Scene:
        """Scene number `index`, its type by turns."""
        seed = self.first_seed + index if self.fixed else int(rng.integers(2**31))
        return synthetic.scene(seed, self.size, image_type=self.types[index % len(self.types)])


class MixedScenes:
    """A source topped up by another one.

    Args:
        base: gives the length of a pass.
        extra: gives a scene instead, with probability `share`.
        share: 0 to 1.
    """

    def __init__(self, base: SceneSource, extra: SceneSource, share: float) -> None:
        self.base, self.extra, self.share = base, extra, share

    def __len__(self) -> int:
        return len(self.base)

    def only(self, types: Collection[ImageType]) -> MixedScenes:
        """Both sources without the scenes of other types."""
        return MixedScenes(self.base.only(types), self.extra.only(types), self.share)

    def draw(self, index: int, rng: np.random.Generator) -> Scene:
        """A scene of `base`, or with probability `share` one of `extra`."""
        source = self.extra if rng.random() < self.share else self.base
        return source.draw(index, rng)


class SceneDataset(Dataset):
    """Samples for a DataLoader: the layers of a scene, cropped, resized and augmented, as uint8 tensors.

    A crop is centred on a transition pixel when there is one, pushed back into the frame, and resized to `input_size`
    (paper, section 4.2; centring instead of anchoring corrects the release). Compositing happens later, on the device.

    Args:
        source: where scenes come from.
        seed: of the whole dataset.
        crop_sizes: sides of the crop, pixels of the scene, one drawn per sample; None keeps the whole scene.
        input_size: side of what the network sees, pixels; None keeps the crop's own.
        geometric: albumentations Compose for foreground and alpha together.
        photometric: albumentations Compose for each colour layer by itself.
        types: the types of scene to use, by name; None uses all.
        binary: True turns alpha into a mask, as saliency data sets have it, and the type into SO.
    """

    def __init__(
        self,
        source: SceneSource,
        seed: int = 0,
        crop_sizes: Sequence[int] | None = None,
        input_size: int | None = None,
        geometric: A.Compose | None = None,
        photometric: A.Compose | None = None,
        types: Sequence[str] | None = None,
        binary: bool = False,
    ) -> None:
        self.source = source.only({ImageType(name) for name in types}) if types else source
        self.seed, self.binary = seed, binary
        self.crop_sizes, self.input_size = crop_sizes, input_size
        self.geometric, self.photometric = geometric, photometric

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key | int) -> dict[str, object]:
        """The sample `key`, one of `aimmat.schema.Layers` without its batch dimension."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng([self.seed, epoch, index])
        scene = self.source.draw(index, rng)
        foreground, alpha, background = scene.foreground, scene.alpha, scene.background
        scale = 1.0
        if self.geometric is not None:
            moved = seeded(self.geometric, rng)(image=_premultiplied(foreground, alpha), mask=alpha)
            foreground, alpha = _straight(moved["image"], moved["mask"]), moved["mask"]
        if self.crop_sizes:
            crop = _window(alpha, int(rng.choice(self.crop_sizes)), rng)
            tell(window=window(crop))
            foreground, alpha, background = foreground[crop], alpha[crop], background[crop]
        if self.input_size:
            scale = self.input_size / alpha.shape[0]
            size = (self.input_size, self.input_size)
            small = _shrink(_premultiplied(foreground, alpha), size)
            alpha, background = _shrink(alpha, size), _shrink(background, size)
            foreground = _straight(small, alpha)
        if self.photometric is not None:
            foreground = seeded(self.photometric, rng)(image=foreground)["image"]
            background = seeded(self.photometric, rng)(image=background)["image"]
        if self.binary:
            alpha = np.where(alpha >= 128, np.uint8(255), np.uint8(0))
        return {
            "foreground": _chw(foreground),
            "alpha": torch.from_numpy(np.ascontiguousarray(alpha))[None],
            "background": _chw(background),
            "type": ImageType.SO.number if self.binary else scene.type.number,
            "category": scene.category.number,
            "scale": np.float32(scale),
            "seed": int(rng.integers(2**31)),
            "name": scene.name,
        }


class EpochSampler(Sampler[Key]):
    """Shuffled keys that carry their epoch.

    Args:
        length: how many samples there are.
        seed: of the order.
        shuffle: False keeps the order.
    """

    def __init__(self, length: int, seed: int = 0, shuffle: bool = True) -> None:
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Key]:
        order = np.arange(self.length)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        for index in order.tolist():
            yield Key(self.epoch, index)


def shared_out(batch_size: int, devices: int, device_batch_size: int | None = None) -> tuple[int, int]:
    """How the batch of one step is shared out: among the devices, and in turns on each of them.

    Args:
        batch_size: samples of a step, over all devices.
        devices: how many there are.
        device_batch_size: the most samples that a device takes at once; None takes its whole share.

    Returns:
        Samples that a device takes at once, and how often it does for one step (accumulation): as seldom as the limit
        allows. `batch_size` is the product of both and `devices`.

    Raises:
        AimmatError: the devices cannot have equal shares, or a limit below 1.

    >>> shared_out(16, devices=2, device_batch_size=5)
    (4, 2)
    """
    share, left = divmod(batch_size, devices)
    if left or not share:
        fitting = [size for size in (share * devices, (share + 1) * devices) if size]
        raise AimmatError(
            f"data.batch_size={batch_size} is the batch of one step over all devices and {devices} of them cannot have "
            f"equal shares; set it to {' or '.join(map(str, fitting))}, or take a number of devices that divides it"
        )
    if device_batch_size is not None and device_batch_size < 1:
        raise AimmatError(
            f"data.device_batch_size must be 1 or more, got {device_batch_size}; "
            f"null lets a device take its share of {share} at once"
        )
    at_once = next(size for size in range(min(device_batch_size or share, share), 0, -1) if share % size == 0)
    return at_once, share // at_once


class EpochBatches(Sampler[list[Key]]):
    """The keys of an epoch in batches, shared out among the processes of a distributed run and their accumulations.

    A step takes the next `batch_size` keys, whatever the number of processes and accumulations. A process has every
    `world_size`-th of them, in `accumulate` batches. Every sample is shown once: the last step takes what is left, in
    as many batches as that needs. All processes must make as many, so one that has no sample left for the last is
    given the step's first again: `share` says that it does not count.

    Args:
        sampler: the order of the epoch, the same in every process.
        batch_size: samples of a step, over all processes.
        rank: this process.
        world_size: how many processes there are.
        accumulate: batches of a process that make a step.
    """

    def __init__(
        self, sampler: EpochSampler, batch_size: int, rank: int = 0, world_size: int = 1, accumulate: int = 1
    ) -> None:
        self.sampler, self.batch_size, self.rank, self.world_size = sampler, batch_size, rank, world_size
        self.accumulate, self.at_once = accumulate, -(-batch_size // (world_size * accumulate))
        self.first = 0  # the batch to begin with; not 0 when a run goes on in the middle of an epoch

    def __len__(self) -> int:
        steps = -(-len(self.sampler) // self.batch_size)
        left = len(self.sampler) - (steps - 1) * self.batch_size
        return (steps - 1) * self.accumulate + -(-left // (self.world_size * self.at_once))

    def __iter__(self) -> Iterator[list[Key]]:
        keys = list(self.sampler)
        for number in range(self.first, len(self)):
            step, places = self._places(number)
            yield [keys[place] for place in places or step[:1]]

    def share(self, number: int) -> float:
        """Which part of its step's samples a batch of this process has: what its mean loss weighs."""
        step, places = self._places(number)
        return len(places) / len(step)

    def _places(self, number: int) -> tuple[range, range]:
        """Where in the epoch's order a batch's step and its own samples are."""
        begin, turn = number // self.accumulate * self.batch_size, number % self.accumulate
        step = range(begin, min(begin + self.batch_size, len(self.sampler)))
        return step, step[self.rank :: self.world_size][turn * self.at_once : (turn + 1) * self.at_once]


def cover(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A square part of an image at a random place and zoom, its aspect ratio kept: (H, W, 3) -> (size, size, 3)."""
    height, width = image.shape[:2]
    side = round(min(height, width) * rng.uniform(0.6, 1.0))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    part = image[top : top + side, left : left + side]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return _shrink(np.ascontiguousarray(part), (size, size))


def _place(
    premultiplied: np.ndarray,
    alpha: np.ndarray,
    size: int,
    image_type: ImageType,
    fill: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    height, width = alpha.shape
    if image_type is ImageType.NS:
        both = cover(np.dstack([premultiplied, alpha]), size, rng)
        return np.ascontiguousarray(both[..., :3]), np.ascontiguousarray(both[..., 3])
    zoom = size * rng.uniform(*fill) / max(height, width)
    new = max(1, round(width * zoom)), max(1, round(height * zoom))
    colour, matte = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    top, left = rng.integers(size - new[1] + 1), rng.integers(size - new[0] + 1)
    place = slice(top, top + new[1]), slice(left, left + new[0])
    colour[place], matte[place] = _shrink(premultiplied, new), _shrink(alpha, new)
    return colour, matte


def _window(alpha: np.ndarray, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Where to crop: a square around a random transition pixel, no larger than the scene, inside its frame."""
    height, width = alpha.shape
    side = min(side, height, width)
    soft = np.flatnonzero((alpha > 0) & (alpha < 255))
    y, x = divmod(int(soft[rng.integers(len(soft))]), width) if len(soft) else (height // 2, width // 2)
    top, left = np.clip(y - side // 2, 0, height - side), np.clip(x - side // 2, 0, width - side)
    return slice(top, top + side), slice(left, left + side)


def _shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to (width, height); averages areas on the way down, so nothing aliases."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    smaller = image.shape[0] * image.shape[1] > size[0] * size[1]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))


def _premultiplied(foreground: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.multiply(foreground, cv2.merge([alpha] * 3), scale=1 / 255))


def _straight(premultiplied: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Straight colour from premultiplied; black where alpha is 0."""
    return np.asarray(cv2.divide(premultiplied, cv2.merge([alpha] * 3), scale=255))


@lru_cache(maxsize=4096)
def _cutout(entry: Entry, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied colour and alpha of an entry, at no more than `keep` pixels a side."""
    colour, alpha = read_pair(entry)
    return _limited(_premultiplied(colour, alpha), keep), _limited(alpha, keep)


@lru_cache(maxsize=1024)
def _background(path: Path, keep: int) -> np.ndarray:
    return _limited(read_image(path), keep)


def _limited(image: np.ndarray, side: int) -> np.ndarray:
    height, width = image.shape[:2]
    zoom = side / max(height, width)
    return image if zoom >= 1 else _shrink(image, (max(1, round(width * zoom)), max(1, round(height * zoom))))


def _chw(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
