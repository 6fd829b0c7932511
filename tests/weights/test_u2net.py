from pathlib import Path

import pytest
import torch

from aimmat.models import build
from aimmat.schema import AimmatError
from aimmat.weights import load_network, save_network
from aimmat.weights.layouts import recognise
from aimmat.weights.released import AIM, rename
from aimmat.weights.u2net import U2NET, from_u2net

UNITS = {"": {1: 7, 2: 6, 3: 5, 4: 4, 5: 4, 6: 4}, "d": {1: 7, 2: 6, 3: 5, 4: 4, 5: 4}}


def released(net):
    """A network's tensors under the released names."""
    weights = net.state_dict()
    return {theirs: weights[ours] for ours, theirs in rename(weights, U2NET).items()}


def meta(**switches):
    with torch.device("meta"):
        return build("u2net", **switches)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    net = build("u2net", small=True).eval()
    for name, value in net.state_dict().items():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return net


def test_names_are_the_pattern_that_the_release_prints():
    expected = set()
    for suffix, heights in UNITS.items():
        for stage, height in heights.items():
            units = ["in", *map(str, range(1, height + 1)), *(f"{k}d" for k in range(1, height))]
            for unit in units:
                block = f"stage{stage}{suffix}.rebnconv{unit}"
                expected |= {f"{block}.conv_s1.{kind}" for kind in ("weight", "bias")}
                kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
                expected |= {f"{block}.bn_s1.{kind}" for kind in kinds}
    expected |= {
        f"{head}.{kind}" for head in (*(f"side{k}" for k in range(1, 7)), "outconv") for kind in ("weight", "bias")
    }
    assert released(meta()).keys() == released(meta(small=True)).keys() == expected
    assert len(expected) == 798


@pytest.mark.parametrize(("small", "title"), [(False, "the U2NET of"), (True, "the U2NETP of")])
def test_shapes_tell_the_two_apart(small, title):
    _, found = recognise(released(meta(small=small)))
    assert found.title == f"{title} the released U-2-Net code"
    assert found.model == {"name": "u2net", "small": small, "width": 1.0}
    assert found.inference == {"name": "resize", "size": 320}
    assert not found.unsaid


def test_a_released_file_is_loaded_and_comes_back_bit_for_bit(small, tmp_path):
    torch.save(released(small), tmp_path / "u2netp.pth")
    net, card = load_network(tmp_path / "u2netp.pth")
    assert card["looks_like"] == "the U2NETP of the released U-2-Net code"
    save_network(tmp_path / "ours.safetensors", net, card)
    back, card = load_network(tmp_path / "ours.safetensors")
    assert card["inference"] == {"name": "resize", "size": 320}
    for loaded in (net, back):
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in small.state_dict().items())
    image = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(back(image).alpha, small(image).alpha)


def test_counters_that_old_files_lack_are_zero(small):
    old = {name: value for name, value in released(small).items() if not name.endswith("num_batches_tracked")}
    assert len(old) == 798 - 112
    weights = from_u2net(Path("old.pth"), old, small.state_dict()).weights
    assert weights.keys() == small.state_dict().keys()


def test_what_does_not_fit_is_named_as_in_the_file(small, tmp_path):
    tensors = released(small)
    # Four classes of clothes instead of one object: rembg's u2net_cloth_seg.
    tensors |= {f"side{k}.weight": torch.zeros(4, 64, 3, 3) for k in range(1, 7)}
    del tensors["outconv.bias"]
    torch.save(tensors, tmp_path / "cloth.pth")
    with pytest.raises(
        AimmatError, match=r"do not fit the released U-2-Net: 1 missing \(outconv\.bias\); 6 of another "
    ):
        load_network(tmp_path / "cloth.pth")


def test_what_the_file_says_of_itself_cannot_be_changed(small, tmp_path):
    torch.save(released(small), tmp_path / "u2netp.pth")
    with pytest.raises(AimmatError, match=r"looks like the U2NETP .*, whose small is True, not False"):
        load_network(tmp_path / "u2netp.pth", small=False)


def test_other_networks_are_not_taken_for_it(small):
    with torch.device("meta"):
        aimnet = build("aimnet").state_dict()
    aim = {theirs: aimnet[ours] for ours, theirs in rename(aimnet, AIM).items()}
    assert recognise(aim)[1].model["name"] == "aimnet"
    assert recognise(small.state_dict()) is None
    # IS-Net: the same blocks behind a convolution, and no map fused from the six.
    isnet = {name: value for name, value in released(small).items() if not name.startswith("outconv.")}
    assert recognise(isnet | {"conv_in.weight": torch.zeros(64, 3, 3, 3)}) is None
