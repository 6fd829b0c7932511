"""The traditional trimap of a matte and the generalised trimap of equation 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aimmat.schema import ImageType, SemanticClass

HALF_GREY_LEVEL = 0.5 / 255


def trimap_from_alpha(alpha: Tensor, kernel: int) -> Tensor:
    """Traditional trimap: opaque pixels eroded, clear pixels eroded, and the transition between them.

    Opaque is what rounds to 255 of 255, clear what rounds to 0. What lies outside the picture erodes nothing.

    Args:
        alpha: alpha matte, (B, 1, H, W), values in [0, 1].
        kernel: diameter of the elliptic structuring element in pixels, at least 1. The element is centred: an even
            diameter means the odd one above it, where OpenCV cuts the last row and column off and shifts by a pixel.

    Returns:
        (B, 1, H, W) int64 class index: 0 background, 1 transition, 2 foreground.

    Raises:
        ValueError: alpha is not a matte (B, 1, H, W), or the kernel is below 1 pixel.

    Source:
        AIM paper, section 3.2, which names no kernel; the released code erodes and dilates with OpenCV's ellipse of
        30 pixels (10 for DUTS).

    >>> trimap_from_alpha(torch.tensor([[[[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]]]), kernel=3)
    tensor([[[[0, 0, 1, 1, 2, 2]]]])
    """
    _check_map("alpha", alpha)
    if kernel < 1:
        raise ValueError(f"kernel must be at least 1 pixel, got {kernel}; 1 erodes nothing")
    radius = kernel // 2
    not_foreground = _dilate(alpha < 1 - HALF_GREY_LEVEL, radius)
    not_background = _dilate(alpha > HALF_GREY_LEVEL, radius)
    return not_background.long() + ~not_foreground


def generalise(trimap: Tensor, image_type: Tensor) -> Tensor:
    """Trimap, duomap or unimap, by the type of the image: equation 1 on class indices.

    SO keeps its trimap; STM has no explicit foreground, which becomes transition; NS is all transition.

    Args:
        trimap: traditional trimap, (B, 1, H, W) int64 class index.
        image_type: (B,) int64, `ImageType.number`.

    Returns:
        (B, 1, H, W) int64 class index.

    Raises:
        ValueError: the trimap is not (B, 1, H, W), or there is not one type an image.

    Source:
        AIM paper, section 3.2, equation 1.

    >>> trimap = torch.tensor([[[[0, 1, 2]]]]).expand(3, 1, 1, 3)
    >>> generalise(trimap, torch.tensor([0, 1, 2])).tolist()  # SO, STM, NS
    [[[[0, 1, 2]]], [[[0, 1, 1]]], [[[1, 1, 1]]]]
    """
    _check_map("trimap", trimap)
    if image_type.shape != trimap.shape[:1]:
        raise ValueError(
            f"image_type must hold one ImageType.number an image, ({len(trimap)},), got {tuple(image_type.shape)}; "
            f"a single image needs a batch of one"
        )
    kind = image_type.view(-1, 1, 1, 1)
    transition = SemanticClass.TRANSITION
    trimap = torch.where(kind == ImageType.STM.number, trimap.clamp(max=transition), trimap)
    return trimap.masked_fill(kind == ImageType.NS.number, transition)


def _check_map(name: str, value: Tensor) -> None:
    if value.dim() != 4 or value.shape[1] != 1:
        raise ValueError(
            f"{name} must have shape (B, 1, H, W), got {tuple(value.shape)}; a bare (H, W) one becomes that with "
            f"{name}[None, None]"
        )


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """Dilate a bool mask by OpenCV's ellipse of 2 * radius + 1 pixels, from its shortest row to its longest."""
    dilated = torch.zeros_like(mask)
    line, reach = mask, 0  # the mask dilated along its rows alone
    for row in range(radius, -1, -1):
        goal = round(math.sqrt(radius**2 - row**2))
        while reach < goal:
            step = min(goal - reach, 2 * reach + 1)
            line, reach = _spread(line.clone(), line, step, -1), reach + step
        _spread(dilated, line, row, -2)
    return dilated


def _spread(target: Tensor, mask: Tensor, step: int, dim: int) -> Tensor:
    """Set what the mask, shifted by step pixels to either side, sets."""
    size = target.shape[dim]
    kept = max(size - step, 0)
    target.narrow(dim, size - kept, kept).bitwise_or_(mask.narrow(dim, 0, kept))
    target.narrow(dim, 0, kept).bitwise_or_(mask.narrow(dim, size - kept, kept))
    return target
