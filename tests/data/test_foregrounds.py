"""Foreground colours of photographs, estimated once."""

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from aimmat.data import Entry, read_manifest, write_manifest
from aimmat.data.composites import CompositeDataset
from aimmat.data.doctor import examine
from aimmat.data.foregrounds import estimate_foreground, foreground_path, with_foreground
from aimmat.images import read_image
from aimmat.prepare import main
from aimmat.schema import AimmatError

RED, GREEN = (200, 40, 30), (30, 160, 40)


@pytest.fixture
def photo(tmp_path):
    """A red disc with a soft edge before green."""
    y, x = np.mgrid[:80, :80]
    alpha = np.clip((32 - np.hypot(y - 40, x - 40)) / 6, 0, 1)
    mixed = alpha[..., None] * RED + (1 - alpha[..., None]) * GREEN
    Image.fromarray(np.rint(mixed).astype(np.uint8)).save(tmp_path / "disc.png")
    Image.fromarray(np.rint(255 * alpha).astype(np.uint8)).save(tmp_path / "disc_matte.png")
    return Entry(tmp_path / "disc.png", "photo", "train", tmp_path / "disc_matte.png")


@pytest.fixture
def listed(photo, tmp_path):
    """A manifest of the photograph, one with a damaged matte, and a background."""
    Image.new("RGB", (80, 90), "blue").save(tmp_path / "sea.png")
    (tmp_path / "bad.png").write_bytes(b"")
    entries = [photo, replace(photo, alpha=tmp_path / "bad.png"), Entry(tmp_path / "sea.png", "background", "train")]
    write_manifest(tmp_path / "list.csv", entries)
    return tmp_path / "list.csv"


@pytest.fixture
def _pymatting():
    pytest.importorskip("pymatting")


@pytest.mark.usefixtures("_pymatting")
def test_the_background_is_gone_from_the_colours(photo, tmp_path):
    done = with_foreground(photo, tmp_path / "colours")
    colours, alpha = read_image(done.foreground), read_image(photo.alpha)[..., 0]
    soft = (alpha > 25) & (alpha < 230)
    before = np.abs(read_image(photo.path)[soft].astype(int) - RED).mean()
    after = np.abs(colours[soft].astype(int) - RED).mean()
    assert before > 30
    assert after < before / 4
    assert [finding.kind for finding in examine(replace(photo, foreground=photo.path)).findings] == ["bleed"]
    assert not examine(done).findings


@pytest.mark.usefixtures("_pymatting")
def test_estimates_are_made_once_and_again_when_a_source_changes(photo, tmp_path, monkeypatch):
    folder = tmp_path / "colours"
    first = with_foreground(photo, folder)
    assert [path.name for path in folder.iterdir()] == [first.foreground.name]
    monkeypatch.setattr("aimmat.data.foregrounds.estimate_foreground", lambda image, alpha: 255 - image)
    assert with_foreground(photo, folder) == first
    os.utime(photo.alpha, ns=(1, 1))
    assert with_foreground(photo, folder).foreground != first.foreground


def test_a_full_disk_leaves_no_half_file(photo, tmp_path, monkeypatch):
    monkeypatch.setattr("aimmat.data.foregrounds.estimate_foreground", lambda image, alpha: image)

    def full(self, file, *arguments, **options):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(AimmatError, match=r"cannot write .*disc-.*png: No space left on device; make room"):
        with_foreground(photo, tmp_path / "colours")
    assert list((tmp_path / "colours").iterdir()) == []


def test_a_missing_file_is_named(photo, tmp_path):
    with pytest.raises(AimmatError, match=r"cannot read .*gone.png: No such file"):
        foreground_path(replace(photo, alpha=tmp_path / "gone.png"), tmp_path)


@pytest.mark.usefixtures("_pymatting")
def test_the_command_writes_a_manifest_that_can_be_trained_on(listed, tmp_path, capsys):
    folder = tmp_path / "out"
    call = ["foregrounds", str(listed), "-o", str(folder)]
    assert main(call) == 1  # one of two photographs is damaged
    said = capsys.readouterr()
    assert said.err.count("error: ") == 1
    assert f"cannot read {tmp_path / 'bad.png'}" in said.err
    assert "3 pictures, 1 of them with estimated foregrounds" in said.out
    good, bad, sea = read_manifest(folder / "manifest.csv")
    assert bad.foreground is None
    assert good.foreground.parent == folder
    sample = CompositeDataset([good, sea])[0]
    assert sample["foreground"].shape == (3, 320, 320)

    os.utime(good.foreground, ns=(1, 1))
    assert main(call) == 1
    assert good.foreground.stat().st_mtime_ns == 1  # it was there, and was not made again


@pytest.mark.usefixtures("_pymatting")
def test_data_without_such_photographs_is_refused(tmp_path, capsys):
    assert main(["foregrounds", "sample", "-o", str(tmp_path / "out")]) == 1
    assert "sample has no photograph with an alpha and without foreground colours" in capsys.readouterr().err


def test_without_the_extra_a_sentence_says_how_to_install_it(listed, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymatting", None)
    with pytest.raises(AimmatError, match=r"pip install 'aimmat\[fg\]'"):
        estimate_foreground(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))
    monkeypatch.setattr("aimmat.prepare.foregrounds.find_spec", lambda name: None)
    assert main(["foregrounds", str(listed), "-o", str(tmp_path / "out")]) == 1
    assert "foregrounds are estimated by pymatting, which is not installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
