"""Crops of class folders: what is cut out, and that every file reads as RGB or is named."""

import re
from collections import Counter
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from PIL import Image

from aimmat.data import Entry, Key, read_dataset
from aimmat.data.classes import ClassDataset, _part
from aimmat.data.facts import listening
from aimmat.schema import AimmatError

MAKE_TREE = run_path(str(Path(__file__).parent / "trees.py"))["make_tree"]


@pytest.fixture
def entries(tmp_path):
    return read_dataset("imagenet", MAKE_TREE("imagenet", tmp_path))


def one(folder, pixels, mode="RGB", suffix="png"):
    """A single picture as a data set's entries."""
    path = folder / "n01440764" / f"fish.{suffix}"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return [Entry(path, "class", "train")]


def test_classes_are_numbered_in_the_order_of_their_folders(entries):
    train, val = ClassDataset(entries), ClassDataset(entries, "val")
    assert train.classes == val.classes == ("n01440764", "n01443537")
    assert train.recipe == "3 pictures of 2 classes"
    for data in (train, val):
        assert [data[i]["label"] for i in range(len(data))] == sorted(data[i]["label"] for i in range(len(data)))
        for entry, sample in zip(data.pictures, data, strict=False):
            assert train.classes[sample["label"]] == entry.path.parent.name
            assert sample["name"] == entry.stem
            assert (sample["image"].dtype, sample["image"].shape) == (torch.uint8, (3, 224, 224))


def test_the_centre_is_that_of_a_picture_whose_shorter_side_is_eight_sevenths(tmp_path):
    ramp = np.tile(np.arange(96, dtype=np.uint8)[None, :, None], (64, 1, 3))  # as large as its resized picture
    crop = ClassDataset(one(tmp_path, ramp), size=56)[0]["image"]
    assert torch.equal(crop, torch.from_numpy(ramp[4:60, 20:76].copy()).permute(2, 0, 1))  # 64 x 96 less 56 x 56
    half = ClassDataset(one(tmp_path, ramp), size=28)[0]["image"]  # from 32 x 48, its first column 10
    assert abs(half[0, 0, 0].item() - 20.5) <= 1  # pixels 20 and 21, rounded
    high = ClassDataset(one(tmp_path, ramp.transpose(1, 0, 2)), size=56)[0]["image"]
    assert torch.equal(high, crop.transpose(1, 2))


def test_a_random_part_is_resized_and_half_of_them_are_mirrored(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], (120, 1, 3))
    data = ClassDataset(one(tmp_path, ramp), size=32, augment=True)
    mirrored = 0
    for epoch in range(200):
        with listening() as told:
            crop = data[Key(epoch, 0)]["image"].float()
        _, left, _, width = told["window"]
        row = crop[0, 16]
        mirrored += int(row[0] > row[-1])
        # the mean of a ramp is its value in the middle; two roundings to whole levels, and borders that are cut
        assert row.mean().item() == pytest.approx((left + width / 2 - 0.5) * 255 / 199, abs=1.5)
    assert 75 <= mirrored <= 125  # of 200 fair coins; outside lie 4 of 10,000 seeds, and this one is fixed


def test_parts_cover_8_to_100_percent_in_shapes_from_3_to_4_to_4_to_3():
    rng = np.random.default_rng(0)
    shares, ratios = [], []
    for _ in range(2000):
        rows, columns = _part(300, 400, rng)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        assert 0 <= rows.start < rows.stop <= 300
        assert 0 <= columns.start < columns.stop <= 400
        shares.append(height * width / 120_000)
        ratios.append(width / height)
    # sides are whole pixels: 1 of 80 or more
    assert 0.08 <= min(shares) * 1.02 < 0.1
    assert 0.95 < max(shares) <= 1
    assert min(ratios) == pytest.approx(3 / 4, rel=0.02)
    assert max(ratios) == pytest.approx(4 / 3, rel=0.02)


@pytest.mark.parametrize(("size", "part"), [((10, 1000), (10, 13)), ((1000, 10), (13, 10))])
def test_of_a_long_picture_the_centre_is_taken(size, part):
    # 8 % of it, at 4 : 3, would be 33 pixels wide and 24 high: it never fits
    rows, columns = _part(*size, np.random.default_rng(0))
    assert (rows.stop - rows.start, columns.stop - columns.start) == part
    assert rows.start + rows.stop in (size[0], size[0] - 1)
    assert columns.start + columns.stop in (size[1], size[1] - 1)


def test_a_sample_depends_on_seed_epoch_and_index_alone(entries):
    one, other = (ClassDataset(entries, size=32, seed=7, augment=True) for _ in range(2))
    seen = Counter()
    for epoch in range(4):
        first = one[Key(epoch, 1)]
        other[Key(9, 0)]  # whatever was drawn in between
        assert torch.equal(first["image"], other[Key(epoch, 1)]["image"])
        seen[first["image"].numpy().tobytes()] += 1
    seen[ClassDataset(entries, size=32, seed=8, augment=True)[Key(0, 1)]["image"].numpy().tobytes()] += 1
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_read_as_rgb(tmp_path, mode):
    grey = np.full((40, 50, 3), 90, np.uint8)
    crop = ClassDataset(one(tmp_path, grey, mode, "jpeg"), size=32)[0]["image"]
    # a JPEG of one colour; Pillow writes CMYK as 255 - RGB without black, so it comes back within a level
    torch.testing.assert_close(crop, torch.full((3, 32, 32), 90, dtype=torch.uint8), rtol=0, atol=1)


def test_a_broken_jpeg_is_named(entries):
    path = entries[0].path
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(AimmatError, match=re.escape(f"cannot read {path}: the file is truncated or damaged")):
        ClassDataset(entries)[0]


def test_a_missing_folder_is_named_with_the_place_to_look(tmp_path):
    message = f"ImageNet, ILSVRC 2012 was looked for in {tmp_path} and no val pictures were found; "
    with pytest.raises(AimmatError, match=re.escape(message) + "python -m aimmat.prepare layout imagenet"):
        read_dataset("imagenet", MAKE_TREE("imagenet", tmp_path / "other") and tmp_path, split="val")


def test_pictures_of_other_roles_do_not_count():
    with pytest.raises(AimmatError, match=r"the val split has no picture in a folder of its class; .*layout imagenet"):
        ClassDataset([Entry(Path("a/b.png"), "photo", "val"), Entry(Path("a/c.png"), "class", "train")], "val")
