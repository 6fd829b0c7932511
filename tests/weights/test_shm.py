from pathlib import Path

import pytest
import torch

from aimmat.models import NETWORKS, build
from aimmat.schema import AimmatError
from aimmat.weights import load_network, save_network
from aimmat.weights.layouts import recognise
from aimmat.weights.shm import CLASSIFIER, from_shm, rename

NARROW = {"width": 0.0625, "colours": "bgr"}


def meta(name="shm", **switches):
    with torch.device("meta"):
        return build(name, **switches)


def public(net):
    """A network's tensors under the public names, and the classifier, all of a value each."""
    weights = net.state_dict()
    found = {theirs: weights[ours] for ours, theirs in rename(weights).items()}
    return found | {name: torch.zeros(()).expand(shape) for name, shape in CLASSIFIER.items()}


@pytest.fixture(scope="module")
def light():
    """A whole public file of next to no bytes: each tensor is one number, seen from everywhere."""
    kinds = {name: (value.dtype, value.shape) for name, value in public(meta()).items()}
    return {
        name: torch.full((), k % 7 + 1, dtype=kinds[name][0]).expand(kinds[name][1]) for k, name in enumerate(kinds)
    }


def test_names_are_those_that_the_public_code_prints():
    found = public(meta())
    assert len(found) == 482
    assert sum(name.startswith("t_net.feats.") for name in found) == 318
    assert sum(name.startswith("t_net.psp.") for name in found) == 6
    assert [sum(name.startswith(f"t_net.up_{k}.conv.") for name in found) for k in (1, 2, 3)] == [8, 8, 8]
    convolutions = [(1, 2), (2, 2), (3, 3), (4, 3), (5, 3)]
    stages = {f"m_net.conv_{i}_{j}" for i, count in convolutions for j in range(1, count + 1)}
    stages |= {f"m_net.deconv_{k}" for k in range(1, 6)}
    kinds = {"0": ("weight", "bias"), "1": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    expected = {f"{stage}.{layer}.{kind}" for stage in stages for layer in kinds for kind in kinds[layer]}
    expected |= {"m_net.conv_0.weight", "m_net.conv_0.bias"}
    assert {name for name in found if name.startswith("m_net.")} == expected
    assert found["m_net.conv_1_1.0.weight"].shape == (64, 6, 3, 3)
    assert found["m_net.deconv_4.0.weight"].shape == (256, 512, 5, 5)
    assert found["t_net.psp.bottleneck.weight"].shape == (1024, 10240, 1, 1)
    assert found["t_net.up_1.conv.2.weight"].shape == (1,)
    assert found["t_net.final.0.weight"].shape == (3, 64, 1, 1)


def test_a_file_is_loaded_with_its_order_and_comes_back_bit_for_bit(light, tmp_path):
    torch.save({"epoch": 300, "state_dict": light}, tmp_path / "ckpt_lastest.pth")
    net, card = load_network(tmp_path / "ckpt_lastest.pth", order="unknown_foreground")
    model = {"name": "shm", "trimap": "predicted", "width": 1.0, "colours": "bgr", "order": "unknown_foreground"}
    assert card["model"] == model
    assert card["inference"] == {"name": "resize", "scale": 1.0, "max_side": 1500}
    assert card["looks_like"] == "the SHM of tsing90's public code"
    found = net.state_dict()
    assert len(found) == 478
    for ours, theirs in rename(found).items():
        assert torch.equal(found[ours], light[theirs]), ours


def test_a_card_keeps_what_was_said(tmp_path):
    torch.manual_seed(0)
    switches = NARROW | {"order": "foreground_unknown"}
    net = build("shm", **switches).eval()
    save_network(tmp_path / "ours.safetensors", net, {"model": {"name": "shm"} | switches})
    back, card = load_network(tmp_path / "ours.safetensors")
    assert card["normalisation"] == {"mean": [0, 0, 0], "std": [1, 1, 1], "range": [0, 1]}
    image = torch.rand(1, 3, 16, 32)
    with torch.no_grad():
        assert torch.equal(back(image).alpha, net(image).alpha)
        assert back.swapped
        assert back.bgr


def test_the_order_must_be_said(light, tmp_path):
    torch.save(light, tmp_path / "shm.pth")
    with pytest.raises(
        AimmatError, match=r"looks like the SHM .*, and its tensors do not tell order; say which \(order"
    ):
        load_network(tmp_path / "shm.pth")
    with pytest.raises(AimmatError, match="shm's order is unknown_foreground or foreground_unknown, got 'rgb'"):
        load_network(tmp_path / "shm.pth", order="rgb")
    with pytest.raises(AimmatError, match=r"looks like the SHM .*, whose colours is bgr, not imagenet"):
        load_network(tmp_path / "shm.pth", order="unknown_foreground", colours="imagenet")


@pytest.mark.parametrize(("kept", "says"), [("t_net", r"m_net \(all 128\)"), ("m_net", r"t_net \(all 350\)")])
def test_a_file_of_one_phase_is_named_as_the_half_that_it_is(light, tmp_path, kept, says):
    torch.save({name: value for name, value in light.items() if name.startswith(kept)}, tmp_path / "half.pth")
    with pytest.raises(AimmatError, match=f"do not fit the SHM of tsing90's public code: .* missing \\({says}\\)"):
        load_network(tmp_path / "half.pth")


def test_the_classifier_is_kept_apart_and_may_be_missing():
    net = build("shm", **NARROW)
    found = public(net)
    imported = from_shm(Path("shm.pth"), found, net.state_dict())
    assert imported.unused.keys() == CLASSIFIER.keys()
    found = {name: value for name, value in found.items() if name not in CLASSIFIER}
    imported = from_shm(Path("shm.pth"), found, net.state_dict())
    assert imported.unused == {}
    assert all(torch.equal(value, imported.weights[name]) for name, value in net.state_dict().items())


def test_what_does_not_fit_is_named_as_the_file_has_it():
    net = build("shm", **NARROW)
    found = public(net)
    del found["m_net.conv_0.bias"]
    found["t_net.final.0.bias"] = torch.zeros(2)
    found["t_net.more"] = torch.zeros(1)
    with pytest.raises(AimmatError) as error:
        from_shm(Path("shm.pth"), found, net.state_dict())
    assert "1 missing (m_net.conv_0.bias); 1 not in the network (t_net.more)" in str(error.value)
    assert "t_net.final.0.bias (2,) instead of (3,)" in str(error.value)


def test_only_its_own_names_are_recognised():
    light_shm = ["t_net.feature.0.0.weight", "t_net.last_conv.0.weight", "m_net.en_conv_bn_relu_1.0.weight"]
    assert recognise(dict.fromkeys(light_shm, torch.zeros(1))) is None  # lizhengwei1992's, another network
    assert recognise(public(meta()))[1].model["name"] == "shm"
    assert "aimnet" in NETWORKS
    for name in ("aimnet", "u2net"):
        found = recognise(meta(name).state_dict())
        assert found is None or found[1].model["name"] != "shm"
    assert recognise(meta().state_dict()) is None  # our own names need a card
