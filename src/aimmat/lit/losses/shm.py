"""What SHM learns from, in each of its phases."""

from __future__ import annotations

from torch import Tensor, nn

from aimmat.functional import alpha_loss, composition_loss, semantic_loss
from aimmat.schema import Batch, Prediction


class SHMLoss(nn.Module):
    """Losses of SHM, all over the whole picture; a weight of 0 leaves its term out.

    | term | of |
    | --- | --- |
    | semantic | cross-entropy of the trimap network |
    | fused_alpha | the final alpha |
    | fused_composition | what the final alpha composites |

    The defaults are those of the joint phase: half the alpha's and half the composite's, and a hundredth of the
    cross-entropy. Alpha is read before it is cut to [0, 1], so that what lies beyond has a gradient back.

    The public code's joint phase stops with an error, its smoothing is 1e-3 where Deep Image Matting has 1e-6, and its
    own comment doubts the range of its colours; here they lie in [0, 1].

    Args:
        semantic: weight of the term, as are the others.
        alpha: weight.
        composition: weight; needs the layers that the picture was composited from.

    Source:
        Chen et al., Semantic Human Matting, ACM MM 2018, section 4.4; github.com/tsing90/
        pytorch_semantic_human_matting, train.py.
    """

    def __init__(self, semantic: float = 0.01, alpha: float = 0.5, composition: float = 0.5) -> None:
        super().__init__()
        self.semantic, self.alpha, self.composition = semantic, alpha, composition

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms, each a scalar; a trimap that was given has none."""
        assert prediction.parts is not None
        alpha, terms = prediction.parts["alpha"], {}
        if self.semantic and prediction.semantic is not None:
            terms["semantic"] = self.semantic * semantic_loss(prediction.semantic, batch["semantic"])
        if self.alpha:
            terms["fused_alpha"] = self.alpha * alpha_loss(alpha, batch["alpha"])
        if self.composition:
            layers = batch["foreground"], batch["background"], batch["image"]
            terms["fused_composition"] = self.composition * composition_loss(alpha, *layers)
        return terms
