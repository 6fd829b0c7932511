"""ResNets and ResNeXts of any depth, under torchvision's names, so that files trained elsewhere fit as they are."""

from __future__ import annotations

from torch import Tensor, nn

from aimmat.models.layers import scaled


def _conv_bn(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)
    return conv, nn.BatchNorm2d(out_channels)


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., CVPR 2016, Figure 5 left)."""

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, dilation: int = 1, groups: int = 1, base: int = 64
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv_bn(in_channels, channels, 3, stride, dilation)
        self.conv2, self.bn2 = _conv_bn(channels, channels, 3)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, channels, H / stride, W / stride), values >= 0."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (the same, right), the stride in the middle as torchvision's."""

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, dilation: int = 1, groups: int = 1, base: int = 64
    ) -> None:
        super().__init__()
        middle, out_channels = channels * base // 64 * groups, channels * self.expansion
        self.conv1, self.bn1 = _conv_bn(in_channels, middle, 1)
        self.conv2, self.bn2 = _conv_bn(middle, middle, 3, stride, dilation, groups)
        self.conv3, self.bn3 = _conv_bn(middle, out_channels, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, 4 * channels, H / stride, W / stride), values >= 0."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(*_conv_bn(in_channels, out_channels, 1, stride))


# Blocks, their number in each stage, groups and channels of a group at 64 (He et al. 2016, Xie et al. 2017, Table 1)
RESNETS: dict[str, tuple[type[Basic | Bottleneck], tuple[int, int, int, int], int, int]] = {
    "resnet34": (Basic, (3, 4, 6, 3), 1, 64),
    "resnet50": (Bottleneck, (3, 4, 6, 3), 1, 64),
    "resnet101": (Bottleneck, (3, 4, 23, 3), 1, 64),
    "resnext101_32x8d": (Bottleneck, (3, 4, 23, 3), 32, 8),
}


class ResNet(nn.Module):
    """A ResNet without its classifier.

    Args:
        kind: its name in torchvision, one of RESNETS.
        width: factor on all channels; groups stay, so a ResNeXt's channels are multiples of them.
        strides: of the four stages; the stem has 2.
        dilations: of the four stages but for their first block, which has none.
        pool: a 3x3 max-pool at stride 2 between stem and first stage.

    Source:
        He et al., CVPR 2016; Xie et al., CVPR 2017; names as in torchvision.
    """

    def __init__(
        self,
        kind: str,
        *,
        width: float = 1.0,
        strides: tuple[int, int, int, int] = (1, 2, 2, 2),
        dilations: tuple[int, int, int, int] = (1, 1, 1, 1),
        pool: bool = True,
    ) -> None:
        super().__init__()
        block, depths, groups, base = RESNETS[kind]
        stem = scaled(64, width)
        self.conv1, self.bn1 = _conv_bn(3, stem, 7, 2)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        planes = [_planes(stage, width, groups, base) for stage in (64, 128, 256, 512)]
        self.channels = (stem, *(count * block.expansion for count in planes))
        for k in range(4):
            first = block(self.channels[k], planes[k], strides[k], 1, groups, base)
            rest = [block(self.channels[k + 1], planes[k], 1, dilations[k], groups, base) for _ in range(depths[k] - 1)]
            setattr(self, f"layer{k + 1}", nn.Sequential(first, *rest))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), normalised -> what stem and the four stages say, (B, channels[k], ...)."""
        maps = [self.relu(self.bn1(self.conv1(x)))]
        x = self.pool(maps[0])
        for k in range(1, 5):
            x = self.get_submodule(f"layer{k}")(x)
            maps.append(x)
        return tuple(maps)


def _planes(channels: int, width: float, groups: int, base: int) -> int:
    """Channels of a stage such that each group of its middle convolution has a whole number of them."""
    if groups == 1:
        return scaled(channels, width)
    return max(1, round(channels * width * base / 64)) * 64 // base
