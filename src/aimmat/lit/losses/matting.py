"""The composite losses of a three-part network's two stages, as named and weighted terms."""

from __future__ import annotations

from torch import Tensor, nn

from aimmat.functional import alpha_loss, composition_loss, laplacian_loss, semantic_loss
from aimmat.schema import Batch, Prediction, Protocol, SemanticClass, is_release


class MattingLoss(nn.Module):
    """Losses of a three-part matting network (paper, sections 3.2 and 3.3); a weight of 0 leaves its term out.

    | term | of | over |
    | --- | --- | --- |
    | semantic | cross-entropy of the semantic decoder | all pixels |
    | matting_alpha, matting_laplacian | the matting decoder's alpha | the transition of the semantic target |
    | fused_alpha, fused_laplacian, fused_composition | the final alpha | all pixels |

    The defaults are those of the matting stage; saliency pre-training leaves out the Laplacian and composition terms,
    as the release does.

    Args:
        semantic: weight of the term, as are all others.
        matting_alpha: weight.
        matting_laplacian: weight.
        fused_alpha: weight.
        fused_laplacian: weight.
        fused_composition: weight; needs the layers that the picture was composited from.
        protocol: "release" computes each term as the released code does.

    Raises:
        AimmatError: an unknown protocol.
    """

    def __init__(
        self,
        semantic: float = 1.0,
        matting_alpha: float = 1.0,
        matting_laplacian: float = 1.0,
        fused_alpha: float = 1.0,
        fused_laplacian: float = 1.0,
        fused_composition: float = 1.0,
        protocol: Protocol = "paper",
    ) -> None:
        super().__init__()
        is_release(protocol)
        self.protocol = protocol
        weights = {
            "semantic": semantic,
            "matting_alpha": matting_alpha,
            "matting_laplacian": matting_laplacian,
            "fused_alpha": fused_alpha,
            "fused_laplacian": fused_laplacian,
            "fused_composition": fused_composition,
        }
        self.weights = {name: weight for name, weight in weights.items() if weight}

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms, each a scalar; a part that the network does not have has no term."""
        return {
            name: weight * self._term(name, prediction, batch)
            for name, weight in self.weights.items()
            if not (name == "semantic" and prediction.semantic is None)
            and not (name.startswith("matting") and prediction.matting is None)
        }

    @staticmethod
    def area(batch: Batch) -> Tensor:
        """Pixels that `matting_alpha` is a mean over, where the other terms are means over the samples."""
        return (batch["semantic"] == SemanticClass.TRANSITION).sum()

    def _term(self, name: str, prediction: Prediction, batch: Batch) -> Tensor:
        alpha, target, protocol = batch["alpha"], batch["semantic"], self.protocol
        transition = target == SemanticClass.TRANSITION
        match name:
            case "semantic":
                assert prediction.semantic is not None
                return semantic_loss(prediction.semantic, target, protocol)
            case "matting_alpha":
                assert prediction.matting is not None
                return alpha_loss(prediction.matting, alpha, transition, protocol)
            case "matting_laplacian":
                assert prediction.matting is not None
                return laplacian_loss(prediction.matting, alpha, transition, protocol)
            case "fused_alpha":
                return alpha_loss(prediction.alpha, alpha, protocol=protocol)
            case "fused_laplacian":
                return laplacian_loss(prediction.alpha, alpha, protocol=protocol)
            case _:
                layers = batch["foreground"], batch["background"], batch["image"]
                return composition_loss(prediction.alpha, *layers, protocol)
