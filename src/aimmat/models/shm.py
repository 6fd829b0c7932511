"""SHM: a network that draws the trimap, one that mattes with it, and their soft fusion."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.models.layers import (
    Network,
    PyramidPooling,
    check_width,
    conv_bn_relu,
    init_weights,
    scaled,
    unpool,
)
from aimmat.models.resnets import ResNet
from aimmat.models.vgg import VGG16
from aimmat.schema import AimmatError, Batch, Prediction

SWITCHES = {
    "trimap": ("predicted", "given"),
    "colours": ("imagenet", "bgr"),
    "order": ("unknown_foreground", "foreground_unknown"),
}


class TrimapNet(nn.Module):
    """Background, unknown or foreground (T-Net): PSPNet-50, enlarged in three steps.

    Args:
        width: factor on all channels.
        dropout: share of channels left out in training behind the pyramid pooling; behind each step, half of it.

    Source:
        Zhao et al., CVPR 2017; pyramid and steps as in github.com/tsing90/pytorch_semantic_human_matting.
    """

    def __init__(self, width: float, dropout: float) -> None:
        super().__init__()
        self.encoder = ResNet("resnet50", width=width, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
        channels = [scaled(count, width) for count in (1024, 256, 64, 64)]
        self.context = PyramidPooling(self.encoder.channels[4], channels[0], grids=(1, 2, 3, 6), align_corners=True)
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.PReLU())
            for before, after in pairwise(channels)
        )
        self.head = nn.Conv2d(channels[3], 3, 1)
        self.drop, self.drop_less = nn.Dropout2d(dropout), nn.Dropout2d(dropout / 2)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), normalised, H and W multiples of 8 -> class logits, (B, 3, H, W)."""
        x = self.drop(self.context(self.encoder(image)[4]))  # (B, 1024, H/8, W/8)
        for step in self.steps:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            x = self.drop_less(step(x))  # (B, 256, H/4, W/4) to (B, 64, H, W)
        logits: Tensor = self.head(x)
        return logits


class MattingNet(nn.Module):
    """The alpha of the unknown pixels (M-Net): VGG-16 without its last pool, and a decoder that unpools.

    Args:
        width: factor on all channels.

    Source:
        Chen et al., ACM MM 2018, section 4.2.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.encoder = VGG16(batch_norm=True, in_channels=6, width=width, pools=4)
        channels = [scaled(count, width) for count in (512, 512, 256, 128, 64, 64)]
        self.blocks = nn.ModuleList(conv_bn_relu(before, after, kernel=5) for before, after in pairwise(channels))
        self.head = nn.Conv2d(channels[5], 1, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        """Picture and three classes' probabilities, (B, 6, H, W), sides multiples of 16 -> (B, 1, H, W), unbounded."""
        _, indices, deepest = self.encoder(x)
        x = self.blocks[0](deepest)  # (B, 512, H/16, W/16)
        for block, where in zip(self.blocks[1:], reversed(indices), strict=True):
            x = block(unpool(x, where, (2 * x.shape[-2], 2 * x.shape[-1])))  # (B, 256, H/8, W/8) to (B, 64, H, W)
        alpha: Tensor = self.head(x)
        return alpha


