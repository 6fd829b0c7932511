"""GFM's losses, by hand, and what they refuse."""

import pytest
import torch

from aimmat.lit.losses import GFMLoss
from aimmat.lit.losses.gfm import targets
from aimmat.schema import AimmatError, Prediction

TRIMAP = torch.tensor([[[[0, 1, 1, 2]]]]).expand(1, 1, 32, 4).repeat(1, 1, 1, 8)
ALPHA = torch.tensor([[[[0.0, 0.25, 0.75, 1.0]]]]).expand(1, 1, 32, 4).repeat(1, 1, 1, 8)
COLOURS = torch.ones(1, 3, 32, 32)
BATCH = {
    "semantic": TRIMAP,
    "alpha": ALPHA,
    "foreground": COLOURS,
    "background": 0 * COLOURS,
    "image": ALPHA * COLOURS,
}


def right(branch):
    """Glance and focus that say the targets, the first very surely."""
    classes, focus = targets(branch, TRIMAP, ALPHA)
    count = 3 if branch == "tt" else 2
    logits = 100 * torch.nn.functional.one_hot(classes[:, 0], count).permute(0, 3, 1, 2).float()
    return {f"glance_{branch}": logits, f"focus_{branch}": focus, f"fused_{branch}": ALPHA}


def prediction(*branches, **more):
    parts = {name: value for branch in branches for name, value in right(branch).items()}
    return Prediction(None, None, ALPHA, {**parts, **more})


@pytest.mark.parametrize("branch", ["tt", "ft", "bt"])
def test_the_targets_make_the_matte_by_the_branchs_own_rule(branch):
    classes, focus = targets(branch, TRIMAP, ALPHA)
    if branch == "tt":
        alpha = torch.where(classes == 1, focus, (classes == 2).float())
    else:
        focus = focus * (TRIMAP == 1)
        alpha = classes + focus if branch == "ft" else classes - focus
    assert torch.equal(alpha, ALPHA)


@pytest.mark.parametrize("branch", ["tt", "ft", "bt"])
def test_a_prediction_of_the_targets_costs_nothing(branch):
    terms = GFMLoss()(prediction(branch), BATCH)
    assert list(terms) == [
        "glance",
        "focus_alpha",
        "focus_laplacian",
        "fused_alpha",
        "fused_laplacian",
        "fused_composition",
    ]
    assert sum(terms.values()) < 1e-5  # sqrt(d^2 + 1e-12) is 1e-6 where there is no difference


def test_the_classes_of_one_branch_are_wrong_for_the_other():
    # what the public code confuses: a map of bt as the target of ft
    wrong = prediction("ft")._replace(parts={**right("ft"), "glance_ft": right("bt")["glance_bt"]})
    # half of the pixels are transition, each a cross-entropy of 100; a quarter of that
    assert GFMLoss()(wrong, BATCH)["glance"] == pytest.approx(0.25 * 0.5 * 100)


def test_one_branch_weighs_a_quarter_and_composition_sums_the_colours():
    off = prediction("ft", fused_ft=ALPHA + 0.1)
    terms = GFMLoss()(off, BATCH)
    assert float(terms["fused_alpha"]) == pytest.approx(0.25 * 0.1, rel=1e-5)
    assert float(terms["fused_composition"]) == pytest.approx(0.25 * 3 * 0.1, rel=1e-5)


def test_three_branches_and_their_integration_are_not_weighted():
    terms = GFMLoss()(prediction("tt", "ft", "bt", final=ALPHA + 0.1), BATCH)
    assert len(terms) == 3 * 6 + 3
    assert float(terms["final_alpha"]) == pytest.approx(0.1, rel=1e-5)
    assert float(terms["final_composition"]) == pytest.approx(0.3, rel=1e-5)
    assert all(value < 1e-5 for name, value in terms.items() if not name.startswith("final"))


def test_bt_learns_from_its_own_prediction():
    found = prediction("tt", "ft", "bt", final=ALPHA)
    found.parts["focus_bt"] = 1 - found.parts["focus_bt"]
    terms = GFMLoss()(found, BATCH)
    assert terms["bt_focus_alpha"] > 0.4
    assert terms["ft_focus_alpha"] < 1e-5


def test_what_it_cannot_use_is_refused():
    with pytest.raises(AimmatError, match="gfm's loss has no term"):
        GFMLoss(*[0] * 6)
    with pytest.raises(AimmatError, match="protocol must be"):
        GFMLoss(protocol="papers")
    with pytest.raises(ValueError, match="needs the glance and focus of a branch"):
        GFMLoss()(Prediction(None, None, ALPHA), BATCH)
