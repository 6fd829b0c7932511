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
    shared_out,
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
@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_step_has_the_same_samples_whatever_the_processes_and_accumulations(at_once, accumulate, processes):
    size = at_once * accumulate * processes
    for length in range(1, 3 * size + 2):
        order = EpochSampler(length, seed=2)
        parts = [EpochBatches(order, size, rank, processes, accumulate) for rank in range(processes)]
        batches = [list(part) for part in parts]
        assert {len(part) for part in parts} == {len(part) for part in batches} == {len(batches[0])}  # in step
        assert all(1 <= len(batch) <= at_once for part in batches for batch in part)
        alone = list(EpochBatches(order, size))
        assert sorted(key.sample for step in alone for key in step) == list(range(length))
        for step, keys in enumerate(alone):
            numbers = range(step * accumulate, min((step + 1) * accumulate, len(batches[0])))
            counted = [
                key
                for part, own in zip(parts, batches, strict=True)
                for n in numbers
                if part.share(n)
                for key in own[n]
            ]
            assert sorted(counted) == sorted(keys)  # each once
            assert sum(part.share(n) for part in parts for n in numbers) == pytest.approx(1)
            spare = [
                key
                for part, own in zip(parts, batches, strict=True)
                for n in numbers
                if not part.share(n)
                for key in own[n]
            ]
            assert set(spare) <= {keys[0]}


def test_a_batch_weighs_by_its_samples():
    # 5 samples in steps of 4 for two processes: 2 + 2, then 1 + the first of the step again, which does not count
    parts = [EpochBatches(EpochSampler(5, shuffle=False), 4, rank, 2) for rank in range(2)]
    assert [[key.sample for key in batch] for batch in parts[0]] == [[0, 2], [4]]
    assert [[key.sample for key in batch] for batch in parts[1]] == [[1, 3], [4]]
    assert [[part.share(number) for number in range(2)] for part in parts] == [[0.5, 1.0], [0.5, 0.0]]


@pytest.mark.parametrize(
    ("batch_size", "devices", "limit", "expected"),
    [
        (16, 1, None, (16, 1)),
        (16, 4, None, (4, 1)),
        (16, 2, 4, (4, 2)),
        (16, 2, 3, (2, 4)),
        (16, 1, 100, (16, 1)),
        (12, 1, 5, (4, 3)),
    ],
)
def test_the_batch_of_a_step_is_devices_times_at_once_times_accumulation(batch_size, devices, limit, expected):
    assert shared_out(batch_size, devices, limit) == expected
    assert devices * expected[0] * expected[1] == batch_size


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ((16, 3), r"data\.batch_size=16 .* 3 of them cannot have equal shares; set it to 15 or 18,"),
        ((2, 4), r"data\.batch_size=2 .* set it to 4, or take a number of devices that divides it"),
        (
            (16, 2, 0),
            r"data\.device_batch_size must be 1 or more, got 0; null lets a device take its share of 8 at once",
        ),
    ],
)
def test_what_cannot_be_shared_out_is_one_sentence(asked, says):
    with pytest.raises(AimmatError, match=says):
        shared_out(*asked)


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
