"""Photographs as layers: what is composited of them is the photograph."""

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
