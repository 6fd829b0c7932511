"""U2-Net's loss: binary cross-entropy of its matte and of the six that it is fused from."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.schema import AimmatError, Batch, Prediction


class U2NetLoss(nn.Module):
    """Binary cross-entropy with the alpha matte as target, mean over all pixels, summed over the seven maps.

    A soft target is no class but the share of one, so the least value is the target's own entropy, 0 only where alpha
    is 0 or 1; it is reached by the true matte all the same.

    Args:
        fused: weight of the final map's term; 0 leaves a term out.
        sides: weight of each of the six maps' terms.

    Raises:
        AimmatError: no term is left.

    Source:
        Qin et al., Pattern Recognition 2020, section 3.3: all weights 1. The release takes the cross-entropy of rounded
        sigmoids, which cuts off its gradient where a map is certain; this one is computed from logits.
    """

    def __init__(self, fused: float = 1.0, sides: float = 1.0) -> None:
        super().__init__()
        self.weights = {name: weight for name, weight in {"fused": fused, "sides": sides}.items() if weight}
        if not self.weights:
            raise AimmatError("u2net's loss has no term; give fused or sides a weight above 0")

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms, each a scalar: the final map's, and the sum of the six maps'.

        Args:
            prediction: with the logits "fused", (B, 1, H, W), and "sides", (B, 6, H, W), as its parts.
            batch: "alpha" is the target, (B, 1, H, W) in [0, 1].

        Raises:
            ValueError: the prediction is another network's, or its maps have another size than the target.
        """
        alpha, parts = batch["alpha"], prediction.parts or {}
        if missing := self.weights.keys() - parts.keys():
            raise ValueError(f"the loss of u2net needs its parts {', '.join(sorted(missing))}; model and loss differ")
        return {name: weight * _cross_entropy(parts[name], alpha) for name, weight in self.weights.items()}


def _cross_entropy(logits: Tensor, alpha: Tensor) -> Tensor:
    """Mean over batch and pixels, sum over channels."""
    if (len(logits), *logits.shape[2:]) != (len(alpha), *alpha.shape[2:]):
        raise ValueError(
            f"logits and alpha must be (B, C, H, W) and (B, 1, H, W), got {tuple(logits.shape)} and "
            f"{tuple(alpha.shape)}; resize the target to the logits"
        )
    return F.binary_cross_entropy_with_logits(logits, alpha.to(logits).expand_as(logits)) * logits.shape[1]
