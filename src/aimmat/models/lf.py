"""LF: one encoder, a decoder for the foreground and one for the background, and a network that weighs their answers."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from aimmat.models.densenets import DENSENETS, DenseNet
from aimmat.models.layers import Network, check_width, conv_bn_relu, init_weights, scaled, upsample
from aimmat.schema import AimmatError, Prediction

WIDTHS = (512, 256, 128, 64, 64)  # channels of a decoder's blocks, from 1/32 to 1/2 of the image's size
FUSION = (64, 48, 32, 16)  # channels of the fusion network's hidden layers
COLOURS = 16  # channels that the fusion network makes of the image


def blend(foreground: Tensor, background: Tensor, beta: Tensor) -> Tensor:
    """The matte of two decoders that may disagree: beta * F + (1 - beta) * (1 - B).

    Its derivative by beta is F + B - 1. So beta learns only where the decoders disagree, and does not matter where
    they agree (F = 1 - B).

    Args:
        foreground: F, probability of the foreground, (B, 1, H, W) in [0, 1].
        background: B, probability of the background, same shape and range.
        beta: how far to follow the foreground's decoder, same shape and range.

    Returns:
        (B, 1, H, W) in [0, 1], between F and 1 - B.

    Source:
        Zhang et al., A Late Fusion CNN for Digital Matting, CVPR 2019.

    >>> float(blend(torch.tensor(0.75), torch.tensor(0.5), torch.tensor(0.5)))
    0.625
    """
    return beta * foreground + (1 - beta) * (1 - background)


class Decoder(nn.Module):
    """Five blocks, each of the deeper one's output, enlarged, beside a 1x1 convolution of the encoder's map.

    The last block's features, enlarged, give the answer; the four others have heads of their own, which only the loss
    reads.

    Args:
        skips: channels of the encoder's maps, from 1/32 to 1/2 of the image's size.
        width: factor on WIDTHS.
    """

    def __init__(self, skips: tuple[int, ...], width: float) -> None:
        super().__init__()
        channels = [scaled(count, width) for count in WIDTHS]
        self.laterals = nn.ModuleList(
            conv_bn_relu(skip, count, kernel=1, bias=False) for skip, count in zip(skips, channels, strict=True)
        )
        seen = channels[0], *(deep + count for deep, count in pairwise(channels))
        self.blocks = nn.ModuleList(
            nn.Sequential(conv_bn_relu(before, count, bias=False), conv_bn_relu(count, count, bias=False))
            for before, count in zip(seen, channels, strict=True)
        )
        self.sides = nn.ModuleList(nn.Conv2d(count, 1, 3, padding=1) for count in channels[:-1])
        self.head = nn.Conv2d(channels[-1], 1, 3, padding=1)
        self.channels = channels[-1]

    def heads(self) -> list[nn.Conv2d]:
        """Those at 1/32, 1/16, 1/8 and 1/4, and the answer's."""
        return [*self.sides, self.head]

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        """The encoder's maps, from 1/32 to 1/2 -> features (B, 64, H, W); logits (B, 1, h, w) at 1/32, 1/16, 1/8, 1/4
        and the image's own size.
        """
        x = self.laterals[0](maps[0])
        logits = []
        for k, block in enumerate(self.blocks):
            if k:
                x = torch.cat((upsample(x), self.laterals[k](maps[k])), dim=1)
            x = block(x)  # (B, 512, H/32, W/32), (B, 256, H/16, W/16), ... (B, 64, H/2, W/2)
            if k < len(self.sides):
                logits.append(self.sides[k](x))
        x = upsample(x)
        return x, [*logits, self.head(x)]


