import re
from pathlib import Path
from runpy import run_path

import pytest
import torch
from safetensors.torch import save_file

from aimmat import models
from aimmat.schema import AimmatError
from aimmat.weights import RELEASES, load_backbone, save_network

LAYOUT = run_path(str(Path(__file__).parents[1] / "oracles" / "aim_layout.py"))
NARROW = (4, 4, 8, 16, 32)  # channels at width 1/16
MODEL = {"name": "aimnet", "width": 1 / 16}


@pytest.fixture
def net():
    return models.build(**MODEL)


@pytest.fixture
def resnet():
    """A ResNet-34 of narrow layers under the names that torchvision and timm share."""
    return LAYOUT["fill"](LAYOUT["resnet_shapes"](NARROW, classes=7))


def assert_filled(net, resnet):
    assert len(net.encoder.state_dict()) == len(resnet) - 2  # the classifier stays out
    assert torch.equal(net.encoder.stem[0].weight, resnet["conv1.weight"])
    assert torch.equal(net.encoder.stages[3][0].shortcut[1].running_var, resnet["layer4.0.downsample.1.running_var"])
    assert torch.equal(net.encoder.stages[2][5].second[0].weight, resnet["layer3.5.conv2.weight"])


@pytest.mark.parametrize("kind", ["r34_mp", "resnet34"])
@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".safetensors"])
def test_a_bare_resnet_fills_the_encoder_alone(tmp_path, net, resnet, kind, suffix):
    path = tmp_path / f"r34{suffix}"
    if suffix == ".safetensors":
        save_file(resnet, path)
    else:
        torch.save(resnet, path)
    before = net.semantic.head.weight.clone()
    load_backbone(net, path, kind)
    assert_filled(net, resnet)
    assert torch.equal(net.semantic.head.weight, before)


def test_old_files_of_data_parallel_training_are_taken(tmp_path, net, resnet):
    old = {f"module.{name}": value for name, value in resnet.items() if not name.endswith("num_batches_tracked")}
    torch.save({"state_dict": old, "epoch": 90}, tmp_path / "r34.pth", _use_new_zipfile_serialization=False)
    load_backbone(net, tmp_path / "r34.pth", "resnet34")
    assert_filled(net, resnet)
    assert net.encoder.stem[1].num_batches_tracked == 0


def test_a_release_is_taken_by_its_name(tmp_path, net, resnet, monkeypatch):
    monkeypatch.setenv("AIMMAT_CACHE", str(tmp_path))
    torch.save(resnet, tmp_path / RELEASES["aim-r34mp"].file)
    load_backbone(net, "aim-r34mp", "r34_mp")
    assert_filled(net, resnet)


@pytest.mark.parametrize(("mp", "kind", "other"), [(True, "r34_mp", "resnet34"), (False, "resnet34", "r34_mp")])
def test_the_encoder_of_one_of_our_files_knows_its_kind(tmp_path, net, mp, kind, other):
    trained = models.build(**MODEL, mp=mp)
    save_network(tmp_path / "model.safetensors", trained, {"model": MODEL | {"mp": mp}})
    load_backbone(net, tmp_path, kind)
    for name, value in trained.encoder.state_dict().items():
        assert torch.equal(net.encoder.state_dict()[name], value)
    with pytest.raises(AimmatError, match=f"was trained as {kind}, not as {other}; set backbone.kind={kind}"):
        load_backbone(net, tmp_path, other)


@pytest.mark.parametrize("kind", [None, "torchvision"])
def test_the_kind_must_be_said(tmp_path, net, resnet, kind):
    torch.save(resnet, tmp_path / "r34.pth")
    message = "must be r34_mp (trained with the paper's max-pooling stem) or resnet34 (plain, as torchvision's), got "
    with pytest.raises(AimmatError, match=re.escape(f"{message}{kind!r}")):
        load_backbone(net, tmp_path / "r34.pth", kind)


def test_another_width_is_refused(tmp_path, net, resnet):
    torch.save(LAYOUT["fill"](LAYOUT["resnet_shapes"]((64, 4, 4, 4, 4))), tmp_path / "r34.pth")
    with pytest.raises(AimmatError, match=r"begins with 64 channels, the network with 4; .* fits model\.width=1 only"):
        load_backbone(net, tmp_path / "r34.pth", "r34_mp")


def test_another_resnet_is_refused_by_its_tensors(tmp_path, net, resnet):
    resnet["layer1.0.conv3.weight"] = torch.ones(1)
    resnet = {name: value for name, value in resnet.items() if not name.startswith("layer3.5.")}
    torch.save(resnet, tmp_path / "r26.pth")
    message = "do not fit a ResNet-34: 12 missing (layer3.5 (all 12)); 1 not in the network (layer1.0.conv3.weight)"
    with pytest.raises(AimmatError, match=re.escape(message)):
        load_backbone(net, tmp_path / "r26.pth", "r34_mp")


def test_only_a_resnet_34_encoder_can_be_filled(tmp_path):
    with pytest.raises(AimmatError, match="fills a ResNet-34 encoder, which Linear does not have"):
        load_backbone(torch.nn.Linear(2, 2), tmp_path, "r34_mp")
