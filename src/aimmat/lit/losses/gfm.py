"""GFM's losses: what the glance tells apart, what the focus says of the transition, and what both make of the matte."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aimmat.functional import alpha_loss, composition_loss, laplacian_loss, semantic_loss
from aimmat.schema import AimmatError, Batch, Prediction, Protocol, SemanticClass, is_release

SHARE = 0.25  # of every term in a network of one branch; in one of three they are not weighted


class GFMLoss(nn.Module):
    """Losses of a GFM of any mode; a weight of 0 leaves a term out.

    | term | of | over |
    | --- | --- | --- |
    | glance | cross-entropy of the branch's classes | all pixels |
    | focus_alpha, focus_laplacian | the branch's focus | the transition |
    | fused_alpha, fused_laplacian, fused_composition | the branch's alpha | all pixels |
    | final_alpha, final_laplacian, final_composition | the integrated alpha, before it is clamped | all pixels |

    The sum is a quarter of these terms for a network of one branch. With three (rim) the first three rows' terms of
    each stand under its name (tt_glance, ...), the last row joins them, and no term is weighted.

    The targets follow the fusion rules. The transition is that of the batch's semantic target, a trimap or unified.

    | branch | classes | focus in the transition | alpha |
    | --- | --- | --- | --- |
    | tt | background, transition, foreground | alpha | focus in the transition |
    | ft | all but the sure foreground, the sure foreground | alpha | class + focus |
    | bt | the sure background, all but that | 1 - alpha | class - focus |

    Corrected against the public code: alone, its ft learns the classes of bt and its bt those of opaque pixels, which
    contradicts its own fusion rules and the targets of its rim; and its rim trains on the predictions of ft in place of
    those of bt, so that bt never learns. Its two classes come from an erosion and a dilation of 50 pixels where its
    trimap has 25; here the trimap says all.

    Args:
        glance: weight of the term, as are all others.
        focus_alpha: weight.
        focus_laplacian: weight.
        alpha: weight, of fused_alpha and final_alpha.
        laplacian: weight, of fused_laplacian and final_laplacian.
        composition: weight, of fused_composition and final_composition: the sum over the colours, as in the public
            code. Needs the layers that the picture was composited from.
        protocol: "release" computes cross-entropy, alpha and Laplacian terms as the public code does.

    Raises:
        AimmatError: an unknown protocol, or no term is left.

    Source:
        Li et al., IJCV 2022; github.com/JizhiziLi/GFM at 4b15ee0, core/train.py and core/evaluate.py. The alpha term of
        the focus is a mean for each sample here, there one over the batch.
    """

    def __init__(
        self,
        glance: float = 1.0,
        focus_alpha: float = 1.0,
        focus_laplacian: float = 1.0,
        alpha: float = 1.0,
        laplacian: float = 1.0,
        composition: float = 1.0,
        protocol: Protocol = "paper",
    ) -> None:
        super().__init__()
        is_release(protocol)
        self.protocol = protocol
        branch = {"glance": glance, "focus_alpha": focus_alpha, "focus_laplacian": focus_laplacian}
        whole = {"alpha": alpha, "laplacian": laplacian, "composition": composition}
        self.branch, self.whole = ({name: w for name, w in some.items() if w} for some in (branch, whole))
        if not self.branch and not self.whole:
            raise AimmatError("gfm's loss has no term; give glance, alpha or another a weight above 0")

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms, each a scalar.

        Raises:
            ValueError: the prediction is another network's.
        """
        parts = prediction.parts or {}
        if prediction.semantic is not None and prediction.matting is not None:
            parts = {"glance_tt": prediction.semantic, "focus_tt": prediction.matting, "fused_tt": prediction.alpha}
        branches = [name.removeprefix("glance_") for name in parts if name.startswith("glance_")]
        if not branches:
            raise ValueError("the loss of gfm needs the glance and focus of a branch; model and loss differ")
        alone = len(branches) == 1
        terms: dict[str, Tensor] = {}
        for branch in branches:
            found = self._branch(branch, parts[f"glance_{branch}"], parts[f"focus_{branch}"], batch)
            found |= self._whole("fused", parts[f"fused_{branch}"], batch)
            terms |= {name if alone else f"{branch}_{name}": value for name, value in found.items()}
        if "final" in parts:
            terms |= self._whole("final", parts["final"], batch)
        return {name: SHARE * value for name, value in terms.items()} if alone else terms

    def _branch(self, branch: str, glance: Tensor, focus: Tensor, batch: Batch) -> dict[str, Tensor]:
        classes, target = targets(branch, batch["semantic"], batch["alpha"])
        transition = batch["semantic"] == SemanticClass.TRANSITION
        terms = {}
        for name, weight in self.branch.items():
            if name == "glance":
                term = semantic_loss(glance, classes, self.protocol)
            elif name == "focus_alpha":
                maps = [part.unsqueeze(1).unbind() for part in (focus, target, transition)]
                samples = zip(*maps, strict=True)
                term = torch.stack([alpha_loss(p, t, region, self.protocol) for p, t, region in samples]).mean()
            else:
                term = laplacian_loss(focus, target, transition, self.protocol)
            terms[name] = weight * term
        return terms

    def _whole(self, what: str, alpha: Tensor, batch: Batch) -> dict[str, Tensor]:
        terms = {}
        for name, weight in self.whole.items():
            if name == "alpha":
                term = alpha_loss(alpha, batch["alpha"], protocol=self.protocol)
            elif name == "laplacian":
                term = laplacian_loss(alpha, batch["alpha"], protocol=self.protocol)
            else:
                term = 3 * composition_loss(alpha, batch["foreground"], batch["background"], batch["image"])
            terms[f"{what}_{name}"] = weight * term
        return terms


def targets(branch: str, semantic: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """What a branch's glance and focus learn.

    Args:
        branch: "tt", "ft" or "bt".
        semantic: trimap or unified, (B, 1, H, W) int64 class index.
        alpha: ground-truth alpha matte, (B, 1, H, W).

    Returns:
        Classes, (B, 1, H, W) int64, and the focus's target in the transition, (B, 1, H, W) in [0, 1].

    >>> trimap = torch.tensor([[[[0, 1, 2]]]])
    >>> [targets(branch, trimap, torch.ones(1, 1, 1, 3))[0].tolist() for branch in ("tt", "ft", "bt")]
    [[[[[0, 1, 2]]]], [[[[0, 0, 1]]]], [[[[0, 1, 1]]]]]
    """
    match branch:
        case "tt":
            return semantic, alpha
        case "ft":
            return (semantic == SemanticClass.FOREGROUND).long(), alpha
        case _:
            return (semantic != SemanticClass.BACKGROUND).long(), 1 - alpha
