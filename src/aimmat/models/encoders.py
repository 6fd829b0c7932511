"""The encoder that both decoders share: ResNet-34, plain or with its strides turned into max-pooling (MP)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.models.layers import conv_bn_relu, scaled

# Channels of E_0 to E_4 at width 1, and the basic blocks in E_1 to E_4 (He et al., CVPR 2016, Table 1, 34 layers).
CHANNELS = (64, 64, 128, 256, 512)
DEPTHS = (3, 4, 6, 3)


class Features(NamedTuple):
    """What an encoder sees, fine to coarse."""

    maps: tuple[Tensor, ...]  # E_0 to E_4, (B, C_k, H_k, W_k)
    indices: tuple[tuple[Tensor, ...], ...]  # of the max-pools before each of E_1 to E_4; M_0 and M_1 before E_1


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Source:
        He et al., CVPR 2016, Figure 5 left.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_bn_relu(in_channels, channels, stride=stride, bias=False)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == channels
            else nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, C, H / stride, W / stride), values >= 0."""
        return F.relu(self.second(self.first(x)) + self.shortcut(x), inplace=True)


class ResNet34(nn.Module):
    """ResNet-34 without its classifier; with MP it keeps a map at full resolution and where each maximum was.

    Args:
        mp: True is the paper's ResNet-34-MP: convolutions at stride 1, max-pooling 3x3 at stride 2 before each stage
            (twice before the first), indices kept. False is the plain network: stem and stages 2 to 4 at stride 2.
        width: factor on all channels.

    Source:
        AIM paper, section 3.3; supplement, Table 2, rows E_0 to E_4 and M_0 to M_4.
    """

    def __init__(self, *, mp: bool = True, width: float = 1.0) -> None:
        super().__init__()
        self.channels = tuple(scaled(channels, width) for channels in CHANNELS)
        self.stem = conv_bn_relu(3, self.channels[0], kernel=7, stride=1 if mp else 2, bias=False)
        self.pools = (2, 1, 1, 1) if mp else (1, 0, 0, 0)  # before each stage
        self.stages = nn.ModuleList()
        for k, depth in enumerate(DEPTHS, start=1):
            stride = 1 if mp or k == 1 else 2
            first = BasicBlock(self.channels[k - 1], self.channels[k], stride)
            rest = [BasicBlock(self.channels[k], self.channels[k]) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(first, *rest))

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W), normalised -> maps at 1 (1/2 without MP), 1/4, 1/8, 1/16 and 1/32 of its size."""
        x = self.stem(x)
        maps, indices = [x], []
        for pools, stage in zip(self.pools, self.stages, strict=True):
            found = []
            for _ in range(pools):
                x, where = F.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
                found.append(where)
            x = stage(x)
            maps.append(x)
            indices.append(tuple(found))
        return Features(tuple(maps), tuple(indices))
