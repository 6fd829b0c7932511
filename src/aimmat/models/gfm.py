"""GFM: a decoder that glances at the whole and one that focuses on the transition, on one encoder, and their fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from aimmat.functional.fusion import fuse, likeliest_class
from aimmat.models.densenets import DenseNet
from aimmat.models.layers import (
    Network,
    PyramidPooling,
    SqueezeExcite,
    check_width,
    conv_bn_relu,
    conv_stack,
    init_weights,
    scaled,
    upsample,
)
from aimmat.models.resnets import Basic, ResNet
from aimmat.schema import AimmatError, Prediction, Protocol, is_release

# What the glance decoder tells apart in each branch, and so how many channels it has:
# tt background, transition, foreground; ft foreground and the rest; bt background and the rest.
CLASSES = {"tt": 3, "ft": 2, "bt": 2}
MODES = (*CLASSES, "rim")  # rim: all three branches, and a module that weighs what they say
NORMALISATIONS = ("imagenet", "raw")

# Channels of the convolutions of each level of both decoders, coarse to fine, at width 1. The map doubles after each.
LEVELS = {
    "r34": ((512, 512, 256), (256, 256, 128), (128, 128, 64), (64, 64, 64)),
    "r34_2b": ((512, 512, 512), (512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 128, 64)),
    "d121": ((512, 512, 256), (256, 256, 128), (128, 128, 64), (64, 64, 64)),
    "r101": ((2048, 1024, 1024), (1024, 512, 512), (512, 256, 256), (256, 128, 64)),
}
TRUNKS = {"r34": "resnet34", "r34_2b": "resnet34", "d121": "densenet121", "r101": "resnet101"}  # torchvision's names


class ResNet34Plus2(nn.Module):
    """ResNet-34 behind another stem, which keeps the image's size, and two more stages of three blocks ("r34_2b").

    Args:
        width: factor on all channels.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.trunk = ResNet("resnet34", width=width, pool=False)
        for name in ("conv1", "bn1"):
            self.trunk.add_module(name, nn.Identity())
        first, *_, last = self.trunk.channels
        self.stem = conv_bn_relu(3, first)[:2]  # the trunk's own ReLU follows
        self.more = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), *(Basic(last, last) for _ in range(3))) for _ in range(2)
        )
        self.channels = (*self.trunk.channels[1:], last, last)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), normalised -> six maps, (B, 64, H, W) to (B, 512, H/32, W/32)."""
        maps = list(self.trunk(self.stem(x))[1:])
        for stage in self.more:
            maps.append(stage(maps[-1]))
        return tuple(maps)


class DenseNet121(nn.Module):
    """DenseNet-121 without its pooling behind the stem, and a convolution that halves its last map.

    Args:
        width: factor on all channels.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.trunk = DenseNet("densenet121", width=width, pool=False)
        self.trunk.features.add_module("norm5", nn.Identity())
        c0, c1, c2, c3, c4 = self.trunk.channels
        self.neck = nn.Sequential(*conv_bn_relu(c4, scaled(512, width)), nn.MaxPool2d(2))
        self.channels = (c0, c1 // 2, c2 // 2, c3 // 2, scaled(512, width))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), normalised -> five maps, (B, 64, H/2, W/2) to (B, 512, H/32, W/32)."""
        seen = self.trunk(x)
        maps = [seen[name] for name in ("relu0", "transition1", "transition2", "transition3")]
        return (*maps, self.neck(seen["denseblock4"]))


class Decoder(nn.Module):
    """What the two decoders share: levels that each see another map beside their own, and a head for each branch.

    Args:
        channels: of the map that comes in.
        beside: channels of the maps beside it, coarse to fine, one more than levels.
        levels: channels of each level's convolutions.
        heads: channels out of each branch.
        whole: the last of the maps beside has the image's size; then the branches share what follows but for their
            last convolution. Otherwise it has half the size.
    """

    def __init__(
        self,
        channels: int,
        beside: Sequence[int],
        levels: Sequence[Sequence[int]],
        heads: Mapping[str, int],
        whole: bool,
    ) -> None:
        super().__init__()
        self.whole = whole
        self.blocks = nn.ModuleList()
        for side, level in zip(beside, levels, strict=False):
            self.blocks.append(conv_stack(channels + side, *level))
            channels = level[-1]
        both = channels + beside[-1]
        if whole:
            self.blocks.append(conv_stack(both, channels, channels, channels))
        self.heads = nn.ModuleDict()
        for branch, out in heads.items():
            last = nn.Conv2d(channels, out, 3, padding=1)
            self.heads[branch] = last if whole else nn.Sequential(*conv_stack(both, channels, channels), last)

    def decode(self, x: Tensor, beside: Sequence[Tensor], after: bool) -> dict[str, Tensor]:
        """Level by level to the image's size.

        Args:
            x: (B, channels, H/32, W/32).
            beside: the maps beside it at each level, coarse to fine.
            after: they come after the own channels of a level; False: before.

        Returns:
            Logits of each branch, (B, out, H, W).
        """
        for k, side in enumerate(beside):
            x = torch.cat((x, side) if after else (side, x), dim=1)
            if k < len(self.blocks):
                x = self.blocks[k](x)
            if k < len(beside) - 1:
                x = upsample(x)
        logits = {branch: head(x) for branch, head in self.heads.items()}
        return logits if self.whole else {branch: upsample(value) for branch, value in logits.items()}


class GlanceDecoder(Decoder):
    """What is where: each level is led by the pyramid pooling's view of the whole.

    Args:
        channels: of the encoder's last map.
        levels: channels of each level's convolutions.
        heads: classes of each branch.
        whole: see `Decoder`.
    """

    def __init__(
        self, channels: int, levels: Sequence[Sequence[int]], heads: Mapping[str, int], *, whole: bool
    ) -> None:
        leads = [level[-1] for level in levels]
        super().__init__(channels, (channels, *leads), levels, heads, whole)
        self.context = PyramidPooling(channels, align_corners=True)
        self.leads = nn.ModuleList(conv_bn_relu(channels, lead) for lead in leads)

    def forward(self, deepest: Tensor) -> dict[str, Tensor]:
        """The encoder's last map -> logits of each branch, (B, classes, H, W)."""
        context = self.context(deepest)  # (B, 512, H/32, W/32)
        leads = (upsample(lead(context), 2 ** (k + 1)) for k, lead in enumerate(self.leads))
        return self.decode(deepest, (context, *leads), after=False)


class FocusDecoder(Decoder):
    """The details of the transition, with what the encoder saw at each size.

    Args:
        channels: of the encoder's maps, fine to coarse.
        levels: channels of each level's convolutions.
        branches: names.
        whole: see `Decoder`.
    """

    def __init__(
        self, channels: Sequence[int], levels: Sequence[Sequence[int]], branches: Sequence[str], *, whole: bool
    ) -> None:
        super().__init__(channels[-1], channels[::-1], levels, dict.fromkeys(branches, 1), whole)
        self.bridge = conv_stack(*[channels[-1]] * 4, dilation=2)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """The encoder's maps -> logits of each branch, (B, 1, H, W)."""
        return self.decode(self.bridge(maps[-1]), maps[::-1], after=True)


class GFM(Network):
    """Glance and focus matting: one encoder, two decoders, and a rule that fuses what they say.

    At width 1 the parameters of the public code without those that it never uses: with r34 and tt 54,773,316.

    Args:
        backbone: "r34"; "r34_2b", whose first map has the image's size and which has two more stages; "d121" or "r101".
        mode: how the two decoders share the picture. "tt": the glance decoder finds background, transition and
            foreground, the focus decoder's alpha counts in the transition. "ft": it finds the sure foreground, to which
            the focus is added. "bt": it finds all but the sure background, from which the focus is taken away. "rim":
            all three, weighed by a module of two convolutions.
        normalisation: "imagenet", as the encoder's pretrained weights expect; or "raw", 0 to 255, as the public code
            feeds its network in training and test.
        width: factor on all channels.
        protocol: "release" takes the class with the largest sigmoid, the first of equal ones. Predictions differ only
            where two sigmoids round to one number.

    Raises:
        AimmatError: a switch has a value that it cannot have.

    Source:
        Li, Zhang, Maybank, Tao: Bridging Composite and Real, IJCV 2022; layers as in github.com/JizhiziLi/GFM at
        4b15ee0, core/gfm.py.
    """

    stride = 32

    def __init__(
        self,
        *,
        backbone: str = "r34",
        mode: str = "tt",
        normalisation: str = "imagenet",
        width: float = 1.0,
        protocol: Protocol = "paper",
    ) -> None:
        super().__init__()
        switches = {
            "backbone": (backbone, tuple(LEVELS)),
            "mode": (mode, MODES),
            "normalisation": (normalisation, NORMALISATIONS),
        }
        for name, (value, known) in switches.items():
            if value not in known:
                raise AimmatError(f"gfm's {name} is {', '.join(known[:-1])} or {known[-1]}, got {value!r}")
        check_width("gfm", width)
        is_release(protocol)
        self.backbone, self.mode, self.protocol = backbone, mode, protocol
        if normalisation == "raw":
            self.mean.zero_()
            self.std.fill_(1 / 255)
        branches = dict(CLASSES) if mode == "rim" else {mode: CLASSES[mode]}
        levels = [[scaled(count, width) for count in level] for level in LEVELS[backbone]]
        whole = backbone == "r34_2b"
        self.encoder: ResNet34Plus2 | DenseNet121 | ResNet
        if whole:
            self.encoder = ResNet34Plus2(width)
        elif backbone == "d121":
            self.encoder = DenseNet121(width)
        else:
            self.encoder = ResNet(TRUNKS[backbone], width=width)
        channels = self.encoder.channels
        self.glance = GlanceDecoder(channels[-1], levels, branches, whole=whole)
        self.focus = FocusDecoder(channels, levels, tuple(branches), whole=whole)
        self.rim = nn.Sequential(nn.Conv2d(3, 16, 1), SqueezeExcite(16), nn.Conv2d(16, 1, 1)) if mode == "rim" else None
        init_weights(self)
        if self.rim is not None:
            self.rim[0].get_parameter("weight").data.abs_()  # mattes are >= 0: no unit of the excitation starts dead
        for decoder in (self.glance, self.focus):
            for head in decoder.heads.values():
                last = head if isinstance(head, nn.Conv2d) else head.get_submodule("2")
                nn.init.normal_(last.get_parameter("weight"), std=0.01)  # starts undecided: logits near 0

    def backbones(self) -> dict[str, nn.Module]:
        """The ResNet or DenseNet without what GFM does not use of it."""
        trunk = self.encoder if isinstance(self.encoder, ResNet) else self.encoder.trunk
        return {TRUNKS[self.backbone]: trunk}

    def forward(self, image: Tensor) -> Prediction:
        """Glance, focus, fuse.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], H and W multiples of 32.

        Returns:
            alpha: (B, 1, H, W) in [0, 1]. With tt also semantic: logits, (B, 3, H, W), and matting: (B, 1, H, W) in
            [0, 1]. With the other modes instead, in parts and for each branch: glance_ft: logits, (B, 2, H, W),
            focus_ft: (B, 1, H, W) in [0, 1], fused_ft: the same, by the branch's rule; and with rim "final": alpha
            before it was clamped. All float32 under autocast too.

        Raises:
            TypeError: image is not floating point.
            ValueError: image has another shape; the sentence names the padded size to use.
        """
        self.check(image)
        maps = self.encoder(self.normalise(image))
        glances, focuses = self.glance(maps[-1]), self.focus(maps)
        precise = torch.promote_types(maps[-1].dtype, torch.float32)
        parts: dict[str, Tensor] = {}
        for branch in glances:
            glance, focus = glances[branch].to(precise), focuses[branch].to(precise).sigmoid()
            fused = _fuse(branch, glance, focus, self.protocol)
            if self.mode == "tt":
                return Prediction(semantic=glance, matting=focus, alpha=fused)
            parts |= {f"glance_{branch}": glance, f"focus_{branch}": focus, f"fused_{branch}": fused}
        if self.rim is None:
            return Prediction(None, None, parts[f"fused_{self.mode}"], parts)
        final = self.rim(torch.cat([parts[f"fused_{branch}"] for branch in glances], dim=1)).to(precise)
        return Prediction(None, None, final.clamp(0, 1), {**parts, "final": final})


def _fuse(branch: str, glance: Tensor, focus: Tensor, protocol: Protocol) -> Tensor:
    """A branch's alpha from its glance, logits (B, 2 or 3, H, W), and its focus, (B, 1, H, W) in [0, 1]."""
    if branch == "tt":
        return fuse(glance, focus, hard=True, protocol=protocol)
    sure = likeliest_class(glance, protocol).to(focus)
    return (sure + focus).clamp(max=1) if branch == "ft" else (sure - focus).clamp(min=0)
