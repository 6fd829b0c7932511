"""Augmentations of layers before they are composited, by albumentations, seeded sample by sample."""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing albumentations asks the package index otherwise

import albumentations as A
import cv2
import numpy as np


def geometric(rotate: float = 15.0, scale: tuple[float, float] = (0.8, 1.2)) -> A.Compose:
    """Flip, rotation and scale of a foreground with its alpha.

    The alpha is interpolated linearly: albumentations' default for masks, nearest neighbour, would alias it. What comes
    into the frame from outside is empty, so the foreground must arrive premultiplied.

    Args:
        rotate: largest rotation, degrees.
        scale: range of the zoom, 1 keeps the size.
    """
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(rotate=(-rotate, rotate), scale=scale, interpolation=cv2.INTER_LINEAR, p=0.7),
        ],
        mask_interpolation=cv2.INTER_LINEAR,
        strict=True,
    )


def photometric(brightness: float = 0.2, contrast: float = 0.2, hue: int = 10, saturation: int = 25) -> A.Compose:
    """Colour changes of one layer; the two layers of a scene draw their own, before they are composited.

    Args:
        brightness: largest relative change.
        contrast: largest relative change.
        hue: largest shift, in OpenCV's half degrees.
        saturation: largest shift of 255.
    """
    return A.Compose(
        [
            A.RandomBrightnessContrast(brightness_limit=brightness, contrast_limit=contrast, p=0.5),
            A.HueSaturationValue(hue_shift_limit=hue, sat_shift_limit=saturation, val_shift_limit=0, p=0.5),
        ],
        strict=True,
    )


def seeded(compose: A.Compose, rng: np.random.Generator) -> A.Compose:
    """The same Compose with its random stream set from `rng`.

    albumentations 2.0.8 gives every worker the same stream and every epoch the same numbers; a stream that is set for
    each sample has neither fault, and the sample becomes a pure function of its seed.
    """
    compose.set_random_seed(int(rng.integers(2**31)))
    return compose
