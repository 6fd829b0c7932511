"""Tensors in, tensors out: filters, trimaps, compositing, fusion, losses and metrics, on any device."""

from aimmat.functional.compositing import composite, draw_rssn, rssn
from aimmat.functional.filters import (
    box_blur,
    gaussian_derivative,
    gaussian_kernel,
    laplacian_pyramid,
    separable_filter,
)
from aimmat.functional.fusion import fuse, keep_known, likeliest_class
from aimmat.functional.losses import alpha_loss, composition_loss, laplacian_loss, semantic_loss
from aimmat.functional.metrics import connectivity_error, gradient_error, mad, mse, sad
from aimmat.functional.trimap import generalise, trimap_from_alpha

__all__ = [
    "alpha_loss",
    "box_blur",
    "composite",
    "composition_loss",
    "connectivity_error",
    "draw_rssn",
    "fuse",
    "gaussian_derivative",
    "gaussian_kernel",
    "generalise",
    "gradient_error",
    "keep_known",
    "laplacian_loss",
    "laplacian_pyramid",
    "likeliest_class",
    "mad",
    "mse",
    "rssn",
    "sad",
    "semantic_loss",
    "separable_filter",
    "trimap_from_alpha",
]
