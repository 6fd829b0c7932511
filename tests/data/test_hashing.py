"""Fingerprints of pictures, and the search for those that are alike."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from aimmat.data import read_manifest
from aimmat.data.hashing import BITS, alike, fingerprint, neighbours, over_grey
from aimmat.images import read_cutout, read_image


def distances(hashes):
    bits = np.unpackbits(hashes.view(np.uint8).reshape(len(hashes), 8), axis=1).astype(int)
    return (bits[:, None] != bits[None]).sum(axis=2)


@pytest.mark.parametrize("bits", [0, 1, BITS, BITS + 1])
def test_neighbours_are_the_pairs_that_a_comparison_of_all_finds(bits):
    rng = np.random.default_rng(bits)
    hashes = rng.integers(0, 2**64, 300, dtype=np.uint64)
    for i in range(100):  # copies of the first hundred, with so many bits flipped
        flipped = rng.choice(64, bits, replace=False).astype(np.uint64)
        hashes[200 + i] = hashes[i] ^ np.bitwise_or.reduce(np.uint64(1) << flipped, initial=np.uint64(0))
    expected = [(i, j) for i, j in np.argwhere(distances(hashes) <= BITS).tolist() if i < j]
    assert neighbours(hashes) == expected
    assert len(expected) == (100 if bits <= BITS else 0)


def test_of_equal_hashes_each_is_compared_with_the_first():
    assert neighbours(np.array([7, 7, 7], np.uint64)) == [(0, 1), (0, 2)]
    assert neighbours(np.array([], np.uint64)) == []


def test_ten_thousand_hashes_are_searched_in_less_than_two_seconds():
    hashes = np.random.default_rng(0).integers(0, 2**64, 10_000, dtype=np.uint64)  # 0.2 s on one core
    for many in (hashes, np.where(np.arange(10_000) % 2, hashes, 5).astype(np.uint64)):
        start = time.process_time()
        neighbours(many)
        assert time.process_time() - start < 2


def pictures():
    for entry in read_manifest()[::12]:
        yield over_grey(*read_cutout(entry.path)) if entry.role == "foreground" else read_image(entry.path)


def copies(picture):
    image = Image.fromarray(picture)
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=60)
    yield np.array(Image.open(stored))
    for zoom in (0.5, 2):
        yield np.array(image.resize((round(image.width * zoom), round(image.height * zoom)), Image.Resampling.LANCZOS))


def test_copies_are_alike_and_different_pictures_are_not():
    prints = [fingerprint(picture) for picture in pictures()]
    assert len(prints) == 40
    assert list(alike(prints)) == []
    for copied in zip(*(copies(picture) for picture in pictures()), strict=True):
        again = list(alike([*prints, *map(fingerprint, copied)]))
        assert {j - 40 for i, j in again} <= set(range(40))
        assert sum(j == i + 40 for i, j in again) >= 38  # 474 of 478 of the whole set as JPEG of quality 60


def test_flat_pictures_are_like_nothing():
    grey = np.full((40, 50, 3), 90, np.uint8)
    assert fingerprint(grey) is None
    assert list(alike([None, None])) == []
    assert list(alike([])) == []


def test_recoloured_pictures_differ():
    ramp = np.tile(np.arange(0, 128, 2, dtype=np.uint8), (64, 1))
    red, blue = (np.dstack([ramp if i == k else np.zeros_like(ramp) for k in range(3)]) for i in (0, 2))
    assert list(alike([fingerprint(red), fingerprint(blue)])) == []
    assert list(alike([fingerprint(red), fingerprint(red // 2 * 2)])) == [(0, 1)]


def test_a_cut_out_lies_over_grey():
    colour = np.full((600, 300, 3), 200, np.uint8)
    alpha = np.zeros((600, 300), np.uint8)
    alpha[:300] = 255
    seen = over_grey(colour, alpha)
    assert seen.shape == (256, 128, 3)
    assert seen[0, 0, 0] == 200
    assert seen[-1, 0, 0] == 127
