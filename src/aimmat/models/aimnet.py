"""AimNet: a shared encoder, a semantic decoder, a matting decoder that it guides, and their fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aimmat.functional.fusion import fuse
from aimmat.models.encoders import Features, ResNet34
from aimmat.models.layers import (
    Network,
    PyramidPooling,
    SpatialAttention,
    SqueezeExcite,
    check_width,
    conv_bn_relu,
    conv_stack,
    init_weights,
    unpool,
    upsample,
)
from aimmat.schema import AimmatError, Prediction, Protocol, is_release


def decoder_blocks(channels: tuple[int, ...]) -> nn.ModuleList:
    """The convolutions of either decoder, SD_4 to SD_0 or MD_4 to MD_0; each sees two maps side by side.

    Args:
        channels: of E_0 to E_4.
    """
    c0, c1, c2, c3, c4 = channels
    return nn.ModuleList(
        (
            conv_stack(2 * c4, c4, c4, c3),
            conv_stack(2 * c3, c3, c3, c2),
            conv_stack(2 * c2, c2, c2, c1),
            conv_stack(2 * c1, c1, c1, c0),
            conv_stack(2 * c0, c0, c0),
        )
    )


class SemanticDecoder(nn.Module):
    """Background, transition or foreground: SD_4 to SD_0, each led by the pyramid pooling's view of the whole.

    Args:
        channels: of E_0 to E_4.
        se: squeeze-and-excitation after each block.

    Source:
        AIM paper, section 3.3; supplement, Table 2, block "Unified Semantic Decoder".
    """

    def __init__(self, channels: tuple[int, ...], *, se: bool) -> None:
        super().__init__()
        c0, c1, c2, c3, c4 = channels
        self.context = PyramidPooling(c4)
        self.leads = nn.ModuleList(conv_bn_relu(c4, c) for c in (c3, c2, c1, c0))
        self.blocks = decoder_blocks(channels)
        self.excites = nn.ModuleList(SqueezeExcite(c) if se else nn.Identity() for c in (c3, c2, c1, c0, c0))
        self.head = nn.Conv2d(c0, 3, 3, padding=1)

    def forward(self, deepest: Tensor) -> tuple[Tensor, Tensor]:
        """E_4 -> class logits (B, 3, H, W) and the map that guides the matting decoder, (B, C_0, H, W)."""
        guide = upsample(self.coarse(deepest))  # (B, 64, H, W), tapped before its excitation
        return self.head(self.excites[4](guide)), guide

    def coarse(self, deepest: Tensor) -> Tensor:
        """All but the last size: E_4 -> (B, C_0, H/2, W/2)."""
        context = self.context(deepest)  # (B, 512, H/32, W/32)
        x = torch.cat((context, deepest), dim=1)
        for k, lead in enumerate(self.leads):
            # Excitation before the upsampling: bilinear doubling keeps the mean, so it is the table's, on a quarter
            # of the pixels.
            x = upsample(self.excites[k](self.blocks[k](x)))  # (B, 256, H/16, W/16) to (B, 64, H/2, W/2)
            x = torch.cat((upsample(lead(context), 2 ** (k + 1)), x), dim=1)
        coarse: Tensor = self.blocks[4](x)
        return coarse


class MattingDecoder(nn.Module):
    """The details of the transition: MD_5 to MD_0, with what the encoder saw at each size.

    Args:
        channels: of E_0 to E_4.
        mp: maps grow by unpooling, through the indices of the encoder's max-pools; False: bilinear.
        losers: the unpooling hands gradient to values that lost their pixel too, see `unpool`.

    Source:
        AIM paper, section 3.3; supplement, Table 2, block "Semantic Guided Matting Decoder". Unpooling comes before
        the concatenation, as in the table and the release.
    """

    def __init__(self, channels: tuple[int, ...], *, mp: bool, losers: bool = False) -> None:
        super().__init__()
        self.mp, self.losers = mp, losers
        self.bridge = conv_stack(*[channels[4]] * 4, dilation=2)
        self.blocks = decoder_blocks(channels)
        self.head = nn.Conv2d(channels[0], 1, 3, padding=1)

    def forward(self, features: Features, attention: Tensor | None) -> Tensor:
        """Encoder features and attention (B, 1, H, W) -> logits of the alpha in the transition, (B, 1, H, W)."""
        x = self._enlarge(self.coarse(features), features.indices[0])  # (B, 64, H, W), without MP H/2
        x = self.blocks[4](torch.cat((x, features.maps[0]), dim=1))
        if not self.mp:
            x = upsample(x)
        if attention is not None:
            x = x * (1 + attention)  # M + M * A
        logits: Tensor = self.head(x)
        return logits

    def coarse(self, features: Features) -> Tensor:
        """All but the last size: encoder features -> (B, C_0, H/4, W/4)."""
        x = self.bridge(features.maps[4])  # (B, 512, H/32, W/32)
        for k in (4, 3, 2):
            x = self.blocks[4 - k](torch.cat((x, features.maps[k]), dim=1))
            x = self._enlarge(x, features.indices[k - 1])  # (B, 256, H/16, W/16) to (B, 64, H/4, W/4)
        coarse: Tensor = self.blocks[3](torch.cat((x, features.maps[1]), dim=1))
        return coarse

    def _enlarge(self, x: Tensor, indices: tuple[Tensor, ...]) -> Tensor:
        """Undo the pooling before a stage: the last pool first."""
        if not self.mp:
            return upsample(x)
        for where in reversed(indices):
            x = unpool(x, where, (2 * x.shape[-2], 2 * x.shape[-1]), losers=self.losers)
        return x


class AimNet(Network):
    """Deep automatic natural image matting: semantics and details from one encoder, fused into a matte.

    With every switch on and width 1 this is the network of the paper: 54,785,191 parameters (55.3 M with the ImageNet
    classifier that the paper counts and nothing uses), 190.58 G multiply-accumulates at 800 x 800.

    Args:
        mp: Table 3, column "MP": max-pooling with indices in the encoder, unpooling in the matting decoder. False is
            the plain ResNet-34 with bilinear upsampling, whose finest map has half the image's size.
        se: Table 3, column "SE": squeeze-and-excitation in the semantic decoder.
        sa: Table 3, column "SA": spatial attention guides the matting decoder.
        width: factor on all channels; 0.25 fits a small machine.
        fusion: "hard" fuses by the most probable class (release), "soft" by the classes' probabilities.
        protocol: "release" fuses by the largest sigmoid, the first of equal ones, and its unpooling teaches the values
            that lost their pixel to a neighbour too, as torch's own does. Those do not appear in the output, so "paper"
            gives them their true gradient, zero. Predictions differ only where two sigmoids round to one number; by the
            gradient, trainings differ from the first step on.

    Raises:
        AimmatError: a switch has a value that it cannot have, or soft fusion meets the release.

    Source:
        Li, Zhang, Tao: Deep Automatic Natural Image Matting, IJCAI 2021; section 3.3 and supplement, Table 2.
    """

    stride = 32

    def __init__(
        self,
        *,
        mp: bool = True,
        se: bool = True,
        sa: bool = True,
        width: float = 1.0,
        fusion: str = "hard",
        protocol: Protocol = "paper",
    ) -> None:
        super().__init__()
        for name, value in {"mp": mp, "se": se, "sa": sa}.items():
            if not isinstance(value, bool):
                raise AimmatError(f"aimnet's switch {name} is true or false, got {value!r}")
        check_width("aimnet", width)
        if fusion not in ("hard", "soft"):
            raise AimmatError(f"aimnet's fusion is hard or soft, got {fusion!r}")
        release = is_release(protocol)
        if release and fusion == "soft":
            raise AimmatError("aimnet's fusion is hard in the release; set fusion=hard or protocol=paper")
        self.hard, self.protocol = fusion == "hard", protocol
        self.encoder = ResNet34(mp=mp, width=width)
        self.semantic = SemanticDecoder(self.encoder.channels, se=se)
        self.attention = SpatialAttention() if sa else None
        self.matting = MattingDecoder(self.encoder.channels, mp=mp, losers=release)
        init_weights(self)
        for head in (self.semantic.head, self.matting.head):
            nn.init.normal_(head.weight, std=0.01)  # starts undecided: logits near 0

    def forward(self, image: Tensor) -> Prediction:
        """See background, transition and foreground, then the matte.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], H and W multiples of 32. Training needs two values per channel for
                batch normalisation: more than one image, or sides above 32.

        Returns:
            semantic: logits, (B, 3, H, W); matting and alpha: (B, 1, H, W) in [0, 1]; float32 under autocast too.

        Raises:
            TypeError: image is not floating point.
            ValueError: image has another shape; the sentence names the padded size to use.
        """
        self.check(image)
        features = self.encoder(self.normalise(image))
        logits, guide = self.semantic(features.maps[4])
        attention = None if self.attention is None else self.attention(guide)  # (B, 1, H, W)
        details = self.matting(features, attention)
        precise = torch.promote_types(details.dtype, torch.float32)
        logits, matting = logits.to(precise), details.to(precise).sigmoid()
        return Prediction(semantic=logits, matting=matting, alpha=fuse(logits, matting, self.hard, self.protocol))

    def fast(self, dtype: torch.dtype = torch.float32, max_memory: float | None = None) -> Network:
        """A copy that only predicts, in less time and memory: a `models.fast.FastAimNet`, which explains the rest."""
        from aimmat.models.fast import MAX_MEMORY, FastAimNet

        return FastAimNet(self, dtype, MAX_MEMORY if max_memory is None else max_memory)
