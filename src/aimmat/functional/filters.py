"""Separable filters of the metrics, the Laplacian loss and compositing: Gaussian, its derivative, box, pyramid.

Beyond its border a picture goes on as its mirror image, edge pixel included (SciPy calls this "reflect"). Filters are
sums of shifted copies, not convolutions: those fall to bfloat16 under autocast and to TF32 on a GPU, and on a CPU a
convolution with one channel takes five to ten times as long. The Gaussian's derivative is a product of matrices in
float64, which nothing rounds on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aimmat.schema import Protocol, is_release

_LINES = 8  # that one product of matrices filters: fewer make small products, more of them multiply by zeros


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
        image: (B, C, H, W) floating point, any size, also smaller than the kernel.
        sigma: standard deviation in pixels; 1.4 is that of the gradient error.

    Returns:
        (dy, dx), each (B, C, H, W), change per pixel: positive where values grow downwards, to the right. Computed in
        float64, where the device has it, and returned in the precision of the input.

    Raises:
        ValueError: sigma is not above 0, or the image is not a floating point (B, C, H, W).

    Source:
        Rhemann et al., CVPR 2009 (the gradient error); equals `scipy.ndimage.gaussian_filter` of order (1, 0) and
        (0, 1) with its default truncation (4 sigma) and border ("reflect").
    """
    _check_image(image)
    with torch.autocast(image.device.type, enabled=False):
        bands = [list(derivative_bands(plane, sigma)) for plane in image.flatten(0, 1)]
    dy, dx = torch.empty(2, *image.shape, dtype=image.dtype, device=image.device)
    for derivative, place in ((dy, 0), (dx, 1)):
        for plane, parts in zip(derivative.flatten(0, 1), bands, strict=True):
            top = 0
            for part in parts:
                lay_out(part[place], plane[top : (top := top + part[place].shape[1])])
    return dy, dx


