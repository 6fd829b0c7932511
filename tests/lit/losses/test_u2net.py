import math

import pytest
import torch

from aimmat.lit.losses import U2NetLoss
from aimmat.schema import AimmatError, Prediction


def said(fused, *sides):
    """A prediction whose maps hold one logit each, of two pictures of one pixel and three."""
    fused, sides = (torch.tensor(values).view(1, -1, 1, 1).expand(2, -1, 1, 3) for values in ([fused], sides))
    return Prediction(None, None, fused.sigmoid(), {"fused": fused, "sides": sides})


def of(*alpha):
    return {"alpha": torch.tensor(alpha).view(2, 1, 1, 3)}


def test_terms_are_means_over_pixels_and_sums_over_maps():
    # log 2 for no opinion; log(1 + 3) where 1/4 is said of a pixel that is 1, log(4/3) where it is 0.
    logit = -math.log(3)
    terms = U2NetLoss()(said(logit, logit, logit, 0.0, 0.0, 0.0, 0.0), of(1.0, 0.0, 0.0, 1.0, 0.0, 0.0))
    quarter = (math.log(4) + 2 * math.log(4 / 3)) / 3
    assert terms["fused"].item() == pytest.approx(quarter, rel=1e-6)
    assert terms["sides"].item() == pytest.approx(2 * quarter + 4 * math.log(2), rel=1e-6)
    assert terms.keys() == {"fused", "sides"}


def test_a_soft_target_is_met_by_the_true_matte_alone():
    logits = torch.linspace(-3, 3, 61)
    batch = of(*[0.25] * 6)
    found = [U2NetLoss(sides=0)(said(logit.item()), batch)["fused"].item() for logit in logits]
    best = logits[torch.tensor(found).argmin()].sigmoid().item()
    assert best == pytest.approx(0.25, abs=0.01)  # a step of 0.1 in the logit is 0.019 there
    assert min(found) == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), abs=1e-3)


def test_what_is_certain_and_wrong_still_learns():
    logit = torch.tensor(200.0, requires_grad=True)  # its sigmoid is 1 in float32
    prediction = Prediction(None, None, torch.ones(2, 1, 1, 3), {"fused": logit.expand(2, 1, 1, 3)})
    U2NetLoss(sides=0)(prediction, of(*[0.0] * 6))["fused"].backward()
    assert logit.grad == pytest.approx(1)


def test_a_weight_scales_its_term_and_zero_leaves_it_out():
    prediction, batch = said(1.0, *map(float, range(6))), of(*[0.5] * 6)
    whole, half = U2NetLoss()(prediction, batch), U2NetLoss(fused=0.5, sides=0)(prediction, batch)
    assert half == {"fused": whole["fused"] / 2}
    with pytest.raises(AimmatError, match="u2net's loss has no term"):
        U2NetLoss(fused=0, sides=0)


def test_the_prediction_of_another_network_is_refused():
    with pytest.raises(ValueError, match="needs its parts fused, sides; model and loss differ"):
        U2NetLoss()(Prediction(None, None, torch.ones(2, 1, 1, 3)), of(*[0.5] * 6))
    with pytest.raises(ValueError, match=r"got \(2, 1, 1, 3\) and \(2, 1, 1, 1\); resize the target to the logits"):
        U2NetLoss()(said(0.0, 0.0), {"alpha": torch.zeros(2, 1, 1, 1)})
