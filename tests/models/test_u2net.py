"""U2-Net: its size, its shapes, and the released code's figures."""

import json
from pathlib import Path
from runpy import run_path

import pytest
import torch

from aimmat.models import U2Net, build, count_macs, count_parameters
from aimmat.models.u2net import ResidualU, shrink
from aimmat.schema import AimmatError

ROOT = Path(__file__).parents[2]
METHODS = run_path(str(ROOT / "benchmarks" / "methods.py"), run_name="methods")
# python benchmarks/methods.py u2net CHECKOUT --write tests/golden/u2net.json
GOLDEN = json.loads((ROOT / "tests" / "golden" / "u2net.json").read_text())

variants = pytest.mark.parametrize(("name", "small"), [("U2NET", False), ("U2NETP", True)])


# Counted on the released networks, the multiply-accumulates with hooks on their convolutions.
@pytest.mark.parametrize(("small", "parameters", "macs"), [(False, 44_009_869, 58.60e9), (True, 1_131_181, 19.76e9)])
def test_its_size_is_that_of_the_released_network(small, parameters, macs):
    with torch.device("meta"):
        net = U2Net(small=small)
    assert count_parameters(net) == parameters
    assert len(net.state_dict()) == 798
    assert count_macs(net, 320) == pytest.approx(macs, abs=5e6)  # the last digit


@variants
def test_its_maps_and_its_loss_are_those_of_the_released_code(name, small):
    net = METHODS["u2net_filled"](small)
    found = {
        "odd sides": METHODS["u2net_maps"](net, METHODS["picture"](*METHODS["SIZES"]["odd sides"]).float()),
        "float64": METHODS["u2net_maps"](net, METHODS["picture"](64, 96)),
        "loss": METHODS["u2net_step"](net)[0],
    }
    for what, values in found.items():
        wanted = torch.tensor(GOLDEN[f"{name}, {what}"], dtype=torch.float64)
        assert wanted.numel() in (2, 501)  # the mean, and values
        sample = torch.tensor(METHODS["sampled"](values), dtype=torch.float64)
        torch.testing.assert_close(sample, wanted, rtol=0, atol=1e-5, msg=lambda why, what=what: f"{what}: {why}")


def test_alpha_is_the_matte_that_is_fused_from_the_six():
    net = build("u2net", small=True, width=0.25).eval()
    with torch.no_grad():
        prediction = net(torch.rand(1, 3, 33, 47))
        weight, bias = net.fuse.weight.view(1, 6, 1, 1), net.fuse.bias
        fused = (weight * prediction.parts["sides"]).sum(dim=1, keepdim=True) + bias
    assert prediction.semantic is prediction.matting is None
    assert prediction.parts["sides"].shape == (1, 6, 33, 47)
    torch.testing.assert_close(prediction.parts["fused"], fused)
    torch.testing.assert_close(prediction.alpha, fused.sigmoid())


def test_every_size_is_taken_down_to_a_pixel():
    net = build("u2net", small=True, width=0.25).eval()
    for size in ((1, 1), (5, 64), (37, 2)):
        with torch.no_grad():
            assert net(torch.rand(1, 3, *size)).alpha.shape == (1, 1, *size)


def test_an_odd_side_is_rounded_up():
    assert shrink(torch.arange(5.0).expand(1, 1, 3, 5))[0, 0].tolist() == [[1, 3, 4], [1, 3, 4]]


@pytest.mark.parametrize(("height", "dilated", "seen"), [(7, False, 32), (4, False, 4), (4, True, 1)])
def test_a_block_sees_what_its_lowest_unit_sees(height, dilated, seen):
    block = ResidualU(height, 3, 4, 8, dilated=dilated).eval()
    sizes = []
    block.down[-1].register_forward_hook(lambda module, given, found: sizes.append(found.shape[-1]))
    with torch.no_grad():
        assert block(torch.rand(1, 3, 64, 64)).shape == (1, 8, 64, 64)
    assert sizes == [64 // seen]
    assert block.down[-1][0].dilation == ((8, 8) if dilated else (2, 2))


def test_its_logits_are_float32_under_autocast():
    net = build("u2net", small=True, width=0.25).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        prediction = net(torch.rand(1, 3, 32, 32))
    assert {prediction.alpha.dtype, *(part.dtype for part in prediction.parts.values())} == {torch.float32}


def test_switches_without_sense_are_refused():
    with pytest.raises(AimmatError, match="u2net's switch small is true or false, got 'yes'"):
        U2Net(small="yes")
    with pytest.raises(AimmatError, match="u2net's width is a number above 0 and at most 4, got 0"):
        U2Net(width=0)
