"""Proposed types for alphas that nobody has labelled, to be corrected by hand."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from aimmat.data.errors import OPAQUE, VISIBLE
from aimmat.data.layouts import Entry
from aimmat.data.scenes import _limited
from aimmat.images import read_alpha
from aimmat.schema import ImageType

# Where a type is as likely as another, and over which range that turns, found by maximum likelihood with all types
# weighted alike on the 334 training foregrounds of the sample set: 0.464, 0.056, 0.097, 0.018. Said of other pictures:
#   python -m aimmat.prepare types sample --split test   64 of 68 right
#   python -m aimmat.prepare types synthetic             582 of 600 right
SOLID, SOLID_RANGE = 0.46, 0.06
WIDE, WIDE_RANGE = 0.10, 0.02

_SIDE = 256  # pixels, the longer side at which an alpha is looked at
_INSIDE = 9  # pixels of that, side of the square that must be opaque around a pixel


class Shares(NamedTuple):
    """How an alpha fills its picture."""

    empty: float  # of the picture
    soft: float
    opaque: float
    solid: float  # of what is visible: pixels that lie inside an opaque area
    wide: float  # of the picture's border: visible pixels


class Proposal(NamedTuple):
    """A type with the probability that is given to it, 1/3 to 1."""

    type: ImageType
    confidence: float


def shares(alpha: np.ndarray) -> Shares:
    """Measure an alpha.

    Args:
        alpha: (H, W) uint8.
    """
    visible, opaque = alpha >= VISIBLE, alpha > OPAQUE
    border = np.concatenate([visible[0], visible[-1], visible[:, 0], visible[:, -1]])
    return Shares(
        empty=float(1 - visible.mean()),
        soft=float(visible.mean() - opaque.mean()),
        opaque=float(opaque.mean()),
        solid=_solid(alpha, visible),
        wide=float(border.mean()),
    )


def _solid(alpha: np.ndarray, visible: np.ndarray) -> float:
    """Measured at one size of the foreground, so that neither resolution nor framing counts."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    if not len(rows):
        return 0.0
    small = _limited(np.ascontiguousarray(alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]), _SIDE)
    around = _INSIDE * max(small.shape) // _SIDE | 1  # odd, and less for a smaller picture
    inside = cv2.erode((small > OPAQUE).astype(np.uint8), np.ones((around, around), np.uint8))
    return float(inside.sum() / max(1, (small >= VISIBLE).sum()))


def propose(seen: Shares) -> Proposal:
    """The most probable type: SO where opaque areas make up the foreground, else NS where it runs out of the frame.

    >>> propose(Shares(empty=0.5, soft=0.02, opaque=0.48, solid=0.85, wide=0.0)).type
    <ImageType.SO: 'SO'>
    >>> propose(Shares(empty=0.0, soft=0.95, opaque=0.05, solid=0.0, wide=0.9)).type
    <ImageType.NS: 'NS'>
    """
    solid = 1 / (1 + np.exp((SOLID - seen.solid) / SOLID_RANGE))
    wide = 1 / (1 + np.exp((WIDE - seen.wide) / WIDE_RANGE))
    likely = {ImageType.SO: solid, ImageType.STM: (1 - solid) * (1 - wide), ImageType.NS: (1 - solid) * wide}
    best = max(likely, key=lambda kind: likely[kind])
    return Proposal(best, float(likely[best]))


def propose_entry(entry: Entry) -> Proposal:
    """The proposal for an entry's alpha.

    Raises:
        AimmatError: its alpha cannot be read.
    """
    return propose(shares(read_alpha(entry.alpha or entry.path)))
