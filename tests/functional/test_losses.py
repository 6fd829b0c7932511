import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from aimmat.functional import (
    alpha_loss,
    composite,
    composition_loss,
    laplacian_loss,
    laplacian_pyramid,
    semantic_loss,
)
from aimmat.schema import PROTOCOLS, AimmatError


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


def test_the_releases_semantic_loss_is_cross_entropy_on_sigmoids():
    logits, target = (8 * noise(2, 3, 5, 6, dtype=torch.float64) - 4), torch.arange(60).view(2, 1, 5, 6) % 3
    sigmoids = 1 / (1 + np.exp(-logits.numpy()))
    odds = np.exp(sigmoids) / np.exp(sigmoids).sum(axis=1, keepdims=True)
    expected = -np.log(np.take_along_axis(odds, target.numpy(), axis=1)).mean()
    assert semantic_loss(logits, target, "release").item() == pytest.approx(expected, abs=1e-12)
    sure = 40 * (2 * torch.eye(3) - 1).view(1, 3, 1, 3)
    floor = semantic_loss(sure, torch.tensor([0, 1, 2]).view(1, 1, 1, 3), "release").item()
    assert floor == pytest.approx(math.log(1 + 2 / math.e), abs=1e-6)  # 0.5514


def test_the_releases_alpha_loss_adds_a_millionth_for_each_pixel_outside():
    alpha, pred = noise(2, 1, 9, 7, dtype=torch.float64), noise(2, 1, 9, 7, dtype=torch.float64, seed=1)
    region = noise(2, 1, 9, 7, seed=2) > 0.4
    difference = np.where(region.numpy(), pred.numpy() - alpha.numpy(), 0)
    expected = np.sqrt(difference**2 + 1e-12).sum() / (region.sum().item() + 1)
    assert alpha_loss(pred, alpha, region, "release").item() == pytest.approx(expected, abs=1e-15)
    outside = region.numel() - region.sum().item()
    added = (alpha_loss(pred, alpha, region, "release") - alpha_loss(pred, alpha, region)).item()
    assert added == pytest.approx(outside * 1e-6 / (region.sum().item() + 1), rel=1e-6)
    assert alpha_loss(pred, alpha, protocol="release") == alpha_loss(pred, alpha)


def test_the_releases_laplacian_loss_is_the_difference_of_its_two_pyramids():
    pred, alpha = (noise(2, 1, 70, 33, dtype=torch.float64, seed=seed) for seed in (0, 1))
    region = noise(2, 1, 70, 33, seed=2) > 0.4
    for mask in (None, region):
        ours, theirs = (laplacian_pyramid(m if mask is None else m * mask, protocol="release") for m in (pred, alpha))
        expected = sum((a - b).abs().mean().item() for a, b in zip(ours, theirs, strict=True))
        assert laplacian_loss(pred, alpha, mask, "release").item() == pytest.approx(expected, abs=1e-12)


def test_the_releases_composition_loss_sums_normalised_channels():
    alpha, truth = noise(2, 1, 6, 5, dtype=torch.float64), noise(2, 1, 6, 5, dtype=torch.float64, seed=1)
    layers = [noise(2, 3, 6, 5, dtype=torch.float64, seed=seed) for seed in (2, 3)]
    mean, std = (np.reshape(v, (3, 1, 1)) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    image, foreground, background = ((x.numpy() - mean) / std for x in (composite(*layers, truth), *layers))
    predicted = alpha.numpy() * foreground + (1 - alpha.numpy()) * background
    expected = np.sqrt((predicted - image) ** 2 + 1e-12).sum() / (2 * 6 * 5)
    loss = composition_loss(alpha, *layers, composite(*layers, truth), "release")
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    white, black = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    most = composition_loss(torch.ones(1, 1, 2, 2), white, black, black, "release")
    assert most.item() == pytest.approx(1 / 0.229 + 1 / 0.224 + 1 / 0.225, rel=1e-6)  # 13.3


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
        lambda pred: alpha_loss(pred, noise(1, 1, 3, 3, dtype=torch.float64, seed=1), REGION, "release"),
        lambda pred: composition_loss(
            pred, *(noise(1, 3, 3, 3, dtype=torch.float64, seed=seed) for seed in (2, 3, 4)), "release"
        ),
    ],
)
def test_gradients_are_right(loss):
    assert torch.autograd.gradcheck(loss, noise(1, 1, 3, 3, dtype=torch.float64).requires_grad_())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_semantic_gradient_is_right(protocol):
    target = torch.tensor([0, 1, 2, 1]).view(1, 1, 2, 2)
    logits = noise(1, 3, 2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: semantic_loss(x, target, protocol), logits)


def all_losses(logits, pred, alpha, layers, protocol):
    yield semantic_loss(logits, (3 * alpha).long().clamp(max=2), protocol)
    for region in (None, alpha > 0.5):
        yield alpha_loss(pred, alpha, region, protocol)
        yield laplacian_loss(pred, alpha, region, protocol)
    yield composition_loss(pred, *layers, composite(*layers, alpha), protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mixed_precision_costs_the_losses_nothing(protocol):
    logits, pred = noise(2, 3, 32, 32).bfloat16(), noise(2, 1, 32, 32, seed=1).bfloat16()
    alpha, layers = noise(2, 1, 32, 32, seed=2), noise(2, 2, 3, 32, 32, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = list(all_losses(logits, pred, alpha, layers, protocol))
    for loss, exact in zip(mixed, all_losses(logits.float(), pred.float(), alpha, layers, protocol), strict=True):
        assert loss.dtype == torch.float32
        assert torch.equal(loss, exact)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gradients_are_finite_where_the_prediction_is_right(protocol):
    alpha, layers = noise(1, 1, 32, 32), noise(2, 1, 3, 32, 32, seed=3)
    pred = alpha.clone().requires_grad_()
    sum(all_losses(torch.zeros(1, 3, 32, 32), pred, alpha, layers, protocol)).backward()
    assert pred.grad.isfinite().all()


FLAT = torch.zeros(1, 1, 4, 4)


@pytest.mark.parametrize(
    "loss",
    [
        lambda: semantic_loss(FLAT.expand(1, 3, 4, 4), FLAT.long(), "relaese"),
        lambda: alpha_loss(FLAT, FLAT, None, "relaese"),
        lambda: laplacian_loss(FLAT, FLAT, None, "relaese"),
        lambda: composition_loss(FLAT, *3 * [FLAT.expand(1, 3, 4, 4)], "relaese"),
    ],
)
def test_an_unknown_protocol_is_named(loss):
    with pytest.raises(AimmatError, match="protocol must be paper or release, got 'relaese'"):
        loss()


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
