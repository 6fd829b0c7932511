"""Samples are pure functions of their key, whatever worker makes them."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from aimmat.data import (
    CutoutScenes,
    Entry,
    EpochBatches,
    EpochSampler,
    Key,
    MixedScenes,
    SceneDataset,
    SyntheticScenes,
    geometric,
    photometric,
)
from aimmat.data.scenes import cover
from aimmat.schema import AimmatError, Category, ImageType, Scene

RED, BLUE = (200, 0, 0), (0, 0, 200)


@pytest.fixture
def entries(tmp_path):
    """Two red discs (SO, STM), a red veil over the whole picture (NS), two blue backgrounds."""
    y, x = np.mgrid[:64, :64]
    disc = np.clip(28 - np.hypot(y - 31.5, x - 31.5), 0, 1)
    found = []
    for name, image_type, alpha in (
        ("disc", "SO", disc),
        ("ring", "STM", disc * 0.5),
        ("veil", "NS", np.full((64, 64), 0.5)),
    ):
        rgba = np.dstack([np.broadcast_to(RED, (64, 64, 3)), np.rint(alpha * 255)]).astype(np.uint8)
        Image.fromarray(rgba).save(tmp_path / f"{name}.png")
        found.append(Entry(tmp_path / f"{name}.png", "foreground", "train", None, ImageType(image_type), Category.TOY))
    for name in ("sea", "sky"):
        Image.new("RGB", (96, 80), BLUE).save(tmp_path / f"{name}.png")
        found.append(Entry(tmp_path / f"{name}.png", "background", "train"))
    return found


def dataset(entries, **options):
    source = CutoutScenes(entries, "train", 64, repeats=8)
    return SceneDataset(source, 1, [48, 64], 32, geometric(), photometric(), **options)


def same(one, other):
    return all(torch.equal(torch.as_tensor(one[k]), torch.as_tensor(other[k])) for k in one if k != "name")


def test_a_sample_is_a_pure_function_of_its_key(entries):
    data = dataset(entries)
    first = data[Key(3, 5)]
    data[Key(0, 1)]  # whatever was drawn in between
    assert same(first, dataset(entries)[Key(3, 5)])
    assert not same(first, data[Key(4, 5)])


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_have_streams_of_their_own_which_change_every_epoch(entries, persistent):
    # albumentations 2.0.8 by itself gives both workers the same draws, and every epoch again
    data = dataset(entries)
    sampler = EpochSampler(len(data), shuffle=False)
    loader = DataLoader(data, 4, sampler=sampler, num_workers=2, persistent_workers=persistent)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append(torch.cat([batch["alpha"].flatten(1) for batch in loader]))
    disc = range(8)  # the same cut-out, again and again
    assert len({bytes(epochs[0][i].numpy()) for i in disc}) == len(disc)
    assert not any(torch.equal(epochs[0][i], epochs[1][i]) for i in disc)


def test_samples_do_not_depend_on_the_number_of_workers(entries):
    data = dataset(entries)
    alone, many = (
        torch.cat(
            [batch["foreground"] for batch in DataLoader(data, 5, sampler=EpochSampler(len(data)), num_workers=n)]
        )
        for n in (0, 2)
    )
    assert torch.equal(alone, many)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_an_epoch_shows_every_sample_once_whatever_the_number_of_processes(batch_size, processes):
    for length in range(processes, 42):
        order = EpochSampler(length, seed=2)
        parts = [EpochBatches(order, batch_size, rank, processes) for rank in range(processes)]
        batches = [list(part) for part in parts]
        assert sorted(key.sample for part in batches for batch in part for key in batch) == list(range(length))
        assert {len(part) for part in parts} == {len(part) for part in batches} == {len(batches[0])}  # in step
        assert all(batch for part in batches for batch in part)
        alone = list(EpochBatches(order, batch_size * processes))
        for number, step in enumerate(zip(*batches, strict=True)):
            sizes = [len(batch) for batch in step]
            assert max(sizes) <= batch_size + 1
            assert max(sizes) - min(sizes) <= 1
            if number < len(batches[0]) - 1:  # what is left at the end may have joined the last step
                assert sizes == [batch_size] * processes
                assert {key for batch in step for key in batch} == set(alone[number])


def test_more_processes_than_samples_are_refused():
    with pytest.raises(AimmatError, match=r"4 processes cannot share 3 training samples; set trainer\.devices=3"):
        EpochBatches(EpochSampler(3), 1, 0, 4)


def test_the_order_changes_with_the_epoch():
    sampler = EpochSampler(100)
    first = [key.sample for key in sampler]
    sampler.set_epoch(1)
    assert [key.sample for key in sampler] != first
    assert {key.epoch for key in sampler} == {1}


def test_layers_are_uint8_of_the_input_size(entries):
    sample = dataset(entries)[0]
    assert sample["foreground"].shape == sample["background"].shape == (3, 32, 32)
    assert sample["alpha"].shape == (1, 32, 32)
    assert {sample[name].dtype for name in ("foreground", "background", "alpha")} == {torch.uint8}
    assert sample["scale"] in (np.float32(32 / 48), np.float32(32 / 64))


def test_colours_do_not_bleed_into_soft_edges(entries):
    # the disc is one red: after placing, cropping and shrinking, every pixel that counts still is that red
    sample = SceneDataset(CutoutScenes(entries[:1] + entries[3:], "train", 64), 0, [48], 32)[0]
    soft = (sample["alpha"][0] > 32).numpy()
    red = sample["foreground"].numpy()[:, soft].T
    # 8-bit premultiplied colour at alpha 32 is known to 0.5 / 32 * 255 = 4 levels, shrinking adds as much
    assert np.abs(red.astype(int) - RED).max() <= 8


def test_non_salient_cutouts_cover_the_scene(entries):
    source = CutoutScenes(entries, "train", 64).only({ImageType.NS})
    assert len(source) == 1
    assert (source.draw(0, np.random.default_rng(0)).alpha == 128).all()


def test_a_type_that_no_cutout_has_is_named(entries):
    with pytest.raises(AimmatError, match=r"train split has no foreground of type SO; .*stages=\[matting\]"):
        CutoutScenes(entries[1:], "train", 64).only({ImageType.SO})


def test_salient_cutouts_keep_their_aspect_and_fill_as_asked(tmp_path):
    wide = np.full((40, 120, 4), 255, np.uint8)
    wide[0, 0, 3] = 0  # an alpha that is full everywhere is refused
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "back.png")
    entries = [Entry(tmp_path / "wide.png", "foreground", "train"), Entry(tmp_path / "back.png", "background", "train")]
    alpha = CutoutScenes(entries, "train", 90, fill=(0.5, 0.5)).draw(0, np.random.default_rng(0)).alpha
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    assert (len(rows), len(columns)) == (15, 45)


def test_saliency_samples_are_opaque_masks(entries):
    data = dataset(entries, types=["SO"], binary=True)
    assert len(data) == 8  # one cut-out of three, eight times
    sample = data[0]
    assert set(sample["alpha"].unique().tolist()) <= {0, 255}
    assert sample["type"] == ImageType.SO.number


def test_a_pass_repeats_cutouts_by_type(entries):
    source = CutoutScenes(entries, "train", 64, repeats={"SO": 1, "STM": 2, "NS": 3})
    drawn = [source.draw(i, np.random.default_rng(i)).type for i in range(len(source))]
    assert drawn == [ImageType.SO] + [ImageType.STM] * 2 + [ImageType.NS] * 3


class Fixed:
    """A source of one scene whose only transition pixel lies in a corner."""

    def __len__(self):
        return 1

    def draw(self, index, rng):
        alpha = np.zeros((40, 60), np.uint8)
        alpha[39, 59] = 100
        colour = np.zeros((40, 60, 3), np.uint8)
        return Scene(colour, alpha, colour, ImageType.SO, Category.TOY, "corner")


def test_a_crop_holds_the_transition_pixel_and_stays_inside_the_scene():
    alpha = SceneDataset(Fixed(), 0, [16])[0]["alpha"]
    assert alpha.shape == (1, 16, 16)
    assert alpha[0, 15, 15] == 100


def test_a_crop_larger_than_the_scene_is_as_large_as_it_can_be():
    assert SceneDataset(Fixed(), 0, [1280])[0]["alpha"].shape == (1, 40, 40)


def test_a_mixture_draws_its_share_from_the_extra_source(entries):
    mixture = MixedScenes(CutoutScenes(entries, "train", 64), SyntheticScenes(64, 10), share=0.5)
    names = [mixture.draw(0, np.random.default_rng(seed)).name for seed in range(40)]
    extra = sum("disc" not in name for name in names)
    assert 10 <= extra <= 30  # 20 expected, 3.2 deviations either side
    assert len(mixture.only({ImageType.SO})) == 1


def test_fixed_synthetic_scenes_do_not_depend_on_the_stream():
    source = SyntheticScenes(32, 6, first_seed=7, fixed=True)
    one, other = (source.draw(2, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.array_equal(one.alpha, other.alpha)
    assert {source.draw(i, np.random.default_rng(0)).type for i in range(3)} == set(ImageType)


def test_cover_keeps_the_aspect_ratio():
    stripes = np.zeros((50, 200, 3), np.uint8)
    stripes[:, ::2] = 255
    assert cover(stripes, 25, np.random.default_rng(0)).shape == (25, 25, 3)


def test_an_alpha_of_another_size_is_refused(tmp_path):
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    Image.new("L", (10, 12)).save(tmp_path / "b.png")
    Image.new("RGB", (10, 10)).save(tmp_path / "c.png")
    entries = [
        Entry(tmp_path / "a.png", "foreground", "train", alpha=tmp_path / "b.png"),
        Entry(tmp_path / "c.png", "background", "train"),
    ]
    with pytest.raises(AimmatError, match=r"a\.png is 10 x 10 pixels but its alpha .*b\.png is 10 x 12"):
        CutoutScenes(entries, "train", 64).draw(0, np.random.default_rng(0))


@pytest.mark.parametrize("role", ["foreground", "background"])
def test_a_split_without_pictures_is_refused(entries, role):
    with pytest.raises(AimmatError, match=f"the train split has no {role}"):
        CutoutScenes([entry for entry in entries if entry.role != role], "train", 64)
