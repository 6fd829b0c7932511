"""VGG-16's convolutions, with or without batch normalisation, under torchvision's names."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.models.layers import scaled

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions before each pool


class Seen(NamedTuple):
    """What an encoder that pools sees."""

    maps: tuple[Tensor, ...]  # of each stage before its pool
    indices: tuple[Tensor, ...]  # of the pools
    deepest: Tensor  # after the last pool


class VGG16(nn.Module):
    """VGG-16 without its classifier; 2x2 pools keep where each maximum was.

    Args:
        batch_norm: torchvision's vgg16_bn, else its vgg16.
        in_channels: of the picture; more than three get zeros where a file has three.
        width: factor on all channels.
        pools: how many of the five are there: 4 leaves out the last.

    Source:
        Simonyan and Zisserman, ICLR 2015, configuration D; names as in torchvision, whose pools have numbers too.
    """

    def __init__(self, *, batch_norm: bool, in_channels: int = 3, width: float = 1.0, pools: int = 5) -> None:
        super().__init__()
        self.pools = pools
        self.channels = tuple(scaled(channels, width) for channels, _ in STAGES)
        layers: list[nn.Module] = []
        before = in_channels
        for channels, (_, convolutions) in zip(self.channels, STAGES, strict=True):
            for _ in range(convolutions):
                layers.append(nn.Conv2d(before, channels, 3, padding=1))
                layers += [nn.BatchNorm2d(channels)] * batch_norm
                layers.append(nn.ReLU(inplace=True))
                before = channels
            layers.append(nn.MaxPool2d(2, return_indices=True))
        self.features = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Seen:
        """(B, in_channels, H, W) -> maps at 1, 1/2, 1/4, 1/8 and 1/16 of its size, and below."""
        maps: list[Tensor] = []
        indices: list[Tensor] = []
        for layer in self.features:
            if not isinstance(layer, nn.MaxPool2d):
                x = layer(x)
                continue
            maps.append(x)
            if len(indices) < self.pools:
                x, where = F.max_pool2d(x, 2, return_indices=True)
                indices.append(where)
        return Seen(tuple(maps), tuple(indices), x)
