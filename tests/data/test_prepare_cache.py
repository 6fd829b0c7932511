"""The verb that fills the cache."""

import argparse
import shutil
from collections import namedtuple
from pathlib import Path
from runpy import run_path

import pytest

from aimmat.console import guarded
from aimmat.data import read_dataset
from aimmat.data.composites import CompositeDataset
from aimmat.prepare import cache

make_tree = run_path(str(Path(__file__).parent / "trees.py"))["make_tree"]
SETS = ("dim", "hatt", "am2k", "bg20k")


@pytest.fixture
def tree(tmp_path):
    for name in SETS:
        make_tree(name, tmp_path / "data", {"train": 2, "val": 1, "test": 1})
    return tmp_path / "data"


def prepare(*arguments):
    parser = argparse.ArgumentParser()
    cache.register(parser.add_subparsers())
    given = parser.parse_args(["cache", *map(str, arguments), "--jobs", "1"])
    return guarded(lambda: given.run(given))


def test_the_papers_training_sets_are_decoded_and_trained_on(tree, tmp_path, capsys):
    assert prepare(*SETS, "--root", tree, "-o", tmp_path / "cache") == 0
    text = capsys.readouterr().out
    assert "dim 2 x 5 + hatt 2 x 5 + am2k 2 x 2 = 24 composites over 2 backgrounds" in text
    assert "0 of 8 pictures are there; the others need 0.09 MB" in text  # 48 x 64 pixels: 6 x 4 and 2 x 3 bytes each
    assert f"data.train.cache={tmp_path / 'cache'}" in text
    entries = {name: read_dataset(name, tree, "train") for name in SETS}
    data = CompositeDataset(entries, crop_sizes=[32], input_size=32, cache=tmp_path / "cache")
    assert {data[i]["name"][:3] for i in range(len(data))} == {"dim", "hat", "am2"}


def test_a_second_call_finds_everything_there(tree, tmp_path, capsys):
    prepare(*SETS, "--root", tree, "-o", tmp_path / "cache")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.*")}
    capsys.readouterr()
    assert prepare(*SETS, "--root", tree, "-o", tmp_path / "cache") == 0
    assert "8 of 8 pictures are there" in capsys.readouterr().out
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.*")}


def test_verifying_makes_again_what_differs(tree, tmp_path, capsys):
    prepare("bg20k", "--root", tree, "-o", tmp_path / "cache")
    first = sorted((tmp_path / "cache").rglob("*.npy"))[0]
    whole = first.read_bytes()
    first.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert prepare("bg20k", "--root", tree, "-o", tmp_path / "cache") == 0
    assert first.read_bytes() != whole
    assert prepare("bg20k", "--root", tree, "-o", tmp_path / "cache", "--verify") == 0
    assert first.read_bytes() == whole
    assert "1 of 2 pictures are there" in capsys.readouterr().out


def test_another_split_is_decoded_when_asked_for(tree, tmp_path, capsys):
    assert prepare("bg20k", "--root", tree, "-o", tmp_path / "cache", "--split", "val") == 0
    assert "0 of 1 pictures are there" in capsys.readouterr().out


def test_a_disk_that_is_too_small_is_named_before_anything_is_decoded(tree, tmp_path, capsys, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 10**4, 10**4))
    assert prepare("bg20k", "--root", tree, "-o", tmp_path / "cache") == 1
    assert "has 0.01 MB free and the cache needs 0.02 MB more" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_picture_that_cannot_be_used_is_named_and_the_others_are_decoded(tree, tmp_path, capsys):
    broken = tree / "BG-20k" / "train" / "bg20k_train_00001.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    assert prepare("bg20k", "--root", tree, "-o", tmp_path / "cache") == 1
    assert f"error: cannot read {broken}" in capsys.readouterr().err
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bg20k", "--split", "test"], "the test split of bg20k has neither backgrounds nor foregrounds"),
        (["duts"], "was not found in"),
        (["bg20k", "--background-side", "0"], "--background-side must be 1 or more, got 0"),
    ],
)
def test_bad_arguments_end_in_one_sentence(tree, tmp_path, capsys, arguments, says):
    assert prepare(*arguments, "--root", tree, "-o", tmp_path / "cache") == 1
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
