"""U2-Net: a U-Net whose blocks are small U-Nets themselves, with a matte from every size and one from them all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.models.layers import Network, check_width, conv_bn_relu, init_weights, scaled
from aimmat.schema import AimmatError, Prediction

HEIGHTS = (7, 6, 5, 4, 4, 4)  # of the blocks from the finest to the deepest; from the fifth on they are dilated
DILATED = (False, False, False, False, True, True)
# Channels inside and behind each block: those on the way down, then those on the way up, the deepest first.
FULL = (
    ((32, 64), (32, 128), (64, 256), (128, 512), (256, 512), (256, 512)),
    ((256, 512), (128, 256), (64, 128), (32, 64), (16, 64)),
)
SMALL = (((16, 64),) * 6, ((16, 64),) * 5)


def shrink(x: Tensor) -> Tensor:
    """Halve (B, C, H, W) by its maxima; an odd side is rounded up."""
    return F.max_pool2d(x, 2, ceil_mode=True)


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear enlargement of (B, C, h, w) to another map's (H, W), corners not aligned."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class ResidualU(nn.Module):
    """A U-Net as a residual block (RSU): detail from its upper units, context from its lower ones.

    Args:
        height: number of units on the way down.
        in_channels: channels in.
        inner: channels between its units.
        out_channels: channels out.
        dilated: RSU-4F: instead of shrinking the map, unit k has its kernel's taps 2^k pixels apart.

    Source:
        Qin et al., Pattern Recognition 2020, section 3.1.
    """

    def __init__(self, height: int, in_channels: int, inner: int, out_channels: int, *, dilated: bool = False) -> None:
        super().__init__()
        self.dilated = dilated
        # Without dilation only the lowest unit, which has the size of the one above it, looks farther.
        apart = [2**k for k in range(height)] if dilated else [1] * (height - 1) + [2]
        self.entry = conv_bn_relu(in_channels, out_channels)
        self.down = nn.ModuleList(
            conv_bn_relu(inner if k else out_channels, inner, dilation=apart[k]) for k in range(height)
        )
        self.up = nn.ModuleList(
            conv_bn_relu(2 * inner, inner if k else out_channels, dilation=apart[k])
            for k in reversed(range(height - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W), values >= 0."""
        entry: Tensor = self.entry(x)
        x = entry
        maps: list[Tensor] = []
        for k, unit in enumerate(self.down):
            if not self.dilated and 0 < k < len(self.down) - 1:
                x = shrink(x)
            x = unit(x)
            maps.append(x)
        x = maps.pop()
        for unit in self.up:
            skip = maps.pop()
            x = unit(torch.cat((enlarge(x, skip), skip), dim=1))
        return entry + x


class U2Net(Network):
    """Salient-object detection as a method of matting: one decoder for semantics and details.

    At width 1 it is the network of its authors: 44,009,869 parameters, 58.60 G multiply-accumulates at 320 x 320.

    Args:
        small: U2NETP, 16 channels inside every block and 64 behind: 1,131,181 parameters.
        width: factor on all channels; 0.25 fits a small machine.

    Raises:
        AimmatError: a switch has a value that it cannot have.

    Source:
        Qin et al.: U2-Net: Going Deeper with Nested U-Structure for Salient Object Detection, Pattern Recognition
        2020, Figure 5; github.com/xuebinqin/U-2-Net at ac7e1c8, model/u2net.py.
    """

    stride = 1  # maps of odd sides are rounded up on the way down and enlarged to what they meet on the way up

    def __init__(self, *, small: bool = False, width: float = 1.0) -> None:
        super().__init__()
        if not isinstance(small, bool):
            raise AimmatError(f"u2net's switch small is true or false, got {small!r}")
        check_width("u2net", width)
        down, up = (
            [(scaled(inner, width), scaled(outer, width)) for inner, outer in way] for way in (SMALL if small else FULL)
        )
        outer = [channels for _, channels in down]
        below = [outer[-1], *(channels for _, channels in up)]  # what each block on the way up gets from below
        self.encoder = nn.ModuleList(
            ResidualU(HEIGHTS[k], outer[k - 1] if k else 3, *down[k], dilated=DILATED[k]) for k in range(6)
        )
        self.decoder = nn.ModuleList(
            ResidualU(HEIGHTS[4 - k], below[k] + outer[4 - k], *up[k], dilated=DILATED[4 - k]) for k in range(5)
        )
        self.sides = nn.ModuleList(nn.Conv2d(channels, 1, 3, padding=1) for channels in reversed(below))
        self.fuse = nn.Conv2d(len(self.sides), 1, 1)
        init_weights(self)
        for head in (*self.sides, self.fuse):
            head.reset_parameters()  # He's for a single channel would start certain: logits in the tens

    def forward(self, image: Tensor) -> Prediction:
        """See the salient object at six sizes, and from all of them.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], of any size. Training needs two values per channel for batch
                normalisation: more than one image, or sides above 32.

        Returns:
            alpha: (B, 1, H, W) in [0, 1]; no semantic, no matting; parts: "fused", the logits of alpha, (B, 1, H, W),
            and "sides", those of the six sizes from the finest to the deepest, (B, 6, H, W). float32 under autocast
            too.

        Raises:
            TypeError: image is not floating point.
            ValueError: image has another shape.
        """
        self.check(image)
        x = self.normalise(image)
        maps: list[Tensor] = []
        for k, block in enumerate(self.encoder):
            x = block(shrink(x) if k else x)  # (B, 64, H, W) to (B, 512, H/32, W/32)
            maps.append(x)
        seen = [maps.pop()]
        for block in self.decoder:
            skip = maps.pop()
            seen.append(block(torch.cat((enlarge(seen[-1], skip), skip), dim=1)))  # to (B, 64, H, W)
        sides = torch.cat([enlarge(side(x), image) for side, x in zip(self.sides, reversed(seen), strict=True)], dim=1)
        fused = self.fuse(sides)
        precise = torch.promote_types(fused.dtype, torch.float32)
        fused, sides = fused.to(precise), sides.to(precise)
        return Prediction(None, None, fused.sigmoid(), {"fused": fused, "sides": sides})