class Fusion(nn.Module):
    """Five 3x3 convolutions over what both decoders end with and what one convolution sees in the image.

    Args:
        channels: of each decoder's last features.
        width: factor on FUSION and COLOURS.
    """

    def __init__(self, channels: int, width: float) -> None:
        super().__init__()
        colours = scaled(COLOURS, width)
        self.image = conv_bn_relu(3, colours, bias=False)
        hidden = [2 * channels + colours, *(scaled(count, width) for count in FUSION)]
        self.hidden = nn.Sequential(*(conv_bn_relu(before, after, bias=False) for before, after in pairwise(hidden)))
        self.head = nn.Conv2d(hidden[-1], 1, 3, padding=1)

    def forward(self, image: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
        """The normalised image and the decoders' features, all H x W -> logits of beta, (B, 1, H, W)."""
        logits: Tensor = self.head(self.hidden(torch.cat((foreground, background, self.image(image)), dim=1)))
        return logits


class LF(Network):
    """Late fusion: what is foreground and what is background are two questions, and a third network weighs the answers.

    The authors' code is not public but for a Keras model, and their paper leaves widths open: encoder, blocks, heads,
    the five layers of the fusion and its input are theirs; the channels and the 1x1 convolutions of the skips are
    ours. At width 1: 37,160,747 parameters, 18,092,928 of them the encoder's; 35.62 G multiply-accumulates at
    320 x 320.

    Args:
        encoder: "densenet201", the method's, or "densenet121": 24,710,955 parameters in all.
        width: factor on all channels; 0.25 fits a small machine.

    Raises:
        AimmatError: a switch has a value that it cannot have.

    Source:
        Zhang et al., A Late Fusion CNN for Digital Matting, CVPR 2019.
    """

    stride = 32

    def __init__(self, *, encoder: str = "densenet201", width: float = 1.0) -> None:
        super().__init__()
        if encoder not in DENSENETS:
            raise AimmatError(f"lf's encoder is {' or '.join(DENSENETS)}, got {encoder!r}")
        check_width("lf", width)
        self.kind = encoder
        self.encoder = DenseNet(encoder, width=width)
        skips = self.encoder.channels[::-1]
        self.foreground = Decoder(skips, width)
        self.background = Decoder(skips, width)
        self.fusion = Fusion(self.foreground.channels, width)
        init_weights(self)
        for head in (*self.foreground.heads(), *self.background.heads(), self.fusion.head):
            # Logits of about 1. From logits near 0 all features first learn one side, the background, and some seeds
            # do not get out of it.
            nn.init.kaiming_normal_(head.weight, nonlinearity="linear")

    def backbones(self) -> dict[str, nn.Module]:
        """The encoder is torchvision's own."""
        return {self.kind: self.encoder}

    def forward(self, image: Tensor) -> Prediction:
        """Ask for the foreground, for the background, and whom to believe where.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], H and W multiples of 32. Training needs two values per channel for
                batch normalisation: more than one image, or sides above 32.

        Returns:
            alpha: (B, 1, H, W) in [0, 1]. parts: logits `foreground` and `background`, (B, 1, H, W), and the same at
            1/32, 1/16, 1/8 and 1/4 of the size, `foreground_32` and so on; `beta`, (B, 1, H, W) in [0, 1]. float32
            under autocast too. There are neither classes nor a matte of the transition.

        Raises:
            TypeError: image is not floating point.
            ValueError: image has another shape; the sentence names the padded size to use.
        """
        self.check(image)
        image = self.normalise(image)
        seen = self.encoder(image)
        maps = tuple(seen[name] for name in ("norm5", "denseblock3", "denseblock2", "denseblock1", "relu0"))
        parts: dict[str, Tensor] = {}
        features = []
        for name, decoder in (("foreground", self.foreground), ("background", self.background)):
            last, logits = decoder(maps)
            features.append(last)
            sizes = ("_32", "_16", "_8", "_4", "")
            parts |= {name + size: _precise(value) for size, value in zip(sizes, logits, strict=True)}
        beta = _precise(self.fusion(image, *features)).sigmoid()
        alpha = blend(parts["foreground"].sigmoid(), parts["background"].sigmoid(), beta)
        return Prediction(semantic=None, matting=None, alpha=alpha, parts=parts | {"beta": beta})


def _precise(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))
