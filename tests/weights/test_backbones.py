import re
from pathlib import Path
from runpy import run_path

import pytest
import torch
from safetensors.torch import save_file

from aimmat import models
from aimmat.models.densenets import DenseNet
from aimmat.models.layers import Network
from aimmat.models.resnets import ResNet
from aimmat.models.vgg import VGG16
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


# encoders that a network names, under torchvision's names


class Two(Network):
    """A network of two encoders, the second with a trimap beside the picture."""

    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other

    def backbones(self):
        return {"resnet50": self.one, "vgg16_bn": self.other}


NAMED = {"width": 0.0625}


@pytest.fixture
def two():
    return Two(ResNet("resnet50", **NAMED), VGG16(batch_norm=True, in_channels=6, **NAMED))


def as_torchvision(encoder, classifier):
    """An encoder's tensors, all different from what they are, and a classifier behind them."""
    weights = {name: torch.full_like(value, k + 1) for k, (name, value) in enumerate(encoder.state_dict().items())}
    return weights | {f"{classifier}.weight": torch.ones(7, 3), f"{classifier}.bias": torch.ones(7)}


def assert_holds(encoder, weights):
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())


def test_each_file_fills_the_encoder_that_it_is_of(tmp_path, two):
    resnet = as_torchvision(two.one, "fc")
    vgg = as_torchvision(VGG16(batch_norm=True, **NAMED), "classifier.6")
    torch.save(resnet, tmp_path / "resnet50-0676ba61.pth")
    save_file(vgg, tmp_path / "vgg16_bn.safetensors")
    before = {name: value.clone() for name, value in two.other.state_dict().items()}
    load_backbone(two, tmp_path / "resnet50-0676ba61.pth", None)
    assert_holds(two.one, resnet)
    assert_holds(two.other, before)
    load_backbone(two, tmp_path / "vgg16_bn.safetensors", None)
    first = vgg.pop("features.0.weight")
    assert_holds(two.one, resnet)
    assert_holds(two.other, vgg | {"features.0.weight": torch.cat((first, torch.zeros_like(first)), dim=1)})


@pytest.mark.parametrize("channels", [4, 6])
def test_channels_that_a_files_pictures_lack_start_at_zero(tmp_path, channels):
    net = Two(torch.nn.Identity(), VGG16(batch_norm=False, in_channels=channels, **NAMED))
    plain = VGG16(batch_norm=False, **NAMED)
    torch.save(plain.state_dict(), tmp_path / "vgg16.pth")
    load_backbone(net, tmp_path / "vgg16.pth", None)
    image = torch.rand(1, 3, 32, 32)
    beside = torch.cat((image, torch.rand(1, channels - 3, 32, 32)), dim=1)
    with torch.no_grad():
        torch.testing.assert_close(net.other(beside).deepest, plain(image).deepest)


def test_other_layers_than_the_first_are_not_widened(tmp_path, two):
    vgg = VGG16(batch_norm=True, **NAMED).state_dict()
    vgg["features.3.weight"] = vgg["features.3.weight"][:, :2]
    torch.save(vgg, tmp_path / "vgg16_bn.pth")
    with pytest.raises(AimmatError, match=r"do not fit Two's vgg16_bn: 1 of another shape \(features\.3\.weight "):
        load_backbone(two, tmp_path / "vgg16_bn.pth", None)


def test_the_names_that_densenets_had_once_are_known(tmp_path):
    encoder = DenseNet("densenet121", **NAMED)
    net = Two(encoder, torch.nn.Identity())
    weights = as_torchvision(encoder, "classifier")
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): value for name, value in weights.items()}
    old = {name: value for name, value in old.items() if not name.endswith("num_batches_tracked")}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet121-a639ec97.pth")
    load_backbone(net, tmp_path / "densenet121-a639ec97.pth", None)
    assert_holds(
        encoder, {k: torch.tensor(0) if k.endswith("num_batches_tracked") else value for k, value in weights.items()}
    )


def test_a_file_of_another_kind_is_refused_with_what_is_taken(tmp_path, two):
    others = {"resnet34": ResNet("resnet34", **NAMED), "vgg16": VGG16(batch_norm=False, **NAMED)}
    for name, encoder in others.items():
        torch.save(encoder.state_dict(), tmp_path / f"{name}.pth")
        message = f"{name}.pth is none that Two starts from; it takes resnet50 and vgg16_bn under torchvision's names"
        with pytest.raises(AimmatError, match=re.escape(message)):
            load_backbone(two, tmp_path / f"{name}.pth", None)


def test_a_file_of_another_width_is_refused_by_its_tensors(tmp_path, two):
    torch.save(ResNet("resnet50", width=0.125).state_dict(), tmp_path / "resnet50.pth")
    with pytest.raises(AimmatError, match=r"do not fit Two's resnet50: \d+ of another shape \(conv1\.weight \(8, "):
        load_backbone(two, tmp_path / "resnet50.pth", None)


def test_a_file_of_a_whole_network_is_refused(tmp_path, two, net):
    save_network(tmp_path / "model.safetensors", net, {"model": MODEL})
    with pytest.raises(AimmatError, match="is none that Two starts from; it takes resnet50 and vgg16_bn"):
        load_backbone(two, tmp_path / "model.safetensors", None)


def test_shm_names_both_of_its_encoders():
    with torch.device("meta"):
        encoders = models.SHM(**NAMED).backbones()
    assert list(encoders) == ["resnet50", "vgg16_bn"]
    assert {"conv1.weight", "layer4.2.bn3.running_var"} <= encoders["resnet50"].state_dict().keys()
    assert {"features.0.weight", "features.41.running_var"} <= encoders["vgg16_bn"].state_dict().keys()
