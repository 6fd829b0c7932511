"""Resizing of pictures and maps, as the paper's side of the project does it and as the release's library did."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from aimmat.schema import Protocol, is_release


def resize(maps: Tensor, size: tuple[int, int], protocol: Protocol = "paper") -> Tensor:
    """Resize bilinearly; a pixel's value stands at its centre.

    Args:
        maps: (B, C, h, w) floating point.
        size: (H, W) in pixels.
        protocol: "paper" filters out what a smaller picture cannot show, and goes on with the outermost value beyond
            the border. "release" samples without a filter; beyond the border lies 0, so an enlarged map fades within
            half a pixel of it, but never below the least value of its sample.

    Returns:
        (B, C, H, W). The release's is exactly constant wherever the map is, its fading border left out: its fusion
        compares with 0 and 1.

    Raises:
        AimmatError: an unknown protocol.

    Source:
        scikit-image 0.14.5, which the release pins: `resize` with order 1, mode "constant", cval 0, clip and without
        anti-aliasing are its defaults there.

    >>> resize(torch.tensor([[[[0.0, 1.0]]]]), (1, 4), protocol="release")
    tensor([[[[0.0000, 0.2500, 0.7500, 0.7500]]]])
    """
    release = is_release(protocol)
    if maps.shape[-2:] == size:
        return maps
    if not release:
        return F.interpolate(maps, size, mode="bilinear", antialias=True)
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    # Whole rows are gathered several times as fast as columns, so columns meet the map while it has few rows.
    for dim in (-2, -1) if size[0] < maps.shape[-2] else (-1, -2):
        maps = _sample(maps, size[dim], dim)
    return maps.clamp(low, high)


def _sample(maps: Tensor, length: int, dim: int) -> Tensor:
    """Linear interpolation along one side, zeros beyond its ends."""
    side = maps.shape[dim]
    # The centre of output pixel i lies at ((2 i + 1) side / length - 1) / 2. In whole numbers, a point on a pixel's
    # centre is exactly there and takes nothing from its neighbour.
    position = torch.arange(1, 2 * length, 2) * side - length
    before = position.div(2 * length, rounding_mode="floor")
    weight = ((position - before * 2 * length).double() / (2 * length)).to(maps)
    before = before.to(maps.device)
    padded = F.pad(maps, (1, 1, 0, 0) if dim == -1 else (0, 0, 1, 1))
    left, right = padded.index_select(dim, before + 1), padded.index_select(dim, before + 2)
    return torch.lerp(left, right, weight if dim == -1 else weight[:, None])
