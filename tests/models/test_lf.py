import copy
from itertools import pairwise

import pytest
import torch

from aimmat.models import build, count_macs, count_parameters
from aimmat.models.lf import LF, blend
from aimmat.schema import AimmatError

SMALL = {"encoder": "densenet121", "width": 0.0625}


def picture(height=64, width=64, batch=2):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return LF(**SMALL)


def test_parameters_and_where_they_are():
    # Nobody publishes a count: these are this network's own. By hand, of one decoder: laterals w (s + 2) of widths
    # w = 512, 256, 128, 64, 64 over skips s = 1920, 1792, 512, 256, 64; blocks of two 3x3 convolutions and their
    # batch normalisations; heads 9 w + 1.
    with torch.device("meta"):
        net = LF()
    widths, skips = (512, 256, 128, 64, 64), (1920, 1792, 512, 256, 64)
    deeper = (0, 512, 256, 128, 64)
    decoder = sum(
        w * (s + 2) + 9 * w * (w + d) + 9 * w * w + 2 * 2 * w + 9 * w + 1
        for w, s, d in zip(widths, skips, deeper, strict=True)
    )
    assert count_parameters(net.encoder) == 18_092_928
    assert count_parameters(net.foreground) == count_parameters(net.background) == decoder == 9_468_933
    chain = (2 * 64 + 16, 64, 48, 32, 16)
    hidden = sum(9 * before * after + 2 * after for before, after in pairwise(chain))
    assert count_parameters(net.fusion) == hidden + (27 * 16 + 2 * 16) + (9 * 16 + 1) == 129_953
    assert count_parameters(net) == 37_160_747


def test_multiply_accumulates():
    with torch.device("meta"):
        net = LF()
    assert count_macs(net, 320) == pytest.approx(35.6179e9, abs=5e4)  # the last digit that docs/methods.md prints


def test_the_small_encoder_takes_its_own_parameters():
    with torch.device("meta"):
        net = LF(encoder="densenet121")
    assert count_parameters(net.encoder) == 6_953_856
    assert count_parameters(net) == 24_710_955
    assert count_macs(net, 320) == pytest.approx(32.3968e9, abs=5e4)
    assert list(net.backbones()) == ["densenet121"]
    assert list(LF(width=0.01).backbones()) == ["densenet201"]


# blending


@pytest.mark.parametrize(
    ("foreground", "background", "beta", "alpha"),
    [
        (0.9, 0.1, 0.3, 0.9),  # they agree: beta does not matter
        (0.9, 0.1, 1.0, 0.9),
        (0.8, 0.6, 1.0, 0.8),  # the foreground's decoder alone
        (0.8, 0.6, 0.0, 0.4),  # the background's alone
        (0.8, 0.6, 0.25, 0.5),  # 0.25 x 0.8 + 0.75 x 0.4
        (1.0, 1.0, 0.7, 0.7),  # both claim the pixel: beta is the matte
        (0.0, 0.0, 0.7, 0.3),  # neither does
    ],
)
def test_blending_is_the_formula(foreground, background, beta, alpha):
    values = (torch.tensor(value, dtype=torch.float64) for value in (foreground, background, beta))
    assert float(blend(*values)) == pytest.approx(alpha, abs=1e-15)


def test_the_derivative_by_beta_is_how_far_the_decoders_disagree():
    generator = torch.Generator().manual_seed(0)
    foreground, background, beta = torch.rand(3, 1, 1, 8, 8, generator=generator, dtype=torch.float64).unbind()
    background[..., :4] = 1 - foreground[..., :4]  # they agree
    beta.requires_grad_()
    blend(foreground, background, beta).sum().backward()
    torch.testing.assert_close(beta.grad, foreground + background - 1, rtol=0, atol=1e-15)
    assert beta.grad[..., :4].abs().max() < 1e-15
    assert beta.grad[..., 4:].abs().min() > 1e-3


def test_a_matte_lies_between_its_decoders_answers():
    generator = torch.Generator().manual_seed(0)
    foreground, background, beta = torch.rand(3, 100_000, generator=generator)
    alpha, other = blend(foreground, background, beta), 1 - background
    # One float32 step of 1 for each of the three roundings.
    assert (alpha >= torch.minimum(foreground, other) - 2e-7).all()
    assert (alpha <= torch.maximum(foreground, other) + 2e-7).all()
    assert blend(torch.ones(100_000), torch.zeros(100_000), beta).max() <= 1


def test_the_fusion_learns_only_where_the_decoders_disagree(net):
    def gradient(net):
        net.zero_grad()
        (1 - net(picture()).alpha).square().sum().backward()
        return max(float(value.grad.abs().max()) for value in net.fusion.parameters())

    agreeing = copy.deepcopy(net)
    agreeing.background.load_state_dict(agreeing.foreground.state_dict())
    with torch.no_grad():
        for value in agreeing.background.head.parameters():
            value.neg_()  # B = sigmoid(-f) = 1 - F
    assert gradient(net) > 1
    assert gradient(agreeing) < 1e-4 * gradient(net)  # what rounding 1 - F leaves


# prediction


def test_the_prediction_is_the_blend_of_its_parts(net):
    prediction = net(picture(64, 96))
    parts = prediction.parts
    assert prediction.semantic is None
    assert prediction.matting is None
    assert parts["beta"].shape == prediction.alpha.shape == (2, 1, 64, 96)
    mattes = parts["foreground"].sigmoid(), parts["background"].sigmoid(), parts["beta"]
    assert torch.equal(prediction.alpha, blend(*mattes))
    for name in ("foreground", "background"):
        sizes = [tuple(parts[f"{name}_{k}"].shape) for k in (32, 16, 8, 4)]
        assert sizes == [(2, 1, 64 // k, 96 // k) for k in (32, 16, 8, 4)]
    assert len(parts) == 2 * 5 + 1


def test_the_decoders_share_nothing_but_the_encoder(net):
    net.eval()
    image = picture()
    with torch.no_grad():
        before = net(image).parts
        net.background.head.bias.add_(1)
        after = net(image).parts
    assert torch.equal(after["foreground"], before["foreground"])
    assert torch.equal(after["beta"], before["beta"])
    torch.testing.assert_close(after["background"], before["background"] + 1, rtol=0, atol=1e-6)  # one rounding


def test_outputs_are_float32_under_autocast(net):
    with torch.autocast("cpu", torch.bfloat16):
        prediction = net(picture())
    assert {value.dtype for value in (prediction.alpha, *prediction.parts.values())} == {torch.float32}


@pytest.mark.parametrize(
    ("switches", "says"),
    [
        ({"encoder": "resnet50"}, r"lf's encoder is densenet121 or densenet201, got 'resnet50'"),
        ({"width": 0}, r"lf's width is a number above 0 and at most 4, got 0"),
    ],
)
def test_a_switch_that_cannot_be_is_refused(switches, says):
    with pytest.raises(AimmatError, match=says):
        build("lf", **switches)
