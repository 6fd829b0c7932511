"""DIM's losses: the matte and what it composites, in the transition of the trimap that the network was shown."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aimmat.functional.compositing import composite
from aimmat.schema import AimmatError, Batch, Prediction


class DIMLoss(nn.Module):
    """Alpha-prediction and composition loss, means over each sample's transition, then over the samples.

    A sample's sum is divided by the number of its transition's pixels + 1, so that one without any has the loss 0.

    Args:
        alpha: weight of the absolute difference of the decoder's matte and the true one, smooth at zero as
            sqrt(d^2 + 1e-12); 0 leaves a term out.
        composition: weight of the same of the picture and what the decoder's matte composites, mean over the colours;
            needs the layers that the picture was composited from.
        refined: weight of the alpha-prediction loss of the refiner's matte, its only one; a network without a refiner
            has no such term.

    Raises:
        AimmatError: no term is left.

    Source:
        Xu et al., CVPR 2017, sections 4.1 and 4.2; the two weights of 0.5 and the means are those of the public code,
        which trains with one picture a step.
    """

    def __init__(self, alpha: float = 0.5, composition: float = 0.5, refined: float = 1.0) -> None:
        super().__init__()
        weights = {"alpha": alpha, "composition": composition, "refined": refined}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not self.weights:
            raise AimmatError("dim's loss has no term; give alpha, composition or refined a weight above 0")

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms, each a scalar.

        Args:
            prediction: with the matte of the transition, and "transition" as its part.
            batch: "alpha" is the target; "foreground", "background" and "image" are those of the composition term.

        Raises:
            ValueError: the prediction is another network's, or no term is left for a network without a refiner.
        """
        parts, matte = prediction.parts or {}, prediction.matting
        if matte is None or "transition" not in parts:
            raise ValueError("the loss of dim needs a matte and its part transition; model and loss differ")
        coarse, transition = parts.get("coarse", matte), parts["transition"]
        names = self.weights.keys() - (set() if "coarse" in parts else {"refined"})
        if not names:
            raise ValueError("only the refiner's term is on and there is no refiner; set model.refiner=true")
        terms = {}
        for name in (name for name in self.weights if name in names):
            if name == "composition":
                seen = composite(batch["foreground"], batch["background"], coarse)
                error = _smooth_abs(seen - batch["image"]).mean(dim=1, keepdim=True)
            else:
                error = _smooth_abs((matte if name == "refined" else coarse) - batch["alpha"])
            mean = (error * transition).sum((1, 2, 3)) / (transition.sum((1, 2, 3)) + 1)
            terms[name] = self.weights[name] * mean.mean()
        return terms


def _smooth_abs(difference: Tensor) -> Tensor:
    return torch.sqrt(difference.square() + 1e-12)
