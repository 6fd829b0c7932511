"""HATT: what the deepest features make of the picture decides which of the finest ones are let through."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.models.layers import Network, SqueezeExcite, check_width, conv_bn_relu, init_weights, scaled, upsample
from aimmat.models.resnets import ResNet
from aimmat.schema import Prediction


class AtrousPyramid(nn.Module):
    """One place seen in four surroundings beside the mean of the whole map (ASPP).

    Args:
        in_channels: channels in.
        channels: of each branch, and out.
        rates: dilations of the 3x3 branches.

    Source:
        Chen et al., Rethinking Atrous Convolution, 2017, Figure 5. The branch of the mean has a bias instead of batch
        normalisation, which a single value per channel and picture does not suit.
    """

    def __init__(self, in_channels: int, channels: int, rates: tuple[int, ...] = (6, 12, 18)) -> None:
        super().__init__()
        self.near = conv_bn_relu(in_channels, channels, kernel=1, bias=False)
        self.far = nn.ModuleList(conv_bn_relu(in_channels, channels, dilation=rate, bias=False) for rate in rates)
        self.whole = nn.Conv2d(in_channels, channels, 1)
        self.merge = conv_bn_relu((len(rates) + 2) * channels, channels, kernel=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H, W), values >= 0."""
        whole = F.relu(self.whole(x.mean(dim=(2, 3), keepdim=True))).expand(-1, -1, *x.shape[2:])
        merged: Tensor = self.merge(torch.cat((self.near(x), *(branch(x) for branch in self.far), whole), dim=1))
        return merged


class StripAttention(nn.Module):
    """Where each channel counts, from two paths that each see 7x7 pixels: a row, then a column, and the other way.

    Args:
        channels: channels in.
        out_channels: channels to weigh.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        half = channels // 2
        row, column = (1, 7), (7, 1)
        self.paths = nn.ModuleList(
            nn.Sequential(_strip(channels, half, first), _strip(half, half, second))
            for first, second in ((row, column), (column, row))
        )
        self.gate = nn.Conv2d(2 * half, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out_channels, H, W) in (0, 1)."""
        attention: Tensor = self.gate(torch.cat([path(x) for path in self.paths], dim=1)).sigmoid()
        return attention


def _strip(in_channels: int, out_channels: int, kernel: tuple[int, int]) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2), bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class HATT(Network):
    """Hierarchical attention matting: the deepest features' channels are weighed, and they say where the finest count.

    The encoder ends at an eighth of the picture's size and sees half of it in its first stage, whose map ("appearance
    cues") is filtered by spatial attention drawn from the pyramid's ("pyramidal features"). The authors published
    neither code nor weights. Encoder, pyramid, both attentions, their order and the head are what its descriptions
    agree on; dilations, channels, the squeeze of the channel attention and what makes a gate of the two paths are ours.
    At width 1: 103,635,265 parameters, 86,742,336 of them the encoder's; 223.71 G multiply-accumulates at 320 x 320.

    Args:
        width: factor on all channels; 0.25 fits a small machine.

    Raises:
        AimmatError: a width that it cannot have.

    Source:
        Qiao et al., Attention-Guided Hierarchical Structure Aggregation for Image Matting, CVPR 2020.
    """

    stride = 8

    def __init__(self, *, width: float = 1.0) -> None:
        super().__init__()
        check_width("hatt", width)
        self.encoder = ResNet("resnext101_32x8d", width=width, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), pool=False)
        cues, channels = self.encoder.channels[1], scaled(256, width)
        self.pyramid = AtrousPyramid(self.encoder.channels[4], channels)
        self.distil = SqueezeExcite(channels)
        self.filter = StripAttention(channels, cues)
        self.refine = conv_bn_relu(cues, cues, bias=False)
        self.head = nn.Conv2d(channels + cues, 1, 3, padding=1)
        init_weights(self)
        nn.init.normal_(self.head.weight, std=0.01)  # starts undecided: logits near 0

    def backbones(self) -> dict[str, nn.Module]:
        """The encoder is torchvision's ResNeXt-101 32x8d, which has a pool behind its stem."""
        return {"resnext101_32x8d": self.encoder}

    def forward(self, image: Tensor) -> Prediction:
        """Distil what the whole shows, filter the details by it, and matte with both.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], H and W multiples of 8. Training needs two values per channel for
                batch normalisation: more than one image, or sides above 8.

        Returns:
            alpha: (B, 1, H, W) in [0, 1], float32 under autocast too. There are neither classes nor a matte of the
            transition.

        Raises:
            TypeError: image is not floating point.
            ValueError: image has another shape; the sentence names the padded size to use.
        """
        self.check(image)
        _, cues, _, _, deepest = self.encoder(self.normalise(image))  # (B, 256, H/2, W/2), (B, 2048, H/8, W/8)
        semantics = upsample(self.distil(self.pyramid(deepest)), 4)  # (B, 256, H/2, W/2)
        details = self.refine(cues * self.filter(semantics))
        logits = upsample(self.head(torch.cat((semantics, details), dim=1)))
        alpha = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
        return Prediction(semantic=None, matting=None, alpha=alpha)
