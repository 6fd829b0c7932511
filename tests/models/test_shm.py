"""SHM: its size, its equation, its trimap predicted or given, and the public code's figures."""

import json
from pathlib import Path
from runpy import run_path

import pytest
import torch

from aimmat.functional.fusion import likeliest_class
from aimmat.inference import Hybrid
from aimmat.models import SHM, build, count_macs, count_parameters
from aimmat.schema import AimmatError, SemanticClass

ROOT = Path(__file__).parents[2]
METHODS = run_path(str(ROOT / "benchmarks" / "methods.py"), run_name="methods")
# python benchmarks/methods.py shm CHECKOUT --write tests/golden/shm.json
GOLDEN = json.loads((ROOT / "tests" / "golden" / "shm.json").read_text())
SMALL = {"width": 0.0625}


def small(**switches):
    torch.manual_seed(0)
    return build("shm", **SMALL, **switches).eval()


def predicted(net, *size):
    with torch.no_grad():
        return net(torch.rand(1, net.input_channels, *size, generator=torch.Generator().manual_seed(0)))


def with_trimap(*values):
    """A picture of 16 x 48 pixels, a trimap of three columns."""
    trimap = torch.tensor(values).repeat_interleave(16).expand(1, 1, 16, 48)
    return torch.cat((torch.rand(1, 3, 16, 48, generator=torch.Generator().manual_seed(0)), trimap), dim=1)


def test_its_size_is_that_of_the_public_code_without_its_classifier():
    with torch.device("meta"):
        net = SHM()
    assert count_parameters(net) == 79_003_335
    assert count_parameters(net.matting) == 25_686_337
    assert count_parameters(net.semantic) == 53_580_169 - 263_171  # 1024 -> 256 -> 3, which nothing uses
    assert len(net.state_dict()) == 478
    assert count_macs(net, 320) == pytest.approx(139.09e9, abs=5e6)  # the last digit


@pytest.mark.parametrize("run", ["bgr, 96 x 160", "float64", "matting network, float64"])
def test_its_outputs_are_those_of_the_public_code(run):
    found = METHODS["shm_maps"](METHODS["shm_filled"](run), METHODS["shm_picture"](run))
    sample, wanted = (torch.tensor(values).double() for values in (METHODS["sampled"](found), GOLDEN[run]))
    assert wanted.numel() == 501  # the mean, and values
    torch.testing.assert_close(sample, wanted, rtol=0, atol=1e-5)


def test_its_loss_is_that_of_the_public_code():
    batch = METHODS["shm_batch"]()
    logits, alpha = 8 * batch["foreground"] - 4, 1.5 * batch["background"][:, :1]
    loss = sum(METHODS["SHMLoss"]()(METHODS["Prediction"](logits, alpha, alpha, {"alpha": alpha}), batch).values())
    assert loss.item() == pytest.approx(GOLDEN["loss"][0], rel=1e-6)


def test_alpha_is_foreground_and_the_unknown_share_of_the_matting_network():
    net = small(dropout=0).train()  # by the picture's own statistics nothing saturates
    for head in (net.semantic.head, net.matting.head):
        head.weight.data *= 100
    found = predicted(net, 32, 48)
    background, unknown, foreground = found.semantic.softmax(dim=1).split(1, dim=1)
    assert min(part.std() for part in (background, unknown, foreground)) > 0.01
    torch.testing.assert_close(found.parts["alpha"], foreground + unknown * found.parts["matting"])
    assert torch.equal(found.alpha, found.parts["alpha"].clamp(0, 1))
    assert torch.equal(found.matting, found.parts["matting"].clamp(0, 1))
    assert found.parts["matting"].max() > 1 or found.parts["matting"].min() < 0  # there is something to cut


def test_the_classes_are_in_the_order_of_all_networks_here():
    net = small()
    for sure, alpha in ((SemanticClass.BACKGROUND, 0), (SemanticClass.FOREGROUND, 1)):
        net.semantic.head.bias.data = 50.0 * torch.eye(3)[sure]
        found = predicted(net, 16, 16)
        assert (likeliest_class(found.semantic) == sure).all()
        torch.testing.assert_close(found.alpha, torch.full((1, 1, 16, 16), float(alpha)))
    net.semantic.head.bias.data = 50.0 * torch.eye(3)[SemanticClass.TRANSITION]
    found = predicted(net, 16, 16)
    torch.testing.assert_close(found.alpha, found.matting)


