"""Files that cannot be used: one sentence for each, and going on without them."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from aimmat.data import CutoutScenes, Entry, Key, SceneDataset
from aimmat.data.errors import SkipErrors, faults, is_premultiplied, read_pair
from aimmat.functional.batches import compose
from aimmat.lit import MattingDataModule
from aimmat.schema import AimmatError

cutout = run_path(str(Path(__file__).with_name("battery.py")))["cutout"]


@pytest.fixture
def entries(tmp_path):
    """Six cut-outs, of which number 2 is empty and number 4 damaged, and a background."""
    found = []
    for number in range(6):
        colour, alpha = cutout(number)
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.dstack([colour, alpha * (number != 2)])).save(path)
        found.append(Entry(path, "foreground", "train"))
    found[4].path.write_bytes(found[4].path.read_bytes()[:-500])
    Image.new("RGB", (96, 80), "blue").save(tmp_path / "sea.png")
    return [*found, Entry(tmp_path / "sea.png", "background", "train")]


def scenes(entries):
    return SceneDataset(CutoutScenes(entries, "train", 48), seed=3, crop_sizes=[32], input_size=32)


def test_a_pair_is_read_as_it_is_stored_and_a_photo_also_with_its_foreground(tmp_path):
    colour, alpha = cutout(1)
    for name, pixels in (("photo.png", colour), ("matte.png", alpha), ("clean.png", 255 - colour)):
        Image.fromarray(pixels).save(tmp_path / name)
    entry = Entry(tmp_path / "photo.png", "photo", "train", tmp_path / "matte.png", foreground=tmp_path / "clean.png")
    for photo, expected in ((True, colour), (False, 255 - colour)):
        read, matte = read_pair(entry, photo)
        np.testing.assert_array_equal(read, expected)
        np.testing.assert_array_equal(matte, alpha)


def test_a_small_photograph_can_be_tested_on_and_not_trained_on(tmp_path):
    colour, alpha = (layer[32:62, 32:62] for layer in cutout(1))
    Image.fromarray(colour).save(tmp_path / "photo.png")
    Image.fromarray(alpha).save(tmp_path / "matte.png")
    entry = Entry(tmp_path / "photo.png", "photo", "test", tmp_path / "matte.png")
    assert read_pair(entry, photo=True)[1].shape == (30, 30)
    with pytest.raises(AimmatError, match=r"photo.png is 30 x 30 pixels; a foreground must have 32 a side"):
        read_pair(entry)


def test_several_faults_of_one_file_are_all_named():
    entry = Entry(Path("a.png"), "foreground", "train")
    found = dict(faults(entry, np.zeros((8, 9, 3), np.uint8), np.full((8, 9), 255, np.uint8)))
    assert list(found) == ["small", "full"]
    assert all("\n" not in sentence and "a.png" in sentence for sentence in found.values())


def test_dark_foregrounds_are_not_taken_for_premultiplied_ones():
    alpha = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    dark, bright = (np.full((64, 256, 3), level, np.uint8) for level in (16, 120))
    share = alpha[..., None] / 255
    assert not is_premultiplied(dark, alpha)
    assert not is_premultiplied(bright, alpha)
    assert is_premultiplied(np.rint(bright * share).astype(np.uint8), alpha)


def test_a_bad_file_stops_a_training_by_default(entries):
    data = MattingDataModule(scenes(entries), None, None, compose)
    with pytest.raises(AimmatError, match=r"2.png is empty"):
        data.train[2]
    with pytest.raises(AimmatError, match=r"data.on_error must be stop or skip, got 'ignore'"):
        MattingDataModule(scenes(entries), None, None, compose, on_error="ignore")


def same(one, other):
    return all(
        torch.equal(torch.as_tensor(one[k]), torch.as_tensor(other[k])) for k in one if k not in ("name", "skipped")
    )


def test_another_sample_takes_the_place_of_a_bad_one_and_of_no_other(entries):
    bare, data = scenes(entries), SkipErrors(scenes(entries), seed=3)
    assert len(data) == len(bare) == 6
    for epoch in range(4):
        for index in range(6):
            sample = data[Key(epoch, index)]
            assert same(sample, data[Key(epoch, index)])
            if index in (2, 4):
                first = sample["skipped"].splitlines()[0]
                assert f"{index}.png" in first
                assert sample["name"] in [f"{other}+sea" for other in (0, 1, 3, 5)]
            else:
                assert sample["skipped"] == ""
                assert same(bare[Key(epoch, index)], sample)
    assert len({data[Key(epoch, 2)]["name"] for epoch in range(20)}) == 4  # not always the same one


def test_a_data_set_of_bad_files_stops_although_it_skips(entries):
    data = SkipErrors(scenes([entries[2], entries[-1]]))
    with pytest.raises(AimmatError, match=r"21 samples in a row cannot be used .* the last: .*2.png is empty"):
        data[0]


def test_what_is_no_fault_of_a_file_is_not_skipped():
    class Broken(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, key):
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        SkipErrors(Broken())[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_workers_skip_is_named_once_and_counted(entries, workers, capsys):
    data = MattingDataModule(scenes(entries), None, None, compose, batch_size=3, num_workers=workers, on_error="skip")
    for _ in range(2):
        for batch in data.train_dataloader():
            assert data.on_after_batch_transfer(batch, 0)["image"].shape == (3, 3, 32, 32)
    said = capsys.readouterr().err
    assert said.count("skipped: ") == 2
    assert said.count("2.png is empty") == said.count("4.png: the file is truncated") == 1
    assert min(data.skipped.values()) >= 2  # once or more in each of two epochs
    total = data.skipped.total()
    data.teardown("fit")
    assert f"skipped {total} samples for 2 faults" in capsys.readouterr().err
    data.teardown("test")
    assert capsys.readouterr().err == ""


def test_validation_skips_and_a_test_stops(entries, capsys):
    data = MattingDataModule(scenes(entries), scenes(entries), scenes(entries), compose, on_error="skip")
    names = [data.on_after_batch_transfer(batch, 0)["name"][0] for batch in data.val_dataloader()]
    assert len(names) == 6
    assert capsys.readouterr().err.count("skipped: ") == 2
    with pytest.raises(AimmatError, match=r"2.png is empty"):
        list(data.test_dataloader())


def test_workers_hand_the_sentence_over(entries):
    with pytest.raises(AimmatError, match=r"2.png is empty: its alpha is 0 at most, of 255; save its matte again"):
        list(DataLoader(scenes(entries), batch_size=2, num_workers=1))
