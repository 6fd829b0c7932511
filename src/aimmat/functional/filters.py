"""Separable filters of the metrics, the Laplacian loss and compositing: Gaussian, its derivative, box, pyramid.

Beyond its border a picture goes on as its mirror image, edge pixel included (SciPy calls this "reflect"). Filters are
sums of shifted copies, not convolutions: those fall to bfloat16 under autocast and to TF32 on a GPU, and on a CPU a
convolution with one channel takes five to ten times as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_kernel(sigma: float, truncate: float = 4.0) -> list[float]:
    """Gaussian weights that sum to 1.

    Args:
        sigma: standard deviation in pixels, above 0.
        truncate: radius of the kernel in standard deviations, rounded to whole pixels as SciPy does.

    Returns:
        2 * radius + 1 weights, radius = int(truncate * sigma + 0.5).

    Raises:
        ValueError: sigma is not above 0.

    >>> [round(weight, 4) for weight in gaussian_kernel(1.0, truncate=2.0)]
    [0.0545, 0.2442, 0.4026, 0.2442, 0.0545]
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0 pixels, got {sigma}; to leave a picture as it is, do not filter it")
    radius = int(truncate * sigma + 0.5)
    weights = [math.exp(-0.5 * (x / sigma) ** 2) for x in range(-radius, radius + 1)]
    return [weight / sum(weights) for weight in weights]


def gaussian_derivative(image: Tensor, sigma: float = 1.4) -> tuple[Tensor, Tensor]:
    """Derivative of a Gaussian-smoothed image down its rows and along its columns.

    Args:
        image: (B, C, H, W), any size, also smaller than the kernel.
        sigma: standard deviation in pixels; 1.4 is that of the gradient error.

    Returns:
        (dy, dx), each (B, C, H, W), change per pixel: positive where values grow downwards, to the right.

    Source:
        Rhemann et al., CVPR 2009 (the gradient error); equals `scipy.ndimage.gaussian_filter` of order (1, 0) and
        (0, 1) with its default truncation (4 sigma) and border ("reflect").
    """
    smooth = gaussian_kernel(sigma)
    radius = len(smooth) // 2
    slope = [(i - radius) / sigma**2 * weight for i, weight in enumerate(smooth)]
    return separable_filter(image, slope, smooth), separable_filter(image, smooth, slope)


def separable_filter(image: Tensor, vertical: Sequence[float], horizontal: Sequence[float]) -> Tensor:
    """Correlate every channel with the kernel vertical x horizontal.

    Args:
        image: (B, C, H, W) floating point, any size, also smaller than the kernel.
        vertical: an odd number of weights, applied down the columns.
        horizontal: an odd number of weights, applied along the rows.

    Returns:
        (B, C, H, W), in the precision of the input.

    Raises:
        ValueError: the image is not a floating point (B, C, H, W), or a kernel has an even length.
    """
    _check_image(image)
    for kernel in (vertical, horizontal):
        if len(kernel) % 2 == 0:
            raise ValueError(f"a kernel must have an odd length, got {len(kernel)}; add a zero at one of its ends")
    return _correlate(_correlate(image, vertical, -2), horizontal, -1)


def box_blur(image: Tensor, sizes: Sequence[float]) -> Tensor:
    """Mean over a centred square window, whose size differs from sample to sample.

    The window has real size: one of 4 pixels holds 3 whole pixels and half of one on either side, so nothing shifts
    by half a pixel as it does with OpenCV's even kernels. A size of 1 or less changes nothing.

    Args:
        image: (B, C, H, W) floating point.
        sizes: the width of each sample's window in pixels, whole or not, also larger than the image.

    Returns:
        (B, C, H, W), in the precision of the input; a sample does not depend on the batch it comes in.

    Raises:
        ValueError: the image is not a floating point (B, C, H, W), or there is not one size a sample.

    >>> box_blur(torch.tensor([[[[0.0, 0.0, 1.0, 0.0]]]]), [3])
    tensor([[[[0.0000, 0.3333, 0.3333, 0.3333]]]])
    """
    _check_image(image)
    if len(sizes) != len(image):
        raise ValueError(
            f"sizes must hold one window width a sample, got {len(sizes)} for {len(image)}; "
            f"give every sample the same with [width] * len(image)"
        )
    return torch.cat([_box_mean(_box_mean(image[i : i + 1], size, -2), size, -1) for i, size in enumerate(sizes)])


def laplacian_pyramid(image: Tensor, levels: int = 5) -> list[Tensor]:
    """Split an image into bands of detail, finest first, and what is left of it.

    A band is the image minus its Gaussian smoothing (sigma 1, 5 x 5); the next level is that smoothing at half size
    (means of 2 x 2). The split is linear: the pyramid of a difference is the difference of the pyramids.

    Args:
        image: (B, C, H, W) floating point, any size.
        levels: number of bands.

    Returns:
        levels + 1 tensors: bands (B, C, ceil(H / 2**k), ceil(W / 2**k)), k = 0 ... levels - 1, then the residual.

    Raises:
        ValueError: the image is not a floating point (B, C, H, W).

    Source:
        Hou and Liu, ICCV 2019, five levels. The released code of the AIM paper adds the two profiles of the kernel
        where a Gaussian multiplies them; this is the Gaussian.
    """
    kernel = gaussian_kernel(1.0, truncate=2.0)
    bands = []
    for _ in range(levels):
        smooth = separable_filter(image, kernel, kernel)
        bands.append(image - smooth)
        image = F.avg_pool2d(smooth, 2, ceil_mode=True)
    return [*bands, image]


def _check_image(image: Tensor) -> None:
    if image.dim() != 4 or not image.is_floating_point():
        raise ValueError(
            f"image must be floating point of shape (B, C, H, W), got {image.dtype} of shape {tuple(image.shape)}; "
            f"an 8-bit image becomes one with image / 255, a bare (H, W) one with image[None, None]"
        )


def _box_mean(image: Tensor, size: float, dim: int) -> Tensor:
    """Mean over a window of real size along one side: whole pixels, and what it covers of the two outermost ones."""
    radius = math.ceil((size - 1) / 2)
    if radius <= 0:
        return image
    whole, length = 2 * radius - 1, image.shape[dim]
    end = (size - whole) / 2
    padded = _mirror(image, radius, dim)
    window = (whole, 1) if dim == -2 else (1, whole)
    inner = F.avg_pool2d(padded.narrow(dim, 1, length + whole - 1), window, stride=1)
    outer = padded.narrow(dim, 0, length) + padded.narrow(dim, 2 * radius, length)
    return inner * (whole / size) + outer * (end / size)


def _correlate(image: Tensor, kernel: Sequence[float], dim: int) -> Tensor:
    size, radius = image.shape[dim], len(kernel) // 2
    padded = _mirror(image, radius, dim)
    total = padded.narrow(dim, 0, size) * kernel[0]
    for i in range(1, len(kernel)):
        total.add_(padded.narrow(dim, i, size), alpha=kernel[i])
    return total


def _mirror(image: Tensor, radius: int, dim: int) -> Tensor:
    """The image with its first and last lines repeated in reverse on either side."""
    size = image.shape[dim]
    if radius <= size:
        before, after = image.narrow(dim, 0, radius), image.narrow(dim, size - radius, radius)
        return torch.cat([before.flip(dim), image, after.flip(dim)], dim)
    index = torch.arange(-radius, size + radius, device=image.device) % (2 * size)
    return image.index_select(dim, torch.minimum(index, 2 * size - 1 - index))
