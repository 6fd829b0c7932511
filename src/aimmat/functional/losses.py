"""The losses of the paper: cross-entropy, alpha, Laplacian and composition; scalars in at least float32."""

from __future__ import annotations

import torch
from torch import Tensor

from aimmat.functional.compositing import composite
from aimmat.functional.filters import laplacian_pyramid
from aimmat.schema import Protocol, is_release


def semantic_loss(logits: Tensor, target: Tensor, protocol: Protocol = "paper") -> Tensor:
    """Cross-entropy of the semantic decoder, mean over pixels.

    Args:
        logits: (B, 3, H, W), background, transition, foreground, before the softmax.
        target: generalised trimap, (B, 1, H, W) int64 class index.
        protocol: "release" takes the softmax of the logits' sigmoids, which lie in [0, 1].

    Returns:
        (), 0 for certain and right, log 3 for no opinion. The release's ends at log(1 + 2 / e) = 0.55.

    Raises:
        AimmatError: an unknown protocol.
        ValueError: the shapes do not belong together.

    Source:
        AIM paper, section 3.2; release: core/evaluate.py, `get_crossentropy_loss`.
    """
    if target.shape != (len(logits), 1, *logits.shape[2:]) or logits.dim() != 4:
        raise ValueError(
            f"logits and target must be (B, 3, H, W) and (B, 1, H, W), got {tuple(logits.shape)} and "
            f"{tuple(target.shape)}; resize the target to the logits with mode='nearest'"
        )
    # Not F.cross_entropy: on CUDA it has no deterministic form and raises under deterministic=True.
    scores = _precise(logits).sigmoid() if is_release(protocol) else _precise(logits)
    return -scores.log_softmax(dim=1).gather(1, target).mean()


def alpha_loss(pred: Tensor, alpha: Tensor, region: Tensor | None = None, protocol: Protocol = "paper") -> Tensor:
    """Mean absolute difference, smooth at zero: sqrt(d^2 + 1e-12).

    Args:
        pred: predicted alpha matte, (B, 1, H, W), values in [0, 1].
        alpha: ground-truth alpha matte, same shape and range.
        region: the pixels that count, (B, 1, H, W) bool, usually the transition; None counts them all.
        protocol: "release" sums over all pixels after setting d to 0 outside the region, so that each of those still
            adds 1e-6.

    Returns:
        (), from 0 to 1: the sum over the batch's pixels in the region, divided by their number + 1 (so that an
        empty region gives 0), or the mean over all pixels.

    Raises:
        AimmatError: an unknown protocol.
        ValueError: the shapes differ.

    Source:
        Xu et al., CVPR 2017 (Deep Image Matting); AIM paper, section 3.3; release: core/evaluate.py, `get_alpha_loss`.

    >>> alpha_loss(torch.full((1, 1, 3, 3), 0.75), torch.full((1, 1, 3, 3), 0.25))
    tensor(0.5000)
    """
    _check_mattes(pred, alpha, region)
    difference, release = _precise(pred) - _precise(alpha), is_release(protocol)
    if region is None:
        return _smooth_abs(difference).mean()
    error = _smooth_abs(difference * region) if release else _smooth_abs(difference) * region
    return error.sum() / (region.sum() + 1)


def laplacian_loss(pred: Tensor, alpha: Tensor, region: Tensor | None = None, protocol: Protocol = "paper") -> Tensor:
    """Mean absolute difference of two Laplacian pyramids, summed over five bands and the residual.

    Args:
        pred: predicted alpha matte, (B, 1, H, W), values in [0, 1].
        alpha: ground-truth alpha matte, same shape and range.
        region: the pixels that count, (B, 1, H, W) bool, usually the transition; both mattes are 0 elsewhere. The
            mean still runs over all pixels, so the loss grows with the region, as in the released code.
        protocol: which `filters.laplacian_pyramid`.

    Returns:
        (), from 0.

    Raises:
        AimmatError: an unknown protocol.
        ValueError: the shapes differ, or the mattes are too small for the release's pyramid.

    Source:
        Hou and Liu, ICCV 2019; AIM paper, section 3.3. Bands weigh the same, as in the released code, where Hou and
        Liu weigh band k by 2^k.
    """
    _check_mattes(pred, alpha, region)
    difference = _precise(pred) - _precise(alpha)  # the pyramid is linear: one does for both
    if region is not None:
        difference = difference * region
    bands = laplacian_pyramid(difference, protocol=protocol)
    return torch.stack([band.abs().mean() for band in bands]).sum()


def composition_loss(
    alpha: Tensor, foreground: Tensor, background: Tensor, image: Tensor, protocol: Protocol = "paper"
) -> Tensor:
    """Mean absolute difference of the image and what a predicted matte composites, smooth at zero as the alpha loss.

    Args:
        alpha: predicted alpha matte, (B, 1, H, W), values in [0, 1].
        foreground: true foreground colour, (B, 3, H, W), values in [0, 1].
        background: true background colour, same shape and range.
        image: their true composite, same shape and range.
        protocol: "release" compares colours after ImageNet normalisation and sums the channels: about 13 times as much.

    Returns:
        (), from 0 to 1, mean over pixels and channels; the release's goes to 13.3.

    Raises:
        AimmatError: an unknown protocol.
        ValueError: the shapes do not belong together.

    Source:
        Xu et al., CVPR 2017 (Deep Image Matting); AIM paper, section 3.3; release: core/evaluate.py,
        `get_composition_loss_whole_img`, on what core/data.py normalises.
    """
    if image.shape != foreground.shape:
        raise ValueError(
            f"image must have the shape of its foreground, {tuple(foreground.shape)}, got {tuple(image.shape)}; "
            f"give the composite of these very layers"
        )
    difference = composite(_precise(foreground), _precise(background), _precise(alpha)) - _precise(image)
    if not is_release(protocol):
        return _smooth_abs(difference).mean()
    # The means cancel in the difference of two normalised pictures.
    return _smooth_abs(difference / difference.new_tensor(_IMAGENET_STD).view(3, 1, 1)).sum(dim=1).mean()


_IMAGENET_STD = (0.229, 0.224, 0.225)


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
