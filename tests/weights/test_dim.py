"""Public DIM checkpoints: recognised, refused, and loaded strictly."""

import re

import pytest
import torch

from aimmat.models import build
from aimmat.schema import AimmatError
from aimmat.weights import load_network, read_network
from aimmat.weights.dim import FLAT, MMAGIC, recognise
from aimmat.weights.layouts import recognise as recognise_any
from aimmat.weights.released import AIM, rename
from aimmat.weights.u2net import U2NET

# What github.com/huochaitiantang/pytorch-deep-image-matting holds at f5f909d: core/net.py, its stages 0 and 1.
HUO = [f"conv{stage}_{k}" for stage, count in enumerate((2, 2, 3, 3, 3, 1), 1) for k in range(1, count + 1)]
HUO += [f"deconv{k}_1" for k in (6, 5, 4, 3, 2, 1)] + ["deconv1"]
REFINER = ["refine_conv1", "refine_conv2", "refine_conv3", "refine_pred"]


def public(names, **switches):
    """A network, and its weights under public names."""
    torch.manual_seed(0)
    net = build("dim", **switches)
    weights = net.state_dict()
    return net, {theirs: weights[ours] for ours, theirs in rename(weights, names).items()}


def saved(path, weights):
    torch.save({"epoch": 12, "best_sad": 52.9, "state_dict": weights}, path)
    return path


def shapes(names, **switches):
    with torch.device("meta"):
        return public(names, **switches)[1]


def test_the_names_are_those_of_the_public_code():
    weights = shapes(FLAT, refiner=True)
    assert list(weights) == [f"{name}.{kind}" for name in HUO + REFINER for kind in ("weight", "bias")]
    mmagic = shapes(MMAGIC, kernel=1)
    assert mmagic["backbone.encoder.layer4.4.weight"].shape == (512, 512, 3, 3)
    assert mmagic["backbone.encoder.conv6.weight"].shape == (512, 512, 1, 1)
    assert mmagic["backbone.decoder.deconv6_1.weight"].shape == (512, 512, 1, 1)
    assert mmagic["backbone.decoder.deconv1.weight"].shape == (1, 64, 5, 5)


@pytest.mark.parametrize("refiner", [False, True])
def test_each_variant_is_told_by_its_tensors(refiner):
    flat = recognise(shapes(FLAT, refiner=refiner))
    assert flat.title == "the DIM of pytorch-deep-image-matting" + " with its refiner" * refiner
    assert flat.model["refiner"] is refiner
    assert flat.model["kernel"] == 3
    assert list(flat.unsaid) == ["skip"]
    mmagic = recognise(shapes(MMAGIC, kernel=1, refiner=refiner))
    assert mmagic.title == "the DIM of mmagic" + " with its refiner" * refiner
    assert (mmagic.model["refiner"], mmagic.model["kernel"], mmagic.model["skip"]) == (refiner, 1, False)
    assert not mmagic.unsaid


@pytest.mark.parametrize("skip", [False, True])
def test_a_flat_file_loads_bit_for_bit_once_its_skip_is_said(tmp_path, skip):
    net, weights = public(FLAT, refiner=True)
    path = saved(tmp_path / "stage3.pth", weights)
    loaded, card = load_network(path, skip=skip)
    assert card["model"] == {
        "name": "dim", "refiner": True, "kernel": 3, "trimap": "traditional", "width": 1.0, "skip": skip
    }  # fmt: skip
    assert card["inference"] == {"name": "resize", "scale": 1.0}
    assert loaded.skip is skip
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_a_file_of_mmagic_loads_as_it_is(tmp_path):
    net, weights = public(MMAGIC, kernel=1)
    torch.save({"meta": {"epoch": 1}, "state_dict": weights}, tmp_path / "dim.pth")
    found = read_network(tmp_path / "dim.pth")
    assert (found.tensors, found.aliases, found.unused) == (42, 0, {})
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in found.net.state_dict().items())
    with pytest.raises(AimmatError, match="whose skip is False, not True"):
        load_network(tmp_path / "dim.pth", skip=True)


def test_without_a_word_about_the_skip_it_is_refused(tmp_path):
    path = saved(tmp_path / "stage1.pth", public(FLAT)[1])
    with pytest.raises(AimmatError) as error:
        load_network(path)
    message = str(error.value)
    assert "looks like the DIM of pytorch-deep-image-matting, and its tensors do not tell skip; say which" in message
    assert "skip is true for what was trained since September 2020" in message
    assert "\n" not in message


def test_old_files_with_a_1x1_conv6_are_refused(tmp_path):
    path = saved(tmp_path / "old.pth", public(FLAT, kernel=1)[1])
    for said in ({}, {"skip": False}):
        with pytest.raises(AimmatError, match=r"of before September 2019: its conv6 is 1x1 where today's is 3x3"):
            load_network(path, **said)


def test_tensors_that_are_missing_or_too_many_are_named(tmp_path):
    weights = public(FLAT)[1]
    more = saved(tmp_path / "more.pth", weights | {"fc.weight": torch.ones(1)})
    with pytest.raises(AimmatError, match=re.escape("1 not in the network (fc.weight)")):
        load_network(more, skip=True)
    less = saved(tmp_path / "less.pth", {name: value for name, value in weights.items() if name != "conv3_2.bias"})
    with pytest.raises(AimmatError, match=re.escape("1 missing (conv3_2.bias)")):
        load_network(less, skip=True)


def test_other_networks_are_not_dim_and_dim_is_no_other():
    for names in (AIM, U2NET):
        assert recognise({f"{name}.weight": torch.empty(1) for name in names.values()}) is None
    assert recognise({name: value for name, value in shapes(FLAT).items() if name.startswith("conv")}) is None
    for names, switches in ((FLAT, {}), (MMAGIC, {"kernel": 1})):
        assert recognise_any(shapes(names, **switches))[1].model["name"] == "dim"
