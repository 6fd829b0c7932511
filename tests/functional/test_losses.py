import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from aimmat.functional import alpha_loss, composite, composition_loss, laplacian_loss, semantic_loss


def noise(*shape, dtype=torch.float32, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_semantic_loss_is_log_3_without_an_opinion_and_takes_logits():
    target = torch.tensor([0, 1, 2]).view(1, 1, 1, 3)
    assert semantic_loss(torch.zeros(1, 3, 1, 3), target).item() == pytest.approx(math.log(3), abs=1e-6)
    sure = 40 * torch.eye(3).view(1, 3, 1, 3)
    assert semantic_loss(sure, target).item() == pytest.approx(0, abs=1e-6)  # sigmoids in place of logits end at 0.55


def test_semantic_loss_is_cross_entropy():
    logits, target = 4 * noise(2, 3, 5, 6), torch.arange(60).view(2, 1, 5, 6) % 3
    expected = torch.nn.functional.cross_entropy(logits, target[:, 0])
    torch.testing.assert_close(semantic_loss(logits, target), expected)


def test_alpha_loss_counts_the_region_and_one():
    alpha = torch.zeros(2, 1, 2, 2)
    pred = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]).view(2, 1, 2, 2)
    region = (pred > 0.55).clone()
    assert alpha_loss(pred, alpha).item() == pytest.approx(3.6 / 8, abs=1e-6)
    assert alpha_loss(pred, alpha, region).item() == pytest.approx((0.6 + 0.7 + 0.8) / (3 + 1), abs=1e-6)


def test_an_empty_region_costs_nothing():
    empty = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    for loss in (alpha_loss, laplacian_loss):
        assert loss(noise(1, 1, 4, 4), noise(1, 1, 4, 4, seed=1), empty) == 0


def laplacian_oracle(pred, alpha):
    """Two pyramids band by band, with SciPy's Gaussian."""
    total = 0.0
    for _ in range(5):
        smooth_pred, smooth_alpha = (scipy.ndimage.gaussian_filter(image, 1, truncate=2) for image in (pred, alpha))
        total += np.abs((pred - smooth_pred) - (alpha - smooth_alpha)).mean()
        pred, alpha = (
            image.reshape(len(image) // 2, 2, -1, 2).mean(axis=(1, 3)) for image in (smooth_pred, smooth_alpha)
        )
    return total + np.abs(pred - alpha).mean()


def test_laplacian_loss_is_the_difference_of_two_pyramids():
    pred, alpha = (noise(1, 1, 64, 32, dtype=torch.float64, seed=seed) for seed in (0, 1))
    region = noise(1, 1, 64, 32, seed=2) > 0.4
    loss = laplacian_loss(pred, alpha)
    assert loss.item() == pytest.approx(laplacian_oracle(pred[0, 0].numpy(), alpha[0, 0].numpy()), abs=1e-12)
    inside = [(matte * region)[0, 0].numpy() for matte in (pred, alpha)]
    assert laplacian_loss(pred, alpha, region).item() == pytest.approx(laplacian_oracle(*inside), abs=1e-12)


def test_laplacian_loss_of_a_constant_offset_is_in_the_residual_alone():
    assert laplacian_loss(torch.full((2, 1, 50, 33), 0.7), torch.full((2, 1, 50, 33), 0.4)).item() == pytest.approx(
        0.3, abs=1e-5
    )


def test_composition_loss_is_a_mean_over_channels():
    foreground, background = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    image = composite(foreground, background, torch.full((1, 1, 2, 2), 0.5))
    loss = composition_loss(torch.full((1, 1, 2, 2), 0.75), foreground, background, image)
    assert loss.item() == pytest.approx(0.25, abs=1e-6)


REGION = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, 1]]).bool().view(1, 1, 3, 3)


@pytest.mark.parametrize(
    "loss",
    [
        lambda pred: alpha_loss(pred, noise(1, 1, 3, 3, dtype=torch.float64, seed=1)),
        lambda pred: alpha_loss(pred, noise(1, 1, 3, 3, dtype=torch.float64, seed=1), REGION),
        lambda pred: laplacian_loss(pred, noise(1, 1, 3, 3, dtype=torch.float64, seed=1)),
        lambda pred: laplacian_loss(pred, noise(1, 1, 3, 3, dtype=torch.float64, seed=1), REGION),
        lambda pred: composition_loss(pred, *(noise(1, 3, 3, 3, dtype=torch.float64, seed=seed) for seed in (2, 3, 4))),
    ],
)
def test_gradients_are_right(loss):
    assert torch.autograd.gradcheck(loss, noise(1, 1, 3, 3, dtype=torch.float64).requires_grad_())


def test_semantic_gradient_is_right():
    target = torch.tensor([0, 1, 2, 1]).view(1, 1, 2, 2)
    logits = noise(1, 3, 2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: semantic_loss(x, target), logits)


def all_losses(logits, pred, alpha, layers):
    yield semantic_loss(logits, (3 * alpha).long().clamp(max=2))
    for region in (None, alpha > 0.5):
        yield alpha_loss(pred, alpha, region)
        yield laplacian_loss(pred, alpha, region)
    yield composition_loss(pred, *layers, composite(*layers, alpha))


def test_mixed_precision_costs_the_losses_nothing():
    logits, pred = noise(2, 3, 16, 16).bfloat16(), noise(2, 1, 16, 16, seed=1).bfloat16()
    alpha, layers = noise(2, 1, 16, 16, seed=2), noise(2, 2, 3, 16, 16, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = list(all_losses(logits, pred, alpha, layers))
    for loss, exact in zip(mixed, all_losses(logits.float(), pred.float(), alpha, layers), strict=True):
        assert loss.dtype == torch.float32
        assert torch.equal(loss, exact)


def test_gradients_are_finite_where_the_prediction_is_right():
    alpha, layers = noise(1, 1, 16, 16), noise(2, 1, 3, 16, 16, seed=3)
    pred = alpha.clone().requires_grad_()
    sum(all_losses(torch.zeros(1, 3, 16, 16), pred, alpha, layers)).backward()
    assert pred.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: semantic_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4).long()), "resize the target"),
        (lambda: alpha_loss(torch.zeros(4, 4), torch.zeros(4, 4)), r"got \(4, 4\) and \(4, 4\)"),
        (lambda: laplacian_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5)), r"got .* \(1, 1, 4, 5\)"),
        (lambda: alpha_loss(*torch.zeros(2, 1, 1, 4, 4), torch.zeros(4, 4)), r"region .* got \(4, 4\)"),
        (
            lambda: composition_loss(torch.zeros(1, 1, 4, 4), *torch.zeros(2, 1, 3, 4, 4), torch.zeros(3, 4, 4)),
            r"image must have .* got \(3, 4, 4\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
