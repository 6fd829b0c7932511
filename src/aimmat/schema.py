"""The words of automatic matting: types, categories, and what a sample, a batch, a prediction and a result row are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple, NotRequired, TypedDict

if TYPE_CHECKING:  # a command that only names things should not wait for torch
    import numpy as np
    from torch import Tensor

# Where the paper and the released AIM code disagree and weights or figures depend on it: what the paper says, or what
# the release computes. One word for all of it.
Protocol = Literal["paper", "release"]
PROTOCOLS: tuple[Protocol, ...] = ("paper", "release")


class ImageType(StrEnum):
    """How a foreground covers its picture (paper, section 1)."""

    SO = "SO"  # salient opaque: a person, an animal
    STM = "STM"  # salient transparent or meticulous: a glass, a plastic bag
    NS = "NS"  # non-salient: smoke, a grid, raindrops

    @property
    def number(self) -> int:
        """Position in the order of definition: the value that a batch's `type` tensor holds."""
        return list(type(self)).index(self)


class Category(StrEnum):
    """What a foreground shows: the seven categories of AIM-500 (paper, section 4.1) and a rest."""

    PORTRAIT = "portrait"
    ANIMAL = "animal"
    TRANSPARENT = "transparent"
    PLANT = "plant"
    FURNITURE = "furniture"
    TOY = "toy"
    FRUIT = "fruit"
    OTHER = "other"  # not in AIM-500: smoke, fire, fences

    @property
    def number(self) -> int:
        """Position in the order of definition: the value that a batch's `category` tensor holds."""
        return list(type(self)).index(self)


class SemanticClass:
    """Class indices of the generalised trimap (paper, section 3.2)."""

    BACKGROUND = 0
    TRANSITION = 1
    FOREGROUND = 2


class Scene(NamedTuple):
    """One scene in layers, as a loader's worker holds it: NumPy arrays of uint8."""

    foreground: np.ndarray  # (H, W, 3) RGB; colour is valid where alpha > 0
    alpha: np.ndarray  # (H, W), 0 to 255
    background: np.ndarray  # (H, W, 3) RGB
    type: ImageType
    category: Category
    name: str  # says which files or which seed it came from


class Layers(TypedDict):
    """A batch of scenes as the workers deliver it: uint8, not yet composited."""

    foreground: Tensor  # (B, 3, H, W) uint8
    alpha: Tensor  # (B, 1, H, W) uint8
    background: Tensor  # (B, 3, H, W) uint8
    type: Tensor  # (B,) int64, ImageType.number
    category: Tensor  # (B,) int64, Category.number
    scale: Tensor  # (B,) float32, working pixels per pixel of the scene
    seed: Tensor  # (B,) int64, seed of what is drawn on the device
    name: list[str]
    trimap: NotRequired[Tensor]  # (B, 1, H, W) uint8 class index, the data set's own; else it is made from alpha
    skipped: NotRequired[list[str]]  # why other samples than these were left out, a line each


class Batch(TypedDict, total=False):
    """A batch of pictures with their truth, float in [0, 1], on the network's device."""

    image: Tensor  # (B, 3, H, W) RGB
    alpha: Tensor  # (B, 1, H, W)
    trimap: Tensor  # (B, 1, H, W) int64 class index, the traditional trimap
    semantic: Tensor  # (B, 1, H, W) int64 class index, the target of the semantic decoder
    foreground: Tensor  # (B, 3, H, W), composites only
    background: Tensor  # (B, 3, H, W), composites only
    type: Tensor  # (B,) int64, ImageType.number
    category: Tensor  # (B,) int64, Category.number
    name: list[str]


class Prediction(NamedTuple):
    """What a network says of a picture."""

    semantic: Tensor | None  # (B, 3, H, W) logits of background, transition, foreground
    matting: Tensor | None  # (B, 1, H, W) alpha in [0, 1], meant for the transition
    alpha: Tensor  # (B, 1, H, W) in [0, 1]
    parts: dict[str, Tensor] | None = None  # what else it says, by name: what the network's own loss reads


@dataclass(frozen=True)
class Row:
    """The result of one picture: a line of rows.csv."""

    name: str
    type: ImageType | None  # None where nobody said it
    category: Category | None
    scores: dict[str, float]  # "sad", "sad_transition", ... as aimmat.metrics.measure names them


class AimmatError(Exception):
    """A mistake a user can mend; commands print its one sentence and leave with exit code 1."""


def is_release(protocol: str) -> bool:
    """Whether the protocol is "release"; any other word than the two is refused.

    Raises:
        AimmatError: the word is neither "paper" nor "release".
    """
    if protocol not in PROTOCOLS:
        raise AimmatError(f"protocol must be {' or '.join(PROTOCOLS)}, got {protocol!r}")
    return protocol == "release"
