"""DIM: deep image matting by a trimap, an encoder that pools, a decoder that unpools, and a refiner."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.functional.fusion import keep_known
from aimmat.models.layers import Network, check_width, scaled, unpool
from aimmat.models.vgg import VGG16
from aimmat.schema import AimmatError, Batch, Prediction

TRIMAPS = ("unified", "traditional")


class Refiner(nn.Module):
    """Correct the decoder's logits by what the picture shows beside its matte.

    Args:
        width: factor on the 64 channels.

    Source:
        Xu et al., section 4.2. Corrections are added before the sigmoid, as the public code has it.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        channels = scaled(64, width)
        self.convs = nn.ModuleList(nn.Conv2d(before, channels, 3, padding=1) for before in (4, channels, channels))
        self.head = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, image: Tensor, logits: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W) and logits (B, 1, H, W) -> better logits."""
        x = torch.cat((image, logits.sigmoid()), dim=1)
        for conv in self.convs:
            x = F.relu(conv(x))
        better: Tensor = logits + self.head(x)
        return better


class DIM(Network):
    """The matte of a picture whose trimap is known; the answer outside its transition is the trimap's.

    At width 1 it has 28,297,153 parameters, 28,373,954 with the refiner.

    Args:
        skip: what the encoder saw is added to what the decoder unpools; the paper has no such thing, public weights do.
        refiner: a second network sharpens the matte, see `Refiner`.
        kernel: side of the kernels between encoder and decoder, 3, or 1 as in mmagic (26,200,001 parameters).
        trimap: the fourth channel of `inputs`: "unified" shows the generalised trimap, which says nothing about NS
            pictures and little about STM ones, as the AIM authors did for the column DIM* of Table 2; "traditional" is
            the trimap that DIM was made for.
        width: factor on all channels; 0.25 fits a small machine.

    Raises:
        AimmatError: a switch has a value that it cannot have.

    Source:
        Xu et al.: Deep Image Matting, CVPR 2017. Between encoder and decoder lies a 3x3 convolution of 512 channels
        where the paper has 7x7 of 4,096, as in the public code, whose encoder is VGG-16 without batch normalisation.
        The trimap of Table 2: github.com/JizhiziLi/AIM, issue 5.
    """

    stride = 32
    input_channels = 4

    def __init__(
        self,
        *,
        skip: bool = False,
        refiner: bool = False,
        kernel: int = 3,
        trimap: str = "unified",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value in {"skip": skip, "refiner": refiner}.items():
            if not isinstance(value, bool):
                raise AimmatError(f"dim's switch {name} is true or false, got {value!r}")
        if kernel not in (1, 3):
            raise AimmatError(f"dim's kernel is 1 or 3 pixels wide, got {kernel!r}")
        if trimap not in TRIMAPS:
            raise AimmatError(f"dim's trimap is {' or '.join(TRIMAPS)}, got {trimap!r}")
        check_width("dim", width)
        self.skip, self.trimap = skip, trimap
        self.encoder = VGG16(batch_norm=False, in_channels=4, width=width)
        c0, c1, c2, c3, c4 = self.encoder.channels
        self.bridge = nn.ModuleList((nn.Conv2d(c4, c4, kernel, padding=kernel // 2), nn.Conv2d(c4, c4, 1)))
        steps = ((c4, c3), (c3, c2), (c2, c1), (c1, c0), (c0, c0))
        self.decoder = nn.ModuleList(nn.Conv2d(before, after, 5, padding=2) for before, after in steps)
        self.head = nn.Conv2d(c0, 1, 5, padding=2)
        self.refiner = Refiner(width) if refiner else None
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):  # He's for values on their way forward: no normalisation mends their size
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        for head in (self.head,) if self.refiner is None else (self.head, self.refiner.head):
            nn.init.normal_(head.weight, std=0.01)  # starts undecided: logits near 0

    def inputs(self, batch: Batch) -> Tensor:
        """The image and, as its fourth channel, the trimap: 0 background, 0.5 transition, 1 foreground."""
        trimap = batch["semantic"] if self.trimap == "unified" else batch["trimap"]
        return torch.cat((batch["image"], trimap.to(batch["image"]) / 2), dim=1)

    def backbones(self) -> dict[str, nn.Module]:
        """VGG-16 of ImageNet; the kernels of the trimap start as zeros."""
        return {"vgg16": self.encoder}

    def forward(self, image: Tensor) -> Prediction:
        """See the matte of the transition.

        Args:
            image: (B, 4, H, W), RGB in [0, 1] and the trimap as `inputs` gives it, H and W multiples of 32. What lies
                between 0 and 1 in the trimap is transition.

        Returns:
            matting: the network's own word, (B, 1, H, W) in [0, 1]; alpha: the same in the transition, elsewhere the
            trimap; parts: "transition", 1 where it is and else 0, and with a refiner "coarse", the matte before it;
            float32 under autocast too.

        Raises:
            TypeError: image is not floating point.
            ValueError: image has another shape; the sentence names the padded size to use.
        """
        self.check(image)
        trimap = image[:, 3:]
        colour = self.normalise(image[:, :3])
        seen = self.encoder(torch.cat((colour, trimap), dim=1))
        x = seen.deepest  # (B, 512, H/32, W/32)
        for conv in self.bridge:
            x = F.relu(conv(x))
        for conv, where, before in zip(self.decoder, reversed(seen.indices), reversed(seen.maps), strict=True):
            x = unpool(x, where, (before.shape[-2], before.shape[-1]))
            x = F.relu(conv(x + before if self.skip else x))  # (B, 512, H/16, W/16) to (B, 64, H, W)
        logits = self.head(x)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        parts = {"transition": ((trimap > 0) & (trimap < 1)).to(logits)}
        if self.refiner is not None:
            parts["coarse"] = logits.sigmoid()
            logits = self.refiner(colour, logits)
            logits = logits.to(parts["coarse"])
        matting = logits.sigmoid()
        return Prediction(semantic=None, matting=matting, alpha=keep_known(matting, trimap), parts=parts)
