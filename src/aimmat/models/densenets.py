"""DenseNets under torchvision's names."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from aimmat.models.layers import scaled

# Channels that a layer adds, layers of each block, channels of the stem (Huang et al., CVPR 2017, Table 1)
DENSENETS = {"densenet121": (32, (6, 12, 24, 16), 64), "densenet201": (32, (6, 12, 48, 32), 64)}


class DenseLayer(nn.Module):
    """Normalisation, ReLU and convolution, 1x1 and 3x3, beside what came in."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C + growth, H, W)."""
        y = self.conv1(self.relu(self.norm1(x)))
        y = self.conv2(self.relu(self.norm2(y)))
        return torch.cat((x, y), dim=1)


class DenseNet(nn.Module):
    """A DenseNet without its classifier.

    Args:
        kind: its name in torchvision, one of DENSENETS.
        width: factor on all channels.
        pool: the 3x3 max-pool at stride 2 behind the stem.

    `channels` are those of the stem and of the four blocks' outputs, the last after its normalisation.

    Source:
        Huang et al., CVPR 2017; names as in torchvision.
    """

    def __init__(self, kind: str, *, width: float = 1.0, pool: bool = True) -> None:
        super().__init__()
        growth, blocks, stem = DENSENETS[kind]
        growth, count = scaled(growth, width), scaled(stem, width)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(3, count, 7, 2, 3, bias=False), norm0=nn.BatchNorm2d(count), relu0=nn.ReLU(inplace=True)
        )
        layers["pool0"] = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        channels = [count]
        for k, depth in enumerate(blocks, start=1):
            inside: OrderedDict[str, nn.Module] = OrderedDict(
                (f"denselayer{i + 1}", DenseLayer(count + i * growth, growth)) for i in range(depth)
            )
            layers[f"denseblock{k}"] = nn.Sequential(inside)
            count += depth * growth
            channels.append(count)
            if k < len(blocks):
                layers[f"transition{k}"] = nn.Sequential(
                    OrderedDict(
                        norm=nn.BatchNorm2d(count),
                        relu=nn.ReLU(inplace=True),
                        conv=nn.Conv2d(count, count // 2, 1, bias=False),
                        pool=nn.AvgPool2d(2),
                    )
                )
                count //= 2
        layers["norm5"] = nn.BatchNorm2d(count)
        self.channels = tuple(channels)
        self.features = nn.Sequential(layers)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), normalised -> what each part says, by its name: relu0, pool0, denseblock1, transition1, ..."""
        seen = {}
        for name, layer in self.features.named_children():
            x = layer(x)
            if name not in ("conv0", "norm0"):
                seen[name] = x
        return seen