def derivative_bands(
    plane: Tensor,
    sigma: float = 1.4,
    truncate: float = 4.0,
    border: Literal["reflect", "nearest"] = "reflect",
    stored: torch.dtype | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """What `gaussian_derivative` makes of one plane, some rows at a time, so that a large one needs little memory.

    Eight lines are filtered at a time, by a product with a banded matrix: as exact as sums of shifted copies in
    float64, and twice as fast.

    Args:
        plane: (H, W) floating point, any size, without autocast.
        sigma: standard deviation in pixels.
        truncate: radius of the kernel in standard deviations, as `gaussian_kernel` takes it.
        border: how the plane goes on beyond its border, in SciPy's words: mirrored, or with its outermost pixel.
        stored: the precision that what is smoothed down the columns is rounded to before its slope along the rows is
            taken, as SciPy does with its `output`; None does not round. The roundings of slopes, which are as small as
            slopes, are left out.

    Yields:
        (dy, dx) of the next rows, from top to bottom, float64 (float32 on devices without), in blocks of eight
        columns, (blocks, rows, 8), as `lay_out` takes them. Both sides are padded to whole blocks.
    """
    (height, width), device, precision = plane.shape, plane.device, widest_float(plane.device)
    kernels = derivative_kernels(sigma, truncate)
    radius = len(kernels[0]) // 2
    smooth, slope = (_banded(torch.tensor(kernel, dtype=precision, device=device)) for kernel in kernels)
    rows, columns = (_beyond(size, radius, border, device) for size in plane.shape)
    window = _LINES + 2 * radius
    step = len(rows) - 2 * radius
    if device.type == "cpu":  # what fits the cache of a core
        step = min(step, max(4, 2**17 // width // _LINES) * _LINES)
    padded = torch.empty(step + 2 * radius, len(columns), dtype=precision, device=device)
    for top in range(0, height, step):
        lines = rows[top : top + step + 2 * radius]
        inside = radius <= top <= height - step - radius
        band = padded[: len(lines)]
        band[:, radius : radius + width] = (
            plane[top - radius :][: len(lines)] if inside else plane.index_select(0, lines)
        )
        for beyond in (slice(0, radius), slice(radius + width, None)):
            band[:, beyond] = band.index_select(1, radius + columns[beyond])
        windows = band.unfold(0, window, _LINES).mT  # (n, window, padded width)
        derivatives = []
        for down, along in ((slope, smooth), (smooth, slope)):
            passed = down @ windows
            if stored is not None and down is smooth:
                passed.copy_(passed.to(stored))
            derivatives.append(passed.flatten(0, 1).unfold(1, window, _LINES).transpose(0, 1) @ along.mT)
        yield derivatives[0], derivatives[1]


def lay_out(blocks: Tensor, out: Tensor) -> None:
    """Write blocks of eight columns, (blocks, rows, 8), side by side into out, (rows, W), without what pads them."""
    rows, width = out.shape
    whole = width // _LINES * _LINES
    out[:, :whole].view(rows, whole // _LINES, _LINES).copy_(blocks[: whole // _LINES, :rows].transpose(0, 1))
    if whole < width:
        out[:, whole:] = blocks[-1, :rows, : width - whole]


def derivative_kernels(sigma: float, truncate: float = 4.0) -> tuple[list[float], list[float]]:
    """The two profiles of a Gaussian's derivative: across the direction of the derivative, and along it.

    Args:
        sigma: standard deviation in pixels, above 0.
        truncate: as `gaussian_kernel` takes it.

    Returns:
        The Gaussian, and its derivative as weights to correlate with: positive where values grow.

    Raises:
        ValueError: sigma is not above 0.
    """
    smooth = gaussian_kernel(sigma, truncate)
    radius = len(smooth) // 2
    return smooth, [(i - radius) / sigma**2 * weight for i, weight in enumerate(smooth)]


def widest_float(device: torch.device) -> torch.dtype:
    """The most precise floats of a device: Apple's MPS has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


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


def laplacian_pyramid(image: Tensor, levels: int = 5, protocol: Protocol = "paper") -> list[Tensor]:
    """Split an image into bands of detail, finest first, and what is left of it.

    A band is the image minus its Gaussian smoothing (sigma 1, 5 x 5); the next level is that smoothing at half size
    (means of 2 x 2). The split is linear: the pyramid of a difference is the difference of the pyramids.

    Args:
        image: (B, C, H, W) floating point, any size.
        levels: number of bands.
        protocol: "release" smooths with the released code's 5 x 5 kernel, proportional to exp(-x^2) + exp(-y^2): it
            squares the profiles and adds them where a Gaussian multiplies them. Beyond the border its picture goes
            on with the outermost value, and its halves drop the last line of an odd side.

    Returns:
        levels + 1 tensors: bands (B, C, ceil(H / 2**k), ceil(W / 2**k)), k = 0 ... levels - 1, then the residual. The
        release rounds down.

    Raises:
        AimmatError: an unknown protocol.
        ValueError: the image is not a floating point (B, C, H, W), or too small to be halved so often and rounded down.

    Source:
        Hou and Liu, ICCV 2019, five levels; release: core/evaluate.py, `build_gauss_kernel` and `laplacian_pyramid`.
    """
    _check_image(image)
    release = is_release(protocol)
    if release and min(image.shape[-2:]) < 2**levels:
        raise ValueError(
            f"both sides must be {2**levels} pixels or more to be halved {levels} times as the release does, "
            f"got {image.shape[-2]} x {image.shape[-1]}; use larger pictures or protocol=paper"
        )
    kernel = gaussian_kernel(1.0, truncate=2.0)
    bands = []
    for _ in range(levels):
        smooth = _smooth_as_released(image) if release else separable_filter(image, kernel, kernel)
        bands.append(image - smooth)
        image = F.avg_pool2d(smooth, 2, ceil_mode=not release)
    return [*bands, image]


def _smooth_as_released(image: Tensor) -> Tensor:
    """Half a squared profile down the columns and flat along the rows, half the other way round."""
    profile, flat = gaussian_kernel(0.5**0.5, truncate=2.0 * 2**0.5), [0.2] * 5
    padded = F.pad(image, (2, 2, 2, 2), mode="replicate")
    return (
        _weighted(_weighted(padded, profile, -2), flat, -1) + _weighted(_weighted(padded, flat, -2), profile, -1)
    ) / 2


def _banded(kernel: Tensor) -> Tensor:
    """The matrix that correlates lines with a kernel, (lines, lines + len(kernel) - 1)."""
    columns = _LINES + len(kernel) - 1
    return F.pad(kernel, (0, _LINES)).repeat(_LINES)[: _LINES * columns].view(_LINES, columns)


def _beyond(size: int, radius: int, border: str, device: torch.device) -> Tensor:
    """Which line stands at each place of a side from -radius on, up to radius past a whole number of blocks."""
    place = torch.arange(-radius, -(-size // _LINES) * _LINES + radius, device=device)
    if border == "nearest":
        return place.clamp(0, size - 1)
    place %= 2 * size
    return torch.minimum(place, 2 * size - 1 - place)


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
    inner = _window_sum(padded.narrow(dim, 1, length + whole - 1), whole, dim)
    outer = padded.narrow(dim, 0, length) + padded.narrow(dim, 2 * radius, length)
    return inner / size + outer * (end / size)


def _window_sum(padded: Tensor, width: int, dim: int) -> Tensor:
    """Sum over a window at every place where it fits, put together from windows of 1, 2, 4, ... pixels.

    A mean by `avg_pool2d` visits every pixel of the window: it takes five times as long for one of 20 on a CPU.
    """
    length = padded.shape[dim] - width + 1
    power, size, start = padded, 1, 0
    parts = []
    while True:
        if width & size:
            parts.append(power.narrow(dim, start, length))
            start += size
        if start == width:
            return sum(parts[1:], parts[0])
        kept = power.shape[dim] - size
        power, size = power.narrow(dim, 0, kept) + power.narrow(dim, size, kept), 2 * size


def _correlate(image: Tensor, kernel: Sequence[float], dim: int) -> Tensor:
    return _weighted(_mirror(image, len(kernel) // 2, dim), kernel, dim)


def _weighted(padded: Tensor, kernel: Sequence[float], dim: int) -> Tensor:
    """The kernel at every place where it fits: a side loses len(kernel) - 1 pixels."""
    size = padded.shape[dim] - len(kernel) + 1
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
