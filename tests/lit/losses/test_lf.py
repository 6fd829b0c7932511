"""The loss of late fusion by hand."""

from math import log

import pytest
import torch

from aimmat.lit.losses import LFLoss
from aimmat.lit.losses.lf import segmentation_loss
from aimmat.models.lf import LF
from aimmat.schema import AimmatError, Prediction


def of_row(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def logit(*probabilities):
    return torch.logit(of_row(*probabilities))


def made(alpha, size=32, batch=2, **parts):
    """A prediction of LF: a fused alpha, and logits of 0 everywhere else."""
    shape = batch, 1, size, size
    names = [f"{name}{k}" for name in ("foreground", "background") for k in ("", "_32", "_16", "_8", "_4")]
    zeros = {name: torch.zeros(batch, 1, *[size // int(name.partition("_")[2] or 1)] * 2) for name in names}
    return Prediction(None, None, torch.full(shape, alpha), zeros | parts)


# one decoder


def test_a_solid_pixel_counts_by_cross_entropy_and_square():
    # One pixel: no neighbours, so no gradient.
    assert float(segmentation_loss(logit(0.8), of_row(1.0))) == pytest.approx(-log(0.8) + 0.2**2)
    assert float(segmentation_loss(logit(0.3), of_row(0.0))) == pytest.approx(-log(0.7) + 0.3**2)


def test_a_transition_pixel_counts_by_half_the_cross_entropy_and_its_difference():
    entropy = -(0.6 * log(0.9) + 0.4 * log(0.1))
    assert float(segmentation_loss(logit(0.9), of_row(0.6))) == pytest.approx(0.5 * entropy + 0.3)


def test_gradients_are_compared_along_rows_and_columns():
    # Solid pixels predicted as 0.5: alpha = 1, 0, 1, 0 has differences of -1, 1, -1, the prediction has none.
    row = float(segmentation_loss(torch.zeros(1, 1, 1, 4, dtype=torch.float64), of_row(1, 0, 1, 0)))
    assert row == pytest.approx(log(2) + 0.5**2 + 3 / 4)
    column = float(segmentation_loss(torch.zeros(1, 1, 4, 1, dtype=torch.float64), of_row(1, 0, 1, 0).mT))
    assert column == pytest.approx(row)


def test_a_constant_shift_has_no_gradient_term():
    alpha = of_row(0.2, 0.4, 0.6)
    prediction = alpha + 0.1
    entropy = -(alpha * prediction.log() + (1 - alpha) * (1 - prediction).log()).mean()
    assert float(segmentation_loss(torch.logit(prediction), alpha)) == pytest.approx(float(0.5 * entropy) + 0.1)


def test_the_best_answer_is_alpha_itself():
    alpha = of_row(0.2, 0.7, 0.7, 0.4)
    at_best = float(segmentation_loss(torch.logit(alpha), alpha))
    assert at_best == pytest.approx(float(-(alpha * alpha.log() + (1 - alpha) * (1 - alpha).log()).mean()) / 2)
    for shift in (-0.05, 0.05):
        assert float(segmentation_loss(torch.logit(alpha + shift), alpha)) > at_best + 0.04


def test_pictures_count_alike():
    generator = torch.Generator().manual_seed(0)
    logits, alpha = torch.randn(2, 1, 8, 8, generator=generator), torch.rand(2, 1, 8, 8, generator=generator)
    each = torch.stack([segmentation_loss(logits[i : i + 1], alpha[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(segmentation_loss(logits, alpha), each.mean())


# the terms


def test_the_background_learns_one_minus_alpha():
    generator = torch.Generator().manual_seed(0)
    alpha, logits = torch.rand(2, 1, 32, 32, generator=generator), torch.randn(2, 1, 32, 32, generator=generator)
    terms = LFLoss()(made(0.5, foreground=logits, background=-logits), {"alpha": alpha})
    torch.testing.assert_close(terms["foreground"], segmentation_loss(logits, alpha))
    torch.testing.assert_close(terms["background"], terms["foreground"])


def test_the_fused_alpha_counts_a_tenth_where_the_truth_is_solid():
    alpha = torch.zeros(2, 1, 32, 32)
    alpha[1] = 0.5  # one picture is all solid, one all transition
    terms = LFLoss()(made(0.25), {"alpha": alpha})
    assert float(terms["fusion"]) == pytest.approx((0.1 * 0.25 + 0.25) / 2)


def test_the_sides_see_the_mean_of_what_their_pixels_cover():
    alpha = torch.zeros(1, 1, 32, 32)
    alpha[..., 16:] = 1  # solid from 1/16 on, one pixel of 0.5 at 1/32
    terms = LFLoss()(made(0.0, batch=1), {"alpha": alpha})
    # Logits of 0: both probabilities are 0.5. At 1/32 nothing is wrong but the entropy, which counts half. At 1/k a row
    # has n = 32 / k pixels and one difference of 1.
    losses = [log(2) / 2] + [log(2) + 0.25 + 1 / n for n in (2, 4, 8)]
    assert float(terms["sides"]) == pytest.approx(2 * sum(losses) / 4, rel=1e-6)


def test_weights_scale_their_terms_and_zero_leaves_them_out():
    batch = {"alpha": torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))}
    plain = LFLoss()(made(0.3), batch)
    assert list(plain) == ["foreground", "background", "sides", "fusion"]
    doubled = LFLoss(segmentation=2, sides=3, fusion=4)(made(0.3), batch)
    for name, factor in {"foreground": 2, "background": 2, "sides": 3, "fusion": 4}.items():
        torch.testing.assert_close(doubled[name], factor * plain[name])
    assert list(LFLoss(fusion=0)(made(0.3), batch)) == ["foreground", "background", "sides"]
    assert list(LFLoss(segmentation=0, sides=0)(made(0.3), batch)) == ["fusion"]


@pytest.mark.parametrize(
    ("weights", "silent"),
    [
        ({"fusion": 0}, ["fusion"]),
        ({"segmentation": 0, "sides": 0}, ["foreground.sides", "background.sides"]),
        ({}, []),
    ],
)
def test_each_stage_teaches_its_own_parts(weights, silent):
    torch.manual_seed(0)
    net = LF(encoder="densenet121", width=0.01)
    sum(LFLoss(**weights)(net(torch.rand(2, 3, 64, 64)), {"alpha": torch.rand(2, 1, 64, 64)}).values()).backward()
    untaught = [name for name, value in net.named_parameters() if value.grad is None]
    assert untaught == [name for name, _ in net.named_parameters() if name.startswith(tuple(silent))]


def test_another_network_is_refused():
    alpha = torch.zeros(1, 1, 32, 32)
    with pytest.raises(AimmatError, match="two decoders, foreground and background, which this network does not have"):
        LFLoss()(Prediction(None, None, alpha), {"alpha": alpha})
