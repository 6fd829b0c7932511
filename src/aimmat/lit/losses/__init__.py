"""What the networks learn from: `loss(prediction, batch)` gives named terms, a file for each method."""

from __future__ import annotations

import torch
from torch import Tensor

from aimmat.lit.losses.dim import DIMLoss
from aimmat.lit.losses.gfm import GFMLoss
from aimmat.lit.losses.hatt import HATTLoss
from aimmat.lit.losses.lf import LFLoss
from aimmat.lit.losses.matting import MattingLoss
from aimmat.lit.losses.shm import SHMLoss
from aimmat.lit.losses.u2net import U2NetLoss
from aimmat.schema import Batch

__all__ = ["DIMLoss", "GFMLoss", "HATTLoss", "LFLoss", "MattingLoss", "SHMLoss", "U2NetLoss", "check_finite"]


def check_finite(terms: dict[str, Tensor], batch: Batch) -> None:
    """Refuse to go on when a loss is not a number, and name the samples.

    Raises:
        FloatingPointError: a term is NaN or infinite.
    """
    bad = [name for name, term in terms.items() if not torch.isfinite(term.detach())]
    if bad:
        raise FloatingPointError(
            f"the loss terms {', '.join(bad)} are not finite on the samples {', '.join(batch['name'])}"
        )
