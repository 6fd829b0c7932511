"""Colours of the layers: against the true ones, against pymatting's, and where nothing is known of them."""

from statistics import fmean

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aimmat.data import CutoutScenes, read_manifest
from aimmat.functional import composite, foreground
from aimmat.functional.foreground import blend_foreground, estimate_foreground

WAYS = [estimate_foreground, blend_foreground]


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tensor(picture):
    return torch.from_numpy(np.atleast_3d(picture)).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def scenes():
    """Sample scenes, four of each type, as 8-bit pictures: type, image, alpha, true foreground, background."""
    source = CutoutScenes(read_manifest(), "test", 256, (0.8, 1.0))
    found = {}
    for index in range(0, len(source), 3):
        scene = source.draw(index, np.random.default_rng(index))
        if len(found.setdefault(scene.type, [])) < 4:
            alpha, truth, background = tensor(scene.alpha), tensor(scene.foreground), tensor(scene.background)
            image = composite(truth, background, alpha).mul(255).round().div(255)
            found[scene.type].append((scene.type, image, alpha, truth, background))
    assert [len(found[kind]) for kind in ("SO", "STM", "NS")] == [4, 4, 4]
    return sum(found.values(), [])


@pytest.fixture(scope="module")
def pymatting():
    estimate = pytest.importorskip("pymatting").estimate_foreground_ml

    def as_tensors(image, alpha):
        layers = estimate(image[0].permute(1, 2, 0).numpy(), alpha[0, 0].numpy(), return_background=True)
        return tuple(torch.from_numpy(layer).permute(2, 0, 1)[None] for layer in layers)

    return as_tensors


def apart(colours, others, alpha):
    """Mean difference in the transition, weighted by alpha."""
    weight = alpha * ((alpha > 0) & (alpha < 1))
    return float((weight * (colours - others).abs()).sum() / (3 * weight.sum()))


def errors(way, scenes, spoil=lambda alpha: alpha):
    """Mean difference to the true foreground, one a scene."""
    return [apart(way(image, spoil(alpha))[0], truth, alpha) for _, image, alpha, truth, _ in scenes]


def blurred(alpha):
    return torch.from_numpy(cv2.GaussianBlur(alpha[0, 0].numpy(), (0, 0), 1.5))[None, None]


def noisy(alpha):
    return torch.where((alpha > 0) & (alpha < 1), alpha + 0.15 * (noise(*alpha.shape) - 0.5), alpha).clamp(0, 1)


@pytest.mark.parametrize(
    ("spoil", "most"),
    [(lambda alpha: alpha, 0.97), (blurred, 1.02), (noisy, 1.02), (torch.sqrt, 0.98)],
    ids=["exact", "blurred", "noisy", "too large"],
)
def test_the_true_colours_are_met_as_well_as_by_pymatting_whatever_the_matte(scenes, pymatting, spoil, most):
    assert fmean(errors(estimate_foreground, scenes, spoil)) < most * fmean(errors(pymatting, scenes, spoil))
