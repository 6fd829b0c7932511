"""Weights from one layout to the other; the two tests at full size share one file of 221 MB."""

import os
import re
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory

import pytest
import torch

import aimmat
from aimmat import models
from aimmat.convert import main
from aimmat.weights import RELEASES, load_backbone, load_network, read_network, save_network
from aimmat.weights.released import to_aim

LAYOUT = run_path(str(Path(__file__).parent / "oracles" / "aim_layout.py"))


@pytest.fixture(scope="module")
def cache():
    """A cache with a released matting checkpoint of random weights, removed afterwards: it is large."""
    with TemporaryDirectory() as folder:
        content = {"state_dict": LAYOUT["fill"](LAYOUT["aim_shapes"]())}
        torch.save(content, Path(folder) / RELEASES["aim-matting"].file)
        yield Path(folder)


@pytest.fixture
def narrow(tmp_path):
    """A file of ours with a network that the released layout cannot hold."""
    card = {"model": {"name": "aimnet", "width": 0.125, "sa": False}, "run": "demo"}
    path = tmp_path / "model.safetensors"
    save_network(path, models.build(**card["model"]), card, {"resnet.fc.bias": torch.ones(3)})
    return path


def tensors(path):
    return torch.load(path, weights_only=True, mmap=True)


def test_a_released_checkpoint_comes_back_bit_by_bit(cache, capsys):
    theirs, ours, back = cache / RELEASES["aim-matting"].file, cache / "ours.safetensors", cache / "back.pth"
    assert main([str(theirs), str(ours)]) == main([str(ours), str(back)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{theirs}: 700 tensors, 216 of them aliases and 2 unused -> {ours}: ours",
        f"{ours}: 484 tensors, 0 of them aliases and 2 unused -> {back}: the released layout, which has no card",
    ]
    before, after = tensors(theirs), tensors(back)
    assert list(after) == ["state_dict"]
    before, after = before["state_dict"], after["state_dict"]
    assert list(after) == list(before)
    assert len(after) == 700
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        assert torch.equal(after[name], value), name
    assert after["encoder4.0.conv1.weight"].data_ptr() == after["resnet.layer4.0.conv1.weight"].data_ptr()
    assert back.stat().st_size < 1.01 * theirs.stat().st_size


def test_a_release_is_ready_to_use_by_its_name(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIMMAT_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    predictor = aimmat.load("aim-matting", device="cpu")
    assert predictor.strategy == aimmat.inference.Hybrid(1 / 4, 1 / 3, protocol="release")
    assert predictor.net.protocol == "release"

    assert main(["aim-matting", "r34.pth.tar", "--backbone"]) == 0
    assert capsys.readouterr().out == (
        "aim-matting: 700 tensors, 216 of them aliases and 2 unused -> r34.pth.tar: a bare ResNet-34\n"
    )
    released = tensors(cache / RELEASES["aim-matting"].file)["state_dict"]
    bare = tensors("r34.pth.tar")
    assert list(bare) == list(LAYOUT["resnet_shapes"]())
    assert all(torch.equal(value, released[f"resnet.{name}"]) for name, value in bare.items())

    stem = predictor.net.encoder.stem[0].weight.data
    for source in ("r34.pth.tar", "aim-matting"):
        stem.zero_()
        load_backbone(predictor.net, source, "r34_mp")
        assert torch.equal(stem, released["encoder0.0.weight"])
    Path("r34.pth.tar").unlink()

    trained_here = to_aim(predictor.net.to(memory_format=torch.channels_last))  # with no classifier
    assert list(trained_here) == list(released)
    assert not trained_here["resnet.fc.weight"].any()
    assert trained_here["resnet.fc.weight"].shape == (1000, 512)
    assert all(value.is_contiguous() for value in trained_here.values())


def test_ours_is_written_anew_with_all_that_it_holds(narrow, tmp_path):
    assert main([str(tmp_path), str(tmp_path / "new.safetensors")]) == 0
    before, after = read_network(narrow), read_network(tmp_path / "new.safetensors")
    assert after.card == before.card
    assert torch.equal(after.unused["resnet.fc.bias"], torch.ones(3))
    for name, value in before.net.state_dict().items():
        assert torch.equal(after.net.state_dict()[name], value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new.pth"], "the released layout holds the AimNet of width 1 with mp, se and sa on, this one has sa=false, "),
        (["new.pth.tar", "--backbone"], "this one has sa=false, width=0.125; write .safetensors instead"),
        (["new.ckpt"], "new.ckpt must end in .safetensors (ours) or .pth, .pt, .tar (the released code's)"),
        (["new.safetensors", "--backbone"], "new.safetensors must end in .pth, .pt, .tar (the released code's)"),
        (["model.safetensors"], "model.safetensors exists; --overwrite replaces it"),
    ],
)
def test_what_cannot_be_written_is_named_in_one_sentence(narrow, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(narrow.parent)
    assert main([str(narrow), *arguments]) == 1
    said = capsys.readouterr().err
    assert re.match(f"error: .*{re.escape(message)}.*\n$", said)
    assert os.listdir() == ["model.safetensors"]


def test_a_source_that_is_none_is_named(tmp_path, capsys):
    assert main([str(tmp_path / "none.pth"), str(tmp_path / "a.safetensors")]) == 1
    assert "none.pth: no such file or folder, nor a release" in capsys.readouterr().err


def test_an_existing_file_is_replaced_when_asked(narrow, capsys):
    assert main([str(narrow), str(narrow), "--overwrite"]) == 0
    assert load_network(narrow)[1]["run"] == "demo"
    assert "ours" in capsys.readouterr().out
