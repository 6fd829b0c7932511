"""GFM: its size, its switches, its fusion rules, and the public code's figures."""

import json
from pathlib import Path
from runpy import run_path

import pytest
import torch

from aimmat.models import GFM, AimNet, count_macs, count_parameters
from aimmat.schema import AimmatError
from aimmat.weights.backbones import load_backbone
from aimmat.weights.gfm import _dead

ROOT = Path(__file__).parents[2]
METHODS = run_path(str(ROOT / "benchmarks" / "methods.py"), run_name="methods")
# python benchmarks/methods.py gfm CHECKOUT --write tests/golden/gfm.json
GOLDEN = json.loads((ROOT / "tests" / "golden" / "gfm.json").read_text())


# Counted on instances of the public code, with what it never uses and without.
@pytest.mark.parametrize(
    ("backbone", "mode", "all_of_it", "used"),
    [
        ("r34", "tt", 55_286_316, 54_773_316),
        ("r34", "ft", 55_285_739, 54_772_739),
        ("r34", "bt", 55_285_739, 54_772_739),
        ("r34", "rim", 55_733_891, 55_220_891),
        ("r34_2b", "tt", 125_878_956, 125_061_316),
        ("r34_2b", "rim", 125_882_627, 125_064_987),
        ("d121", "tt", 46_961_772, 45_934_724),
        ("d121", "ft", 46_961_195, 45_934_147),
        ("d121", "bt", 46_961_195, 45_934_147),
        ("d121", "rim", 47_409_347, 46_382_299),
        ("r101", "tt", 497_256_556, 495_207_556),
        ("r101", "rim", 497_704_131, 495_655_131),
    ],
)
def test_its_size_is_that_of_the_public_networks(backbone, mode, all_of_it, used):
    with torch.device("meta"):
        net = GFM(backbone=backbone, mode=mode)
    assert count_parameters(net) == used
    learnt = [value for name, value in _dead(backbone).items() if name.endswith(("weight", "bias"))]
    assert used + sum(value.numel() for value in learnt) == all_of_it


def test_its_multiply_accumulates_are_those_of_the_public_code():
    with torch.device("meta"):
        assert round(count_macs(GFM(), 320) / 1e9, 2) == 21.10


def test_the_ledgers_difference_from_an_aimnet_without_its_switches():
    with torch.device("meta"):
        counts = [count_parameters(net) for net in (AimNet(mp=False, se=False, sa=False), GFM())]
    assert counts == [54_773_316, 54_773_316]


@pytest.mark.parametrize("mode", ["tt", "ft", "bt", "rim"])
@pytest.mark.parametrize("backbone", ["r34", "r34_2b", "d121", "r101"])
def test_every_combination_sees_and_learns(backbone, mode):
    torch.manual_seed(0)
    net = GFM(backbone=backbone, mode=mode, width=0.0625)
    found = net(torch.rand(2, 3, 64, 32))
    assert found.alpha.shape == (2, 1, 64, 32)
    assert 0 <= found.alpha.min() <= found.alpha.max() <= 1
    maps = [part for part in (found.semantic, found.matting, *(found.parts or {}).values()) if part is not None]
    sum((part - 2).square().mean() for part in maps).backward()
    assert all(value.grad.any() for value in net.parameters() if value.ndim > 1)
    assert (found.semantic is not None) == (mode == "tt")


@pytest.mark.parametrize(("mode", "sign"), [("ft", 1), ("bt", -1)])
def test_focus_is_added_to_the_foreground_or_taken_from_the_rest(mode, sign):
    torch.manual_seed(0)
    parts = GFM(mode=mode, width=0.0625).eval()(torch.rand(1, 3, 64, 64)).parts
    sure = parts[f"glance_{mode}"].argmax(dim=1, keepdim=True)
    assert torch.equal(parts[f"fused_{mode}"], (sure + sign * parts[f"focus_{mode}"]).clamp(0, 1))


def test_raw_pixels_go_to_255():
    image = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(GFM(normalisation="raw", width=0.0625).normalise(image), 255 * image)


@pytest.mark.parametrize(
    ("switches", "says"),
    [
        ({"backbone": "r50"}, "gfm's backbone is r34, r34_2b, d121 or r101, got 'r50'"),
        ({"mode": "TT"}, "gfm's mode is tt, ft, bt or rim, got 'TT'"),
        ({"normalisation": "none"}, "gfm's normalisation is imagenet or raw, got 'none'"),
    ],
)
def test_a_switch_that_it_cannot_have_is_refused(switches, says):
    with pytest.raises(AimmatError, match=says):
        GFM(**switches)


@pytest.mark.parametrize("backbone", ["r34_2b", "d121"])
def test_a_backbone_fills_what_is_used_of_it(backbone, tmp_path):
    net = GFM(backbone=backbone, width=0.0625)
    (trunk,) = net.backbones().values()
    file = {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in trunk.state_dict().items()
    }
    idle = {"conv1.weight": torch.zeros(1)} if backbone == "r34_2b" else {"features.norm5.weight": torch.zeros(1)}
    torch.save(file | idle | {"fc.bias": torch.zeros(1)}, tmp_path / "trunk.pth")
    load_backbone(net, tmp_path / "trunk.pth", None)
    assert all(torch.equal(value, file[name]) for name, value in trunk.state_dict().items())


@pytest.mark.parametrize(("backbone", "mode"), METHODS["GFM_KEPT"])
def test_outputs_are_those_of_the_public_code(backbone, mode):
    net = METHODS["gfm_filled"](backbone, mode)
    maps = METHODS["gfm_maps"](net, METHODS["picture"](64, 96))
    maps = METHODS["gfm_sure"](maps, maps)
    for name in METHODS["GFM_KEPT"][backbone, mode]:
        found = torch.tensor(METHODS["sampled"](maps[name]))
        wanted = torch.tensor(GOLDEN[f"{backbone}, {mode}, 64 x 96, {name}"])
        # In float64; the golden figures have seven decimals.
        assert (found - wanted).abs().max() <= 1e-5, name
