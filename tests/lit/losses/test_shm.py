"""Terms and weights of SHM's loss, by hand."""

import math

import pytest
import torch

from aimmat.lit.losses import SHMLoss
from aimmat.schema import Prediction


def pair(alpha, semantic=True):
    """A prediction of one alpha everywhere, on a grey picture whose truth is half foreground, 1, over black."""
    alpha = torch.full((1, 1, 2, 2), alpha, requires_grad=True)
    logits = torch.zeros(1, 3, 2, 2, requires_grad=True) if semantic else None
    parts = {"matting": alpha, "alpha": alpha}
    batch = {
        "image": torch.full((1, 3, 2, 2), 0.5),
        "foreground": torch.ones(1, 3, 2, 2),
        "background": torch.zeros(1, 3, 2, 2),
        "alpha": torch.full((1, 1, 2, 2), 0.5),
        "semantic": torch.ones(1, 1, 2, 2, dtype=torch.int64),
    }
    return Prediction(logits, alpha.clamp(0, 1), alpha.clamp(0, 1), parts), batch


def test_the_joint_phase_weighs_halves_and_a_hundredth():
    terms = SHMLoss()(*pair(0.75))
    # Both differences are 1/4; three classes of which nothing is known have the cross-entropy log 3.
    expected = {"semantic": 0.01 * math.log(3), "fused_alpha": 0.5 * 0.25, "fused_composition": 0.5 * 0.25}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, abs=1e-6)


def test_what_lies_beyond_1_counts_and_learns():
    prediction, batch = pair(1.5)
    terms = SHMLoss(semantic=0)(prediction, batch)
    assert terms["fused_alpha"].item() == pytest.approx(0.5, abs=1e-6)  # half of 1.5 - 0.5; cut to 1 it were 0.25
    assert terms["fused_composition"].item() == pytest.approx(0.5, abs=1e-6)
    (gradient,) = torch.autograd.grad(sum(terms.values()), prediction.parts["alpha"])
    assert (gradient > 0).all()


def test_a_weight_of_0_leaves_its_term_out():
    prediction, batch = pair(0.75)
    assert set(SHMLoss(semantic=1, alpha=0, composition=0)(prediction, batch)) == {"semantic"}
    del batch["foreground"], batch["background"]  # a photograph with a mask has none
    assert set(SHMLoss(composition=0)(prediction, batch)) == {"semantic", "fused_alpha"}


def test_a_trimap_that_was_given_has_no_term():
    assert set(SHMLoss()(*pair(0.75, semantic=False))) == {"fused_alpha", "fused_composition"}


def test_a_perfect_answer_costs_next_to_nothing():
    prediction, batch = pair(0.5)
    prediction = prediction._replace(semantic=torch.tensor([0.0, 30, 0]).view(1, 3, 1, 1).expand(1, 3, 2, 2))
    assert sum(SHMLoss()(prediction, batch).values()) < 2e-6  # the smoothing of the roots, 1e-6 each
