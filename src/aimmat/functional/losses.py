"""The losses of the paper: cross-entropy, alpha, Laplacian and composition; scalars in at least float32."""

from __future__ import annotations

import torch
from torch import Tensor

from aimmat.functional.compositing import composite
from aimmat.functional.filters import laplacian_pyramid


def semantic_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the semantic decoder, mean over pixels.

    Args:
        logits: (B, 3, H, W), background, transition, foreground, before the softmax.
        target: generalised trimap, (B, 1, H, W) int64 class index.

    Returns:
        (), 0 for certain and right, log 3 for no opinion.

    Raises:
        ValueError: the shapes do not belong together.

    Source:
        AIM paper, section 3.2. The released code feeds it sigmoids in place of logits, whose floor is 0.55.
    """
    if target.shape != (len(logits), 1, *logits.shape[2:]) or logits.dim() != 4:
        raise ValueError(
            f"logits and target must be (B, 3, H, W) and (B, 1, H, W), got {tuple(logits.shape)} and "
            f"{tuple(target.shape)}; resize the target to the logits with mode='nearest'"
        )
    # Not F.cross_entropy: on CUDA it has no deterministic form and raises under deterministic=True.
    return -_precise(logits).log_softmax(dim=1).gather(1, target).mean()


def alpha_loss(pred: Tensor, alpha: Tensor, region: Tensor | None = None) -> Tensor:
    """Mean absolute difference, smooth at zero: sqrt(d^2 + 1e-12).

    Args:
        pred: predicted alpha matte, (B, 1, H, W), values in [0, 1].
        alpha: ground-truth alpha matte, same shape and range.
        region: the pixels that count, (B, 1, H, W) bool, usually the transition; None counts them all.

    Returns:
        (), from 0 to 1: the sum over the batch's pixels in the region, divided by their number + 1 (so that an
        empty region gives 0), or the mean over all pixels.

    Raises:
        ValueError: the shapes differ.

    Source:
        Xu et al., CVPR 2017 (Deep Image Matting); AIM paper, section 3.3.

    >>> alpha_loss(torch.full((1, 1, 3, 3), 0.75), torch.full((1, 1, 3, 3), 0.25))
    tensor(0.5000)
    """
    _check_mattes(pred, alpha, region)
    error = _smooth_abs(_precise(pred) - _precise(alpha))
    if region is None:
        return error.mean()
    return (error * region).sum() / (region.sum() + 1)


def laplacian_loss(pred: Tensor, alpha: Tensor, region: Tensor | None = None) -> Tensor:
    """Mean absolute difference of two Laplacian pyramids, summed over five bands and the residual.

    Args:
        pred: predicted alpha matte, (B, 1, H, W), values in [0, 1].
        alpha: ground-truth alpha matte, same shape and range.
        region: the pixels that count, (B, 1, H, W) bool, usually the transition; both mattes are 0 elsewhere. The
            mean still runs over all pixels, so the loss grows with the region, as in the released code.

    Returns:
        (), from 0.

    Raises:
        ValueError: the shapes differ.

    Source:
        Hou and Liu, ICCV 2019; AIM paper, section 3.3. Bands weigh the same, as in the released code, where Hou and
        Liu weigh band k by 2^k.
    """
    _check_mattes(pred, alpha, region)
    difference = _precise(pred) - _precise(alpha)  # the pyramid is linear: one does for both
    if region is not None:
        difference = difference * region
    return torch.stack([band.abs().mean() for band in laplacian_pyramid(difference)]).sum()


def composition_loss(alpha: Tensor, foreground: Tensor, background: Tensor, image: Tensor) -> Tensor:
    """Mean absolute difference of the image and what a predicted matte composites, smooth at zero as the alpha loss.

    Args:
        alpha: predicted alpha matte, (B, 1, H, W), values in [0, 1].
        foreground: true foreground colour, (B, 3, H, W), values in [0, 1].
        background: true background colour, same shape and range.
        image: their true composite, same shape and range.

    Returns:
        (), from 0 to 1, mean over pixels and channels.

    Raises:
        ValueError: the shapes do not belong together.

    Source:
        Xu et al., CVPR 2017 (Deep Image Matting); AIM paper, section 3.3. The released code works on colours after
        ImageNet normalisation and sums the channels: about 13 times this.
    """
    if image.shape != foreground.shape:
        raise ValueError(
            f"image must have the shape of its foreground, {tuple(foreground.shape)}, got {tuple(image.shape)}; "
            f"give the composite of these very layers"
        )
    predicted = composite(_precise(foreground), _precise(background), _precise(alpha))
    return _smooth_abs(predicted - _precise(image)).mean()


def _precise(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.float()


def _smooth_abs(difference: Tensor) -> Tensor:
    return (difference.square() + 1e-12).sqrt()


def _check_mattes(pred: Tensor, alpha: Tensor, region: Tensor | None) -> None:
    if pred.dim() != 4 or pred.shape[1] != 1 or pred.shape != alpha.shape:
        raise ValueError(
            f"pred and alpha must be alpha mattes of one shape (B, 1, H, W), got {tuple(pred.shape)} and "
            f"{tuple(alpha.shape)}; a bare (H, W) matte becomes one with matte[None, None]"
        )
    if region is not None and region.shape != pred.shape:
        raise ValueError(
            f"region must have the shape of the mattes, {tuple(pred.shape)}, got {tuple(region.shape)}; "
            f"a bare (H, W) mask becomes one with region[None, None]"
        )
