"""Fusion of the semantic map and the matting decoder's output into the final matte."""

from __future__ import annotations

import torch
from torch import Tensor

from aimmat.schema import Protocol, is_release


def likeliest_class(semantic_logits: Tensor, protocol: Protocol = "paper") -> Tensor:
    """Class of each pixel.

    Args:
        semantic_logits: (B, 3, H, W), background, transition, foreground.
        protocol: "release" compares the logits' sigmoids, which are equal where two logits are so large that float32
            rounds both to 1; the first of equal ones wins.

    Returns:
        (B, 1, H, W) int64 class index.

    Raises:
        AimmatError: an unknown protocol.
    """
    scores = semantic_logits.sigmoid() if is_release(protocol) else semantic_logits
    return scores.argmax(dim=1, keepdim=True)


def fuse(semantic_logits: Tensor, matting: Tensor, hard: bool, protocol: Protocol = "paper") -> Tensor:
    """Final alpha matte: semantics where they are sure, the matting decoder's output in the transition.

    Args:
        semantic_logits: (B, 3, H, W), background, transition, foreground.
        matting: the matting decoder's alpha, (B, 1, H, W), values in [0, 1].
        hard: U is the likeliest class (0, 0.5 or 1), which gives the semantics no gradient, as the released code does;
            otherwise U is the expected value of these three under the softmax.
        protocol: how the likeliest class is found, see `likeliest_class`.

    Returns:
        (B, 1, H, W), values in [0, 1].

    Raises:
        AimmatError: an unknown protocol.
        ValueError: the shapes do not belong together.

    Source:
        AIM paper, section 3.3, equation 2: alpha = (1 - 2 |U - 0.5|) M + 2 |U - 0.5| U.

    >>> logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]]).view(1, 3, 1, 3)
    >>> fuse(logits, torch.full((1, 1, 1, 3), 0.25), hard=True)
    tensor([[[[0.0000, 0.2500, 1.0000]]]])
    """
    batch, _, *size = matting.shape
    if semantic_logits.shape != (batch, 3, *size) or matting.shape[1] != 1:
        raise ValueError(
            f"semantic_logits and matting must be (B, 3, H, W) and (B, 1, H, W), got {tuple(semantic_logits.shape)} "
            f"and {tuple(matting.shape)}; resize one to the other's size first"
        )
    if hard:
        scores = semantic_logits.sigmoid() if is_release(protocol) else semantic_logits
        background, transition, foreground = scores.chunk(3, dim=1)
        # The first of equal classes, as argmax of `likeliest_class` says, which takes ten times as long on a CPU.
        known = ((foreground > background) & (foreground > transition)).to(matting.dtype)
        return torch.where((transition > background) & (transition >= foreground), matting, known)
    probability = semantic_logits.softmax(dim=1)
    unified = 0.5 * probability[:, 1:2] + probability[:, 2:3]
    sureness = 2 * (unified - 0.5).abs()
    return (1 - sureness) * matting + sureness * unified


def keep_known(alpha: Tensor, trimap: Tensor) -> Tensor:
    """Final alpha matte of a network that is shown a trimap, whose known pixels are the answer.

    Args:
        alpha: what the network says, (B, 1, H, W), values in [0, 1].
        trimap: same shape, 0 background, 1 foreground, in between transition.

    Returns:
        (B, 1, H, W): alpha in the transition, elsewhere the trimap.

    >>> keep_known(torch.full((1, 1, 1, 3), 0.25), torch.tensor([[[[0.0, 0.5, 1.0]]]]))
    tensor([[[[0.0000, 0.2500, 1.0000]]]])
    """
    return torch.where((trimap > 0) & (trimap < 1), alpha, trimap.to(alpha))
