"""Training composites: the paper's recipe, crops where they should be, layers that are what the whole picture gives."""

import sys
from collections import Counter
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch.utils.data import DataLoader

from aimmat import prepare, score, train
from aimmat.data import Entry, EpochSampler, Key, photometric, read_dataset
from aimmat.data.cache import cached_pictures, write_cache
from aimmat.data.composites import CompositeDataset, cover_window, fitting, resized, window_around
from aimmat.functional import composite
from aimmat.schema import AimmatError, Category, ImageType
from aimmat.tables import read_rows
from aimmat.train import config_dir, stage_data

make_tree = run_path(str(Path(__file__).parent / "trees.py"))["make_tree"]
PLAIN = {"crop_sizes": [64], "input_size": 32, "flip": 0}


def picture(path, height, width, seed, mode="RGB"):
    """Smooth noise, so that neighbouring pixels are alike as in a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, len(mode)), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)


def soft_disc(height, width):
    y, x = np.mgrid[:height, :width]
    return np.rint(255 * np.clip((0.4 * height - np.hypot(y - height / 2, x - width / 2)) / 8, 0, 1)).astype(np.uint8)


@pytest.fixture
def entries(tmp_path):
    """Two discs of soft border of one set and one of another, five backgrounds of several sizes."""
    found = []
    for i, (dataset, kind) in enumerate((("dim", "SO"), ("dim", "STM"), ("am2k", "SO"))):
        picture(tmp_path / f"f{i}.png", 100, 150, i)
        Image.fromarray(soft_disc(100, 150)).save(tmp_path / f"a{i}.png")
        alpha = tmp_path / f"a{i}.png"
        path = tmp_path / f"f{i}.png"
        found.append(Entry(path, "foreground", "train", alpha, ImageType(kind), Category.TOY, dataset=dataset))
    for i, (height, width) in enumerate(((90, 120), (300, 200), (40, 40), (100, 150), (120, 400))):
        picture(tmp_path / f"b{i}.png", height, width, 10 + i)
        found.append(Entry(tmp_path / f"b{i}.png", "background", "train", dataset="bg20k"))
    return found


def same(one, other):
    return all(torch.equal(torch.as_tensor(one[k]), torch.as_tensor(other[k])) for k in one if k != "name")


def backgrounds_of(dataset, epoch):
    """By foreground, the backgrounds that a pass shows it on."""
    found = {}
    for index in range(len(dataset)):
        foreground, background = dataset[Key(epoch, index)]["name"].split("+")
        found.setdefault(foreground, []).append(background)
    return found


# the recipe


def test_a_pass_over_the_papers_sets_has_its_8710_composites(tmp_path):
    counts = {"dim": 431, "hatt": 591, "am2k": 1800, "bg20k": 3600}
    for name, count in counts.items():
        make_tree(name, tmp_path, {"train": count}, touch=True)
    entries = {name: read_dataset(name, tmp_path, "train") for name in counts}
    dataset = CompositeDataset(entries, repeats={"dim": 5, "hatt": 5, "am2k": 2})
    assert len(dataset) == 431 * 5 + 591 * 5 + 1800 * 2 == 8710
    assert dataset.recipe == "dim 431 x 5 + hatt 591 x 5 + am2k 1,800 x 2 = 8,710 composites over 3,600 backgrounds"
    print(dataset.recipe)


def test_a_pass_shows_a_foreground_so_often_as_its_set_says(entries):
    dataset = CompositeDataset(entries, repeats={"dim": 3}, **PLAIN)
    shown = Counter(name.split("+")[0] for name in (dataset[i]["name"] for i in range(len(dataset))))
    assert shown == {"f0": 3, "f1": 3, "f2": 1}


def test_a_foreground_is_shown_on_another_background_each_time(entries):
    dataset = CompositeDataset(entries, repeats=5, **PLAIN)
    for shown in backgrounds_of(dataset, 0).values():
        assert sorted(shown) == ["b0", "b1", "b2", "b3", "b4"]


def test_fresh_pairs_change_with_the_epoch_and_fixed_ones_do_not(entries):
    fresh, fixed = (CompositeDataset(entries, repeats=2, pairing=pairing, **PLAIN) for pairing in ("fresh", "fixed"))
    assert backgrounds_of(fresh, 0) != backgrounds_of(fresh, 1)
    assert backgrounds_of(fixed, 0) == backgrounds_of(fixed, 1)
    assert backgrounds_of(fixed, 0) != backgrounds_of(CompositeDataset(entries, seed=1, repeats=2, **PLAIN), 0)
    assert not same(fixed[Key(0, 1)], fixed[Key(1, 1)])  # the pair stays, the crop does not


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_backgrounds_than_composites_take_turns(entries, count):
    dataset = CompositeDataset(entries[: 3 + count], repeats=5, **PLAIN)
    shown = Counter(background for shown in backgrounds_of(dataset, 0).values() for background in shown)
    assert len(shown) == count
    assert max(shown.values()) - min(shown.values()) <= 1


# a sample is a pure function of its key


def test_a_sample_is_a_pure_function_of_its_key(entries):
    data = CompositeDataset(entries, "train", 5, crop_sizes=[32, 64], input_size=32, photometric=photometric())
    first = data[Key(3, 2)]
    data[Key(0, 1)]  # whatever was drawn in between
    again = CompositeDataset(entries, "train", 5, crop_sizes=[32, 64], input_size=32, photometric=photometric())
    assert same(first, again[Key(3, 2)])
    assert not same(first, data[Key(4, 2)])
    assert not same(first, CompositeDataset(entries, "train", 6, crop_sizes=[32, 64], input_size=32)[Key(3, 2)])


def test_the_cache_does_not_change_a_sample(tmp_path, entries):
    list(write_cache(cached_pictures(entries, tmp_path / "cache")))
    options = {"repeats": 2, "crop_sizes": [40, 64, 100], "input_size": 32}
    files, cache = CompositeDataset(entries, **options), CompositeDataset(entries, cache=tmp_path / "cache", **options)
    for index in range(len(files)):
        assert same(files[Key(1, index)], cache[Key(1, index)])


def test_samples_do_not_depend_on_the_number_of_workers(tmp_path, entries):
    list(write_cache(cached_pictures(entries, tmp_path / "cache")))
    data = CompositeDataset(entries, repeats=4, cache=tmp_path / "cache", **PLAIN)
    alone, many = (
        torch.cat(
            [batch["background"] for batch in DataLoader(data, 5, sampler=EpochSampler(len(data)), num_workers=n)]
        )
        for n in (0, 2)
    )
    assert torch.equal(alone, many)


# crops


def test_a_crop_is_centred_on_its_pixel_and_pushed_back_into_the_frame():
    assert window_around((50, 60), 20, (100, 150)) == (slice(40, 60), slice(50, 70))
    assert window_around((5, 149), 20, (100, 150)) == (slice(0, 20), slice(130, 150))
    assert window_around((99, 0), 100, (100, 150)) == (slice(0, 100), slice(0, 100))


@pytest.mark.parametrize(
    ("shape", "side", "fits"),
    [
        ((1280, 1280), 1280, 1280),
        ((1000, 1600), 640, 640),
        ((1000, 1600), 1280, 960),  # the release falls back to 320
        ((700, 5000), 960, 640),
        ((500, 900), 640, 500),
        ((300, 900), 640, 300),  # the release crops out of shape, or crashes at 320
    ],
)
def test_a_crop_that_does_not_fit_becomes_the_largest_that_does(shape, side, fits):
    assert fitting(side, [640, 960, 1280], shape) == fits


def test_the_scale_is_that_of_the_crop_that_fitted(entries):
    for sizes, scale in (([64], 32 / 64), ([640], 32 / 100), ([20], 32 / 20)):
        sample = CompositeDataset(entries, crop_sizes=sizes, input_size=32)[0]
        assert sample["scale"] == np.float32(scale)
        assert sample["foreground"].shape == sample["background"].shape == (3, 32, 32)


def test_crops_lie_around_the_transition_as_often_as_asked(entries):
    def share(transition):
        data = CompositeDataset(entries[:1] + entries[3:], crop_sizes=[8], input_size=8, transition=transition)
        alphas = torch.stack([data[Key(epoch, 0)]["alpha"] for epoch in range(200)]).flatten(1)
        return ((alphas > 0) & (alphas < 255)).any(1).float().mean().item()

    near = share(0)  # by chance
    assert share(1) == 1
    assert share(0.5) == pytest.approx((1 + near) / 2, abs=0.15)  # four standard errors of one half
    assert near < 0.6


def test_a_foreground_without_a_transition_is_cropped_anywhere(tmp_path, entries):
    Image.fromarray(np.where(soft_disc(100, 150) > 127, np.uint8(255), np.uint8(0))).save(entries[0].alpha)
    data = CompositeDataset(entries[:1] + entries[3:], crop_sizes=[40], input_size=40, flip=0, transition=1)
    crops = {data[Key(epoch, 0)]["foreground"].numpy().tobytes() for epoch in range(10)}
    assert len(crops) > 5


def test_a_sample_of_320_pixels_comes_from_a_smaller_foreground(tmp_path, entries):
    sample = CompositeDataset(entries)[0]
    assert sample["foreground"].shape == (3, 320, 320)
    assert sample["scale"] == np.float32(320 / 100)


def test_a_tiny_foreground_is_refused_with_its_name(tmp_path, entries):
    Image.new("RGBA", (20, 30), (9, 9, 9, 99)).save(tmp_path / "tiny.png")
    data = CompositeDataset([Entry(tmp_path / "tiny.png", "foreground", "train"), *entries[3:]])
    with pytest.raises(AimmatError, match=r"tiny.png is 20 x 30 pixels; a foreground must have 32 a side"):
        data[0]


# layers


def test_crop_first_gives_what_the_whole_composite_gives(entries):
    # over one colour, resizing and compositing may change places
    Image.new("RGB", (60, 60), (30, 90, 200)).save(entries[3].path)
    data = CompositeDataset(entries[:1] + entries[3:4], crop_sizes=[64], input_size=32, flip=0, transition=1)
    sample = data[0]
    layers = [sample[name][None].float() / 255 for name in ("foreground", "background", "alpha")]
    ours = composite(*layers)[0].permute(1, 2, 0).numpy() * 255
    with Image.open(entries[0].path) as colour, Image.open(entries[0].alpha) as matte:
        alpha = np.asarray(matte)[..., None] / 255
        whole = alpha * np.asarray(colour) + (1 - alpha) * np.array([30, 90, 200])
    blocks = np.lib.stride_tricks.sliding_window_view(whole, (64, 64), (0, 1))  # every crop there is
    halves = blocks.reshape(*blocks.shape[:3], 32, 2, 32, 2).mean((4, 6)).transpose(0, 1, 3, 4, 2)
    apart = np.abs(halves - ours).max((2, 3, 4))
    assert apart.min() < 2  # roundings: premultiplied colour, its mean, alpha's mean, the quotient of the two


def test_colours_do_not_bleed_into_soft_edges(tmp_path, entries):
    red = np.zeros((100, 150, 3), np.uint8)
    red[soft_disc(100, 150) > 0] = (200, 0, 0)  # black where nothing is seen
    Image.fromarray(red).save(entries[0].path)
    sample = CompositeDataset(entries[:1] + entries[3:], crop_sizes=[96], input_size=32, transition=1)[0]
    soft = (sample["alpha"][0] > 32).numpy()
    # premultiplied colour of 8 bits at alpha 32 is known to 0.5 / 32 * 255 = 4 levels, its mean adds as much
    assert np.abs(sample["foreground"].numpy()[:, soft].T.astype(int) - (200, 0, 0)).max() <= 8


def test_alpha_is_interpolated_and_not_picked(tmp_path, entries):
    stripes = np.zeros((100, 150), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(entries[0].alpha)
    sample = CompositeDataset(entries[:1] + entries[3:], **PLAIN)[0]
    assert ((sample["alpha"] > 126) & (sample["alpha"] < 129)).all()


def test_a_mirrored_sample_is_mirrored_in_all_its_layers(entries):
    plain, mirrored = (CompositeDataset(entries, **PLAIN | {"flip": flip})[0] for flip in (0, 1))
    for name in ("foreground", "background", "alpha"):
        assert torch.equal(plain[name].flip(-1), mirrored[name])
    assert not torch.equal(plain["background"], mirrored["background"])


def test_each_layer_has_colour_changes_of_its_own_and_alpha_none(entries):
    for entry in entries:
        Image.new("RGB", (150, 100), (90, 120, 150)).save(entry.path)
    plain, changed = (CompositeDataset(entries, photometric=change, **PLAIN) for change in (None, photometric()))
    apart = 0
    for epoch in range(8):
        one, other = plain[Key(epoch, 0)], changed[Key(epoch, 0)]
        assert torch.equal(one["alpha"], other["alpha"])
        inside = one["alpha"][0] == 255
        assert torch.equal(one["foreground"][:, inside], one["background"][:, inside])
        apart += not torch.equal(other["foreground"][:, inside], other["background"][:, inside])
    assert apart > 4


def test_masks_are_binary_and_salient(entries):
    data = CompositeDataset(entries, binary=True, **PLAIN)
    for index in range(3):
        assert set(data[index]["alpha"].unique().tolist()) <= {0, 255}
        assert data[index]["type"] == ImageType.SO.number


def test_a_photo_lends_the_colours_of_its_foreground(tmp_path, entries):
    Image.new("RGB", (150, 100), (200, 0, 0)).save(tmp_path / "given.png")
    photo = Entry(entries[0].path, "photo", "train", entries[0].alpha, foreground=tmp_path / "given.png")
    sample = CompositeDataset([photo, *entries[3:]], crop_sizes=[90], input_size=90)[0]
    solid = (sample["alpha"][0] == 255).numpy()
    assert solid.any()
    assert (sample["foreground"].numpy()[:, solid].T == (200, 0, 0)).all()


# backgrounds


@pytest.mark.parametrize("shape", [(90, 120), (300, 200), (40, 40), (30, 1200), (1200, 30), (1, 1)])
def test_a_background_covers_the_frame_and_keeps_its_aspect(shape):
    image = np.zeros((*shape, 3), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(50):
        top, left = rng.integers(0, 36), rng.integers(0, 86)
        part = cover_window(image, (100, 150), (slice(top, top + 64), slice(left, left + 64)), rng)
        side = max(1, round(64 * min(shape[0] / 100, shape[1] / 150)))
        assert part.shape == (side, side, 3)


@pytest.mark.parametrize("zoom", [1, 2, 3])
def test_of_a_background_as_wide_as_the_frame_the_part_behind_is_taken(zoom):
    image = np.random.default_rng(0).integers(0, 256, (100 * zoom, 150 * zoom, 3), dtype=np.uint8)
    part = cover_window(image, (100, 150), (slice(20, 84), slice(70, 134)), np.random.default_rng(1))
    np.testing.assert_array_equal(part, image[20 * zoom : 84 * zoom, 70 * zoom : 134 * zoom])


def test_the_free_side_of_a_background_is_drawn():
    columns = np.broadcast_to(np.arange(1000)[None, :, None], (100, 1000, 3))
    rng = np.random.default_rng(0)
    lefts = [int(cover_window(columns, (100, 100), (slice(0, 50), slice(50, 100)), rng)[0, 0, 0]) for _ in range(200)]
    assert 50 <= min(lefts) < 100
    assert 900 < max(lefts) <= 950


def test_of_a_panorama_the_part_behind_the_crop_is_read(tmp_path, entries):
    Image.new("RGB", (12000, 500), (1, 2, 3)).save(tmp_path / "wide.png")
    wide = Entry(tmp_path / "wide.png", "background", "train")
    list(write_cache(cached_pictures([*entries[:1], wide], tmp_path / "cache")))
    for cache in (None, tmp_path / "cache"):
        sample = CompositeDataset([*entries[:1], wide], cache=cache, **PLAIN)[0]
        assert torch.equal(
            sample["background"].flatten(1).unique(dim=1).T, torch.tensor([[1, 2, 3]], dtype=torch.uint8)
        )


@pytest.mark.parametrize("side", [20, 32, 40, 64, 75, 96, 129])
def test_resizing_keeps_means_and_ramps(side):
    ramp = np.broadcast_to(np.linspace(0, 255, side)[None, :, None], (side, side, 3)).round().astype(np.uint8)
    small = resized(ramp, 32)
    assert small.shape == (32, 32, 3)
    expected = (np.arange(32) + 0.5) * side / 32 - 0.5
    # what is left over by a whole factor, at most one column in 32, is cut off; the rest is rounding
    np.testing.assert_allclose(small[0, 1:-1, 0], expected[1:-1].clip(0, side - 1) * 255 / (side - 1), atol=255 / 32)


# what is refused


@pytest.mark.parametrize(
    ("keep", "options", "says"),
    [
        (slice(3), {}, r"the train split has no background"),
        (slice(3, None), {}, r"the train split has no foreground"),
        (slice(None), {"types": ["NS"]}, r"no foreground of type NS"),
        (slice(None), {"split": "val"}, r"the val split has no foreground"),
        (slice(None), {"pairing": "random"}, r"pairing must be fresh or fixed, got 'random'"),
    ],
)
def test_what_makes_no_composites_is_refused(entries, keep, options, says):
    with pytest.raises(AimmatError, match=says):
        CompositeDataset(entries[keep], **options)


def test_a_photo_without_its_foregrounds_colours_is_refused(entries):
    bare = [Entry(entry.path, "photo", "train", entry.alpha) for entry in entries[:2]]
    with pytest.raises(AimmatError, match=r"f0.png and 1 more are photographs without the colours"):
        CompositeDataset([*bare, *entries])


# the configs


def composed(*overrides):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", ["~experiment", *overrides])


def test_the_papers_config_has_the_papers_sizes():
    train = composed("data=paper").data.train
    assert train.crop_sizes == [640, 960, 1280]
    assert train.input_size == 320
    assert train.repeats == {"dim": 5, "hatt": 5, "am2k": 2}
    assert composed("data=paper").data.batch_size == 16


def test_the_papers_first_stage_is_duts_and_nothing_of_the_composites():
    config = composed("data=paper", "stage@stage.saliency=duts", "duts.train.flip=0.25")
    data = stage_data(config, "saliency")
    assert data.train == composed("data=duts", "data.train.flip=0.25").data.train
    assert data.compose.trimap_kernel == 10
    assert data.compose.representation == "trimap"
    assert stage_data(config, "matting").train == config.data.train


@pytest.mark.parametrize("variant", ["archive", "release"])
def test_from_the_unpacked_archives_to_a_tested_network_with_no_path_but_their_folder(
    tmp_path, monkeypatch, capsys, variant
):
    monkeypatch.chdir(tmp_path)
    names = ["dim", "hatt", "am2k", "bg20k", "duts", "aim500"]
    for name in names:
        make_tree(name, tmp_path / "sets", {"train": 3, "val": 1, "test": 2}, variant)
    assert prepare.main(["layout", *names, "--root", "sets"]) == 0
    assert "3 x 5 + 3 x 5 + 3 x 2 = 36 here" in capsys.readouterr().out
    assert prepare.main(["check", *names, "--root", "sets", "--jobs", "1"]) == 0
    assert ": 0 errors, 0 warnings, 0 notes" in capsys.readouterr().out
    assert prepare.main(["cache", *names[:4], "--root", "sets", "-o", "cache", "--jobs", "1"]) == 0
    small = ["data.batch_size=36", "data.train.crop_sizes=[32,48]", "data.train.input_size=32", "data.num_workers=0"]
    small += ["duts.batch_size=3", "duts.train.input_size=32", "model.width=0.0625", "trainer.accelerator=cpu"]
    small += ["trainer.max_epochs=1", "trainer.log_every_n_steps=1", "logger=none", "constants=false", "mattes=true"]
    call = ["train", "~experiment", "data=paper", "stage@stage.saliency=duts", *small]
    monkeypatch.setattr(sys, "argv", [*call, "paths.data_dir=sets", "data.train.cache=cache", "hydra.run.dir=out"])
    assert train.main() == 0
    out = capsys.readouterr().out
    assert "stage saliency: 1 epochs of 1 steps" in out
    assert "stage matting: dim 3 x 5 + hatt 3 x 5 + am2k 3 x 2 = 36 composites over 3 backgrounds\n" in out
    assert "stage matting: 1 epochs of 1 steps" in out
    # the regions are those of the set's own trimaps: the saved mattes score the same over them
    trimaps = ["--trimaps", "sets/AIM-500/trimap"]
    assert score.main(["out/mattes", "sets/AIM-500/mask", *trimaps, "--jobs", "1", "-o", "scored"]) == 0
    ours, again = (read_rows(Path(folder) / "rows.csv") for folder in ("out", "scored"))
    assert [row.name for row in ours] == [row.name for row in again] == ["aim500_test_00000", "aim500_test_00001"]
    for row, other in zip(ours, again, strict=True):
        for name in ("sad", "sad_transition", "sad_foreground", "sad_background"):
            # 8 bits round each of 48 x 64 pixels by at most half a level
            assert row.scores[name] == pytest.approx(other.scores[name], abs=48 * 64 / 510 / 1000)
        assert other.scores["sad_transition"] > 0.05
