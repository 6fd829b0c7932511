"""Pictures that look the same: a fingerprint of 64 bits with a thumbnail, and the pairs that share one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from aimmat.data.scenes import _limited, _premultiplied

BITS = 8  # of 64 in which the hashes of one picture may differ
LIKENESS = 0.25  # by which their thumbnails may, relative to their contrast
FLAT = 1.0  # levels of contrast below which a picture shows nothing to compare

_SIDE, _LOW, _THUMB = 32, 8, 16  # pixels of the picture that is transformed; frequencies kept; pixels of the thumbnail


class Fingerprint(NamedTuple):
    """What a picture looks like from afar."""

    hash: int  # 64 bits
    thumb: bytes  # 16 x 16 x 3 uint8


def fingerprint(image: np.ndarray) -> Fingerprint | None:
    """The fingerprint of a picture; None if it is flat.

    Bit i of the hash says whether low frequency i of the grey picture is above the median, as perceptual hashes do.
    Resizing and recompression change a few bits.

    Args:
        image: (H, W, 3) uint8.

    Source:
        Thresholds were measured on the 478 pictures of the sample set, over mid-grey where they have an alpha, with 8
        copies of each: JPEG of quality 30, 60, 85; resized to 1/4, 1/2, 0.77, 2; to 1/3 and WebP of quality 50. Hash
        and thumbnail together find 98.2 % of the copies and none of the 114,003 pairs of different pictures, whose
        nearest thumbnails differ by 0.30.
    """
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    thumb = cv2.resize(small, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    if _centred(thumb[None]).std() < FLAT:
        return None
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    low = cv2.dct(grey.astype(np.float32))[:_LOW, :_LOW].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # the mean
    return Fingerprint(int.from_bytes(np.packbits(bits).tobytes()), thumb.tobytes())


def over_grey(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A cut-out laid over mid-grey, at no more than 256 pixels a side: what of it is fingerprinted.

    Args:
        colour: (H, W, 3) uint8, straight.
        alpha: (H, W) uint8.
    """
    small, matte = _limited(_premultiplied(colour, alpha), 256), _limited(alpha, 256)
    return np.asarray(small + (~matte[..., None] >> 1))


def alike(prints: Sequence[Fingerprint | None]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of pictures that look the same; of many that share a hash, each with the first.

    Args:
        prints: None is like nothing.
    """
    known = [index for index, one in enumerate(prints) if one is not None]
    hashes = np.array([one.hash for one in prints if one is not None], np.uint64)
    thumbs = np.frombuffer(b"".join(one.thumb for one in prints if one is not None), np.uint8)
    thumbs = thumbs.reshape(-1, _THUMB, _THUMB, 3)
    for i, j in neighbours(hashes):
        one, other = _centred(thumbs[[i, j]])
        if np.sqrt(np.mean((one - other) ** 2)) <= LIKENESS * np.sqrt(one.std() * other.std()):
            yield known[i], known[j]


def neighbours(hashes: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of hashes that differ in no more than `BITS` bits.

    Of 5 bands of the 64 bits, one has at most one of 8 or 9 bits that differ. So it is enough to compare hashes that
    are equal in a band when one of its bits is ignored: few of them, whatever the number of hashes.

    Args:
        hashes: (N,) uint64. Of hashes that are equal, each is compared with the first only.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    found = {(int(first[group]), index) for index, group in enumerate(inverse.tolist()) if first[group] != index}
    for band in np.array_split(np.arange(64), 5):
        for ignored in band:
            mask = np.uint64(sum(1 << int(bit) for bit in band if bit != ignored))
            order = np.argsort(unique & mask, kind="stable")
            keys = (unique & mask)[order]
            here = np.arange(len(order))
            step = 1
            while len(here := here[here < len(order) - step]):
                here = here[keys[here] == keys[here + step]]  # what is not equal to the next is not to one farther on
                one, other = order[here], order[here + step]
                close = _distance(unique[one], unique[other]) <= BITS
                pairs = np.sort(np.stack([first[one[close]], first[other[close]]], axis=1), axis=1)
                found.update(map(tuple, pairs.tolist()))
                step += 1
    return sorted(found)


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The number of bits in which hashes differ, (N,) uint64 each; counted in pairs of bits, then fours and eights."""
    bits = one ^ other
    bits = bits - (bits >> np.uint64(1) & np.uint64(0x5555555555555555))
    bits = (bits & np.uint64(0x3333333333333333)) + (bits >> np.uint64(2) & np.uint64(0x3333333333333333))
    bits = bits + (bits >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.asarray(bits * np.uint64(0x0101010101010101) >> np.uint64(56))


def _centred(thumbs: np.ndarray) -> np.ndarray:
    """Thumbnails (N, h, w, 3) without their mean colours."""
    values = thumbs.astype(np.float32)
    return np.asarray(values - values.mean(axis=(1, 2), keepdims=True))
