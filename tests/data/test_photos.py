"""Photographs as layers: what is composited of them is the photograph."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose as composed
from hydra import initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from torch.utils.data import default_collate

from aimmat.data import Entry, Key
from aimmat.data.doctor import examine
from aimmat.data.photos import PhotoDataset
from aimmat.functional.batches import compose
from aimmat.schema import AimmatError, Category, ImageType
from aimmat.train import config_dir


def matte(height, width):
    """Clear, soft and opaque from left to right."""
    return np.broadcast_to(np.clip(np.linspace(-200, 455, width), 0, 255).round().astype(np.uint8), (height, width))


@pytest.fixture
def photos(tmp_path):
    """Two photographs of different sizes, of the types SO and STM, each with its matte."""
    rng = np.random.default_rng(0)
    found = []
    for name, (height, width), kind in (("cat", (60, 90), "SO"), ("glass", (80, 70), "STM")):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
        Image.fromarray(matte(height, width)).save(tmp_path / f"{name}_matte.png")
        path, alpha = tmp_path / f"{name}.png", tmp_path / f"{name}_matte.png"
        found.append(Entry(path, "photo", "test", alpha, ImageType(kind), Category.TOY))
    return found


def test_a_photo_is_itself_at_its_own_size(photos):
    for entry, sample in zip(photos, PhotoDataset(photos), strict=False):
        with Image.open(entry.path) as image:
            picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert torch.equal(sample["foreground"], picture)
        assert torch.equal(sample["background"], picture)
        assert torch.equal(sample["alpha"][0], torch.from_numpy(matte(*picture.shape[1:]).copy()))
        assert (sample["type"], sample["category"]) == (entry.type.number, Category.TOY.number)
        assert (sample["scale"], sample["name"]) == (1, entry.stem)


def test_its_composite_is_the_photo(photos):
    batch = compose(default_collate([PhotoDataset(photos)[0]]), augment=False)
    expected = PhotoDataset(photos)[0]["foreground"][None].float() / 255
    torch.testing.assert_close(batch["image"], expected, rtol=0, atol=2e-7)  # two roundings of float32


@pytest.fixture
def with_trimaps(photos, tmp_path):
    """The photographs with trimaps that are not those of their mattes: clear, then 60, then 255 from the top."""
    found = []
    for entry in photos:
        with Image.open(entry.path) as image:
            levels = np.zeros((image.height, image.width), np.uint8)
        levels[20:], levels[40:] = 60, 255
        Image.fromarray(levels).save(tmp_path / f"{entry.stem}_trimap.png")
        found.append(replace(entry, trimap=tmp_path / f"{entry.stem}_trimap.png"))
    return found


def test_the_regions_are_those_of_the_data_sets_own_trimap(with_trimaps):
    for sample in (PhotoDataset(with_trimaps)[i] for i in range(2)):
        assert sample["trimap"].dtype == torch.uint8
        assert sample["trimap"].shape == sample["alpha"].shape
        rows = sample["trimap"][0, :, 0].tolist()
        assert rows == [0] * 20 + [1] * 20 + [2] * (len(rows) - 40)
        batch = compose(default_collate([sample]), augment=False)
        assert torch.equal(batch["trimap"][0], sample["trimap"].long())


def test_a_trimap_follows_its_picture_and_gains_no_class_but_transition(with_trimaps):
    plain, turned = (PhotoDataset(with_trimaps[:1], input_size=24, flip=flip)[0]["trimap"] for flip in (0, 1))
    assert torch.equal(plain.flip(-1), turned)
    # 60 rows become 24: rows 17.5 to 20 end in a row of clear ones, 37.5 to 40 in transition
    assert plain[0, :, 0].tolist() == [0] * 8 + [1] * 8 + [2] * 8
    edge = np.zeros((60, 90), np.uint8)
    edge[:, 31:] = 255  # no transition in the file; the 9th of 24 columns lies astride
    Image.fromarray(edge).save(with_trimaps[0].trimap)
    small = PhotoDataset(with_trimaps[:1], input_size=24)[0]["trimap"]
    assert small[0, 0].tolist() == [0] * 8 + [1] + [2] * 15


def test_regions_are_of_one_kind_where_some_photos_have_no_trimap(photos, with_trimaps):
    assert "trimap" not in PhotoDataset([with_trimaps[0], photos[1]])[0]
    assert "trimap" not in PhotoDataset(with_trimaps, binary=True)[0]


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.zeros((20, 30), np.uint8), r"cat_trimap.png is 30 x 20 pixels but the alpha .*cat_matte.png, is 90 x 60;"),
        (np.ones((60, 90), np.uint8), r"cat_trimap.png holds levels from 0 to 1; a trimap has 0, 128 and 255"),
    ],
)
def test_a_trimap_that_cannot_be_used_is_named(with_trimaps, pixels, says):
    Image.fromarray(pixels).save(with_trimaps[0].trimap)
    with pytest.raises(AimmatError, match=says):
        PhotoDataset(with_trimaps)[0]
    finding, *_ = examine(with_trimaps[0]).findings
    assert (finding.kind, finding.severity) == ("trimap", "error")
    assert re.search(says, finding.sentence)


def test_rssn_is_off_where_photos_train(photos):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = composed("train", ["~experiment", "data=duts"])
    # the type whose background is always blurred otherwise
    photos = [Entry(entry.path, "photo", "test", entry.alpha, ImageType.NS) for entry in photos]
    samples = [PhotoDataset(photos, input_size=32, seed=seed)[0] for seed in range(16)]
    layers = default_collate(samples)
    batch = instantiate(config.data.compose)(layers, augment=True)
    torch.testing.assert_close(batch["image"], layers["foreground"].float() / 255, rtol=0, atol=2e-7)


def test_saliency_pictures_are_resized_whatever_their_aspect(photos):
    sample = PhotoDataset(photos, input_size=32)[0]
    assert sample["foreground"].shape == (3, 32, 32)
    assert sample["alpha"].shape == (1, 32, 32)
    assert sample["scale"] == pytest.approx(32 / (60 * 90) ** 0.5)


def test_masks_are_binary_and_salient(photos):
    for sample in (PhotoDataset(photos, binary=True)[i] for i in range(2)):
        assert set(sample["alpha"].unique().tolist()) == {0, 255}
        assert sample["type"] == ImageType.SO.number


def test_half_of_the_samples_are_mirrored_in_picture_and_matte(photos):
    plain, sometimes = PhotoDataset(photos), PhotoDataset(photos, flip=0.5)
    mirrored = 0
    for epoch in range(40):
        sample = sometimes[Key(epoch, 0)]
        turned = not torch.equal(sample["alpha"], plain[0]["alpha"])
        for name in ("foreground", "background", "alpha"):
            expected = plain[0][name].flip(-1) if turned else plain[0][name]
            assert torch.equal(sample[name], expected)
        mirrored += turned
    assert 8 <= mirrored <= 32  # of 40 coins; beyond lie 1 in 10,000


def test_a_sample_is_a_pure_function_of_its_key(photos):
    one, other = (PhotoDataset(photos, flip=0.5, seed=3) for _ in range(2))
    for epoch in range(5):
        first = one[Key(epoch, 1)]
        other[Key(9, 0)]  # whatever was drawn in between
        again = other[Key(epoch, 1)]
        assert all(torch.equal(torch.as_tensor(first[k]), torch.as_tensor(again[k])) for k in first if k != "name")


def test_several_sets_come_by_name(photos):
    assert len(PhotoDataset({"one": photos[:1], "two": photos[1:]})) == 2


def test_pictures_of_other_roles_splits_and_types_are_left_out(photos):
    others = [Entry(Path("x.png"), "foreground", "test"), Entry(Path("y.png"), "photo", "train")]
    assert len(PhotoDataset([*others, *photos])) == 2
    assert [entry.stem for entry in PhotoDataset(photos, types=["STM"]).photos] == ["glass"]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"split": "val"}, "the val split has no photo; "), ({"types": ["NS"]}, "the test split has no photo of type NS")],
)
def test_a_split_without_photos_is_named(photos, options, says):
    with pytest.raises(AimmatError, match=says):
        PhotoDataset(photos, **options)


def test_a_matte_of_another_size_is_named(photos):
    Image.new("L", (20, 20)).save(photos[0].alpha)
    with pytest.raises(AimmatError, match=r"cat.png is 90 x 60 pixels but its alpha .*cat_matte.png is 20 x 20"):
        PhotoDataset(photos)[0]