def test_a_loss_of_the_matte_teaches_the_trimap_network():
    net = small().train()
    net(torch.rand(2, 3, 32, 32)).parts["alpha"].square().mean().backward()
    assert all(value.grad is not None for value in net.semantic.parameters())
    assert net.semantic.head.weight.grad.any()


def test_a_given_trimap_is_taken_at_its_word():
    net = small(trimap="given")
    with torch.no_grad():
        found = net(with_trimap(0.0, 0.5, 1.0))
    assert found.semantic is None
    assert (found.alpha[..., :16] == 0).all()
    assert torch.equal(found.alpha[..., 16:32], found.matting[..., 16:32])
    assert (found.alpha[..., 32:] == 1).all()


def test_of_a_given_trimap_what_resizing_mixed_is_unknown():
    net = small(trimap="given")
    with torch.no_grad():
        assert torch.equal(net(with_trimap(0.1, 0.3, 0.9)).alpha, net(with_trimap(0.0, 0.5, 1.0)).alpha)


def test_a_given_trimap_is_what_a_certain_trimap_network_would_say():
    given, drawn = small(trimap="given"), small()
    for part in drawn.semantic.parameters():
        part.data.zero_()
    drawn.semantic.head.bias.data = torch.tensor([0.0, 50.0, 0.0])
    given.load_state_dict(drawn.state_dict())
    image = with_trimap(0.5, 0.5, 0.5)
    with torch.no_grad():
        torch.testing.assert_close(given(image).alpha, drawn(image[:, :3]).alpha)


def test_a_batch_shows_its_true_trimap_where_that_is_given():
    batch = {"image": torch.rand(1, 3, 2, 3), "trimap": torch.tensor([[[[0, 1, 2], [2, 1, 0]]]])}
    assert torch.equal(small().inputs(batch), batch["image"])
    shown = small(trimap="given").inputs(batch)
    assert torch.equal(shown[:, :3], batch["image"])
    assert shown[0, 3].tolist() == [[0, 0.5, 1], [1, 0.5, 0]]


def test_the_public_phase_of_the_matting_network_swaps_two_classes():
    net = small(trimap="given", order="foreground_unknown")
    with torch.no_grad():
        found = net(with_trimap(0.0, 0.5, 1.0))
    assert (found.alpha[..., 16:32] == 1).all()
    assert torch.equal(found.alpha[..., 32:], found.matting[..., 32:])


def test_public_weights_see_blue_first_and_no_statistics():
    plain, bgr = small(), small(colours="bgr")
    bgr.load_state_dict(plain.state_dict())
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = plain(image * plain.std + plain.mean).semantic
        torch.testing.assert_close(bgr(image.flip(1)).semantic, expected, rtol=1e-4, atol=1e-5)


def test_dropout_is_of_training_alone():
    net, image = small(dropout=0.5), torch.rand(1, 3, 32, 32)
    assert torch.equal(net(image).semantic, net(image).semantic)
    net.semantic.drop.train()
    assert not torch.equal(net(image).semantic, net(image).semantic)


def test_the_hybrid_strategy_runs_it_once():
    net, sizes = small(), []
    net.register_forward_hook(lambda module, given, found: sizes.append(tuple(given[0].shape[2:])))
    image = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        found = Hybrid(semantic_scale=1 / 4, matting_scale=1 / 2)(net, image)
    assert sizes == [(48, 64)]  # its matting network has seen this very trimap
    assert found.alpha.shape == (1, 1, 96, 128)


def test_its_outputs_are_float32_under_autocast():
    net = small()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = net(torch.rand(1, 3, 16, 16))
    assert {found.semantic.dtype, found.alpha.dtype, *(part.dtype for part in found.parts.values())} == {torch.float32}


@pytest.mark.parametrize(
    ("switches", "says"),
    [
        ({"trimap": "drawn"}, "shm's trimap is predicted or given, got 'drawn'"),
        ({"colours": "rgb"}, "shm's colours is imagenet or bgr, got 'rgb'"),
        ({"order": "fg"}, "shm's order is unknown_foreground or foreground_unknown, got 'fg'"),
        ({"width": 0}, "shm's width is a number above 0 and at most 4, got 0"),
        ({"dropout": 1}, "shm's dropout is a share from 0 to below 1, got 1"),
    ],
)
def test_values_that_a_switch_cannot_have_are_refused(switches, says):
    with pytest.raises(AimmatError, match=says):
        SHM(**switches)
