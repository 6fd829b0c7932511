"""The layout of GFM's public code: recognised, translated, and refused where it is not what it says."""

from pathlib import Path

import pytest
import torch

from aimmat.models.gfm import GFM
from aimmat.schema import AimmatError
from aimmat.weights import load_network
from aimmat.weights.gfm import _aliases, _dead, _names, from_gfm, recognise, to_gfm
from aimmat.weights.layouts import recognise as recognise_any

AT = Path("gfm.pth")


def narrow(**switches):
    """A small network and the file that the public code would make of it; but for what it never uses."""
    torch.manual_seed(0)
    net = GFM(width=0.0625, **switches)
    dead = _dead(net.backbone)
    return net, {name: value for name, value in to_gfm(net).items() if name not in dead}


# Entries of instances of the public code, and how many of them are not second names.
@pytest.mark.parametrize(
    ("backbone", "mode", "entries", "first"),
    [
        ("r34", "tt", 688, 472),
        ("r34", "ft", 688, 472),
        ("r34", "bt", 688, 472),
        ("r34", "rim", 758, 542),
        ("r34_2b", "tt", 831, 621),
        ("r34_2b", "rim", 845, 635),
        ("d121", "tt", 1708, 988),
        ("d121", "ft", 1708, 988),
        ("d121", "rim", 1778, 1058),
        ("r101", "tt", 1504, 880),
        ("r101", "rim", 1574, 950),
    ],
)
def test_it_has_the_public_codes_entries(backbone, mode, entries, first):
    with torch.device("meta"):
        net = GFM(backbone=backbone, mode=mode)
    names = _names(net.state_dict(), backbone)
    assert len(set(names.values())) == len(names)
    assert len(names) + len(_dead(backbone)) == first
    assert first + len(_aliases(names, backbone)) == entries


@pytest.mark.parametrize("backbone", ["r34", "r34_2b", "d121", "r101"])
@pytest.mark.parametrize("mode", ["tt", "ft", "rim"])
def test_backbone_and_mode_are_told_by_the_names_and_the_rest_must_be_said(backbone, mode):
    _, theirs = narrow(backbone=backbone, mode=mode)
    layout, found = recognise_any(theirs)
    assert layout.recognise is recognise
    assert found.model["backbone"] == backbone
    assert found.model.get("mode") == (None if mode == "ft" else mode)
    assert set(found.unsaid) == {"normalisation"} | ({"mode"} if mode == "ft" else set())
    assert found.title == f"GFM {backbone} {'FT or BT' if mode == 'ft' else mode.upper()}"


@pytest.mark.parametrize("backbone", ["r34", "r34_2b", "d121", "r101"])
def test_weights_come_back_under_either_name_or_both(backbone):
    net, theirs = narrow(backbone=backbone, mode="rim")
    wanted = net.state_dict()
    aliases = _aliases(_names(wanted, backbone), backbone)
    for dropped in (set(), set(aliases), set(aliases.values())):
        imported = from_gfm(AT, {name: value for name, value in theirs.items() if name not in dropped}, wanted)
        assert all(torch.equal(value, wanted[name]) for name, value in imported.weights.items())
        assert imported.aliases == len(aliases.keys() - dropped)


def test_an_alias_that_differs_is_refused_by_name():
    net, theirs = narrow()
    theirs["encoder1.1.0.conv1.weight"] = theirs["encoder1.1.0.conv1.weight"] + 1
    with pytest.raises(AimmatError, match=r"1 aliases that differ \(encoder1.1.0.conv1.weight from resnet.layer1"):
        from_gfm(AT, theirs, net.state_dict())


def test_a_missing_tensor_and_one_too_many_are_refused():
    net, theirs = narrow()
    del theirs["bridge_block.0.weight"]
    with pytest.raises(AimmatError, match=r"1 missing \(bridge_block.0.weight\).*1 not in the network \(other\)"):
        from_gfm(AT, theirs | {"other": torch.zeros(1)}, net.state_dict())


def test_a_file_loads_when_normalisation_is_said_and_keeps_what_it_never_uses(tmp_path):
    net = GFM(normalisation="raw").eval()
    fc = torch.randn(1000, 512)
    torch.save(to_gfm(net, {"resnet.fc.weight": fc}), tmp_path / "gfm.pth")
    with pytest.raises(AimmatError, match="looks like GFM r34 TT, and its tensors do not tell normalisation"):
        load_network(tmp_path / "gfm.pth")
    found, card = load_network(tmp_path / "gfm.pth", normalisation="raw")
    assert card["inference"]["semantic_scale"] == 1 / 3
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in found.state_dict().items())


def test_another_network_is_not_recognised():
    assert recognise({"decoder4_l.0.weight": torch.zeros(1), "decoder4_g.0.weight": torch.zeros(1)}) is None