class SHM(Network):
    """Semantic human matting: a trimap network feeds a matting network, alpha = F + U * alpha_r.

    F and U are the probabilities of foreground and unknown, so the matte teaches the trimap network too. At width 1
    79,003,335 parameters, 53,316,998 of them the trimap network's.

    Args:
        trimap: "predicted" by the first network; "given" as the picture's fourth channel, 0, 1/2 or 1 for background,
            unknown and foreground, for the phase in which the second learns alone. The first is not run then.
        width: factor on all channels.
        dropout: share of channels that the trimap network leaves out while it learns, see `TrimapNet`; the public
            code's. The method's own description has none.
        colours: "imagenet": RGB with ImageNet's mean and deviation taken out; "bgr": in this order and from 0 to 1, as
            weights of the public code were trained.
        order: what the fusion takes the second and third probability for. The public code's second phase, which has
            the matting network learn alone, reads them as "foreground_unknown", against its own labels.

    Raises:
        AimmatError: a switch has a value that it cannot have.

    Source:
        Chen et al., Semantic Human Matting, ACM MM 2018, which published no code; where its text leaves a choice,
        github.com/tsing90/pytorch_semantic_human_matting at 9cbb85b, without its classifier that nothing uses.
    """

    stride = 16
    apart = False  # the matting network sees this very trimap

    def __init__(
        self,
        *,
        trimap: str = "predicted",
        width: float = 1.0,
        dropout: float = 0.3,
        colours: str = "imagenet",
        order: str = "unknown_foreground",
    ) -> None:
        super().__init__()
        for name, value in {"trimap": trimap, "colours": colours, "order": order}.items():
            if value not in SWITCHES[name]:
                raise AimmatError(f"shm's {name} is {' or '.join(SWITCHES[name])}, got {value!r}")
        check_width("shm", width)
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
            raise AimmatError(f"shm's dropout is a share from 0 to below 1, got {dropout!r}")
        self.given, self.bgr, self.swapped = trimap == "given", colours == "bgr", order == "foreground_unknown"
        self.input_channels = 4 if self.given else 3
        if self.bgr:
            self.mean.zero_()
            self.std.fill_(1)
        self.semantic = TrimapNet(width, dropout)
        self.matting = MattingNet(width)
        init_weights(self)
        for head in (self.semantic.head, self.matting.head):
            nn.init.normal_(head.weight, std=0.01)  # starts undecided: classes alike, an alpha of a half
        nn.init.constant_(self.matting.get_parameter("head.bias"), 0.5)

    def inputs(self, batch: Batch) -> Tensor:
        """The picture, and its true trimap where that is given."""
        if not self.given:
            return batch["image"]
        return torch.cat((batch["image"], batch["trimap"].to(batch["image"]) / 2), dim=1)

    def backbones(self) -> dict[str, nn.Module]:
        """Both encoders."""
        return {"resnet50": self.semantic.encoder, "vgg16_bn": self.matting.encoder}

    def forward(self, image: Tensor) -> Prediction:
        """Draw the trimap, matte with it, fuse.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], H and W multiples of 16; (B, 4, H, W) where the trimap is given.

        Returns:
            semantic: logits, (B, 3, H, W), None where the trimap is given; matting and alpha: (B, 1, H, W), cut to
            [0, 1]; parts: both as they were before that, which is what the loss reads. Float32 under autocast too.

        Raises:
            TypeError: image is not floating point.
            ValueError: image has another shape; the sentence names the padded size to use.
        """
        self.check(image)
        picture = self.normalise(image[:, :3])
        if self.bgr:
            picture = picture.flip(1)
        precise = torch.promote_types(image.dtype, torch.float32)
        if self.given:
            logits, classes = None, _classes(image[:, 3:])
        else:
            logits = self.semantic(picture).to(precise)
            classes = logits.softmax(dim=1)
        matting = self.matting(torch.cat((picture, classes.to(picture)), dim=1)).to(precise)
        unknown, foreground = classes[:, 1:2], classes[:, 2:]
        if self.swapped:
            unknown, foreground = foreground, unknown
        alpha = foreground + unknown * matting
        return Prediction(logits, matting.clamp(0, 1), alpha.clamp(0, 1), {"matting": matting, "alpha": alpha})


def _classes(trimap: Tensor) -> Tensor:
    """A trimap, (B, 1, H, W) from 0 to 1 -> 1 for each pixel's class, (B, 3, H, W); what resizing mixed is unknown."""
    background, foreground = trimap < 1 / 4, trimap > 3 / 4
    return torch.cat((background, ~(background | foreground), foreground), dim=1).to(trimap)
