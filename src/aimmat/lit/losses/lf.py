"""The loss of late fusion: two soft segmentations, and how well their fusion meets the matte."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.schema import AimmatError, Batch, Prediction

_SIDES = (32, 16, 8, 4)  # how much smaller than the image


class LFLoss(nn.Module):
    """Losses of LF's decoders and of what it fuses; a weight of 0 leaves its terms out.

    | term | of | weight |
    | --- | --- | --- |
    | foreground | logits of the foreground, which learn alpha | segmentation |
    | background | logits of the background, which learn 1 - alpha | segmentation |
    | sides | the same two at 1/32, 1/16, 1/8 and 1/4 of the size, mean over these four | sides |
    | fusion | the fused alpha: mean of its absolute error, solid pixels counting a tenth | fusion |

    A decoder's loss is `segmentation_loss`. Solid are the pixels whose true alpha is 0 or 1; all others make the
    transition, whatever the trimap. The weights among the terms are ours: the sources name none.

    Args:
        segmentation: weight.
        sides: weight.
        fusion: weight.

    Source:
        Zhang et al., A Late Fusion CNN for Digital Matting, CVPR 2019.
    """

    def __init__(self, segmentation: float = 1.0, sides: float = 1.0, fusion: float = 1.0) -> None:
        super().__init__()
        self.segmentation, self.sides, self.fusion = segmentation, sides, fusion

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms, each a scalar.

        Raises:
            AimmatError: the prediction is not one of LF.
        """
        parts = prediction.parts or {}
        if "foreground" not in parts or "background" not in parts:
            raise AimmatError("LFLoss learns two decoders, foreground and background, which this network does not have")
        truth = {"foreground": batch["alpha"], "background": 1 - batch["alpha"]}
        terms = {}
        if self.segmentation:
            for name, alpha in truth.items():
                terms[name] = self.segmentation * segmentation_loss(parts[name], alpha)
        if self.sides:
            losses = [
                segmentation_loss(parts[f"{name}_{size}"], F.avg_pool2d(alpha, size))
                for name, alpha in truth.items()
                for size in _SIDES
            ]
            terms["sides"] = self.sides * torch.stack(losses).sum() / len(_SIDES)
        if self.fusion:
            weight = torch.where(_transition(batch["alpha"]), 1.0, 0.1)
            terms["fusion"] = self.fusion * (weight * (prediction.alpha - batch["alpha"]).abs()).mean()
        return terms


def segmentation_loss(logits: Tensor, alpha: Tensor) -> Tensor:
    """What a decoder learns from: cross-entropy, difference and gradients of its probability.

    Cross-entropy with alpha itself as the target, transition pixels counting half; the difference is absolute in the
    transition and squared elsewhere; gradients are differences of neighbours, along rows and along columns.

    Args:
        logits: (B, 1, H, W), before the sigmoid.
        alpha: true alpha matte, same shape, values in [0, 1].

    Returns:
        (), sum of the three, each summed over the batch's pixels and divided by their number. Not 0 for a perfect
        answer: the cross-entropy ends at half of alpha's own entropy.

    Source:
        Zhang et al., A Late Fusion CNN for Digital Matting, CVPR 2019.
    """
    transition = _transition(alpha)
    weight = torch.where(transition, 0.5, 1.0)
    entropy = F.binary_cross_entropy_with_logits(logits, alpha, weight)
    error = logits.sigmoid() - alpha
    difference = torch.where(transition, error.abs(), error.square()).mean()
    gradient = sum(error.diff(dim=dim).abs().sum() for dim in (-2, -1)) / error.numel()  # one pixel has none
    return entropy + difference + gradient


def _transition(alpha: Tensor) -> Tensor:
    return (alpha > 0) & (alpha < 1)
