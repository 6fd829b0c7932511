"""DIM's losses, by hand."""

import pytest
import torch

from aimmat.lit.losses import DIMLoss
from aimmat.schema import AimmatError, Prediction


def flat(*values):
    """Two samples of 2x2 pixels, each sample of one value."""
    return torch.tensor(values).view(2, 1, 1, 1).expand(2, 1, 2, 2)


@pytest.fixture
def batch():
    colour = torch.ones(2, 3, 2, 2)
    return {"alpha": flat(0.5, 0.5), "foreground": colour, "background": 0 * colour, "image": 0.5 * colour}


# The first sample has three pixels of transition, whose sum is divided by 4; the second one, divided by 2.
TRANSITION = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]], [[[1.0, 0.0], [0.0, 0.0]]]])


def test_terms_are_means_over_each_samples_transition(batch):
    matte = flat(0.75, 0.1)
    terms = DIMLoss()(Prediction(None, matte, matte, {"transition": TRANSITION}), batch)
    assert set(terms) == {"alpha", "composition"}
    # 0.5 * ((3 * 0.25) / 4 + 0.4 / 2) / 2; white on black, so colours differ as the mattes do
    expected = torch.tensor(0.5 * (0.1875 + 0.2) / 2)
    torch.testing.assert_close(terms["alpha"], expected)
    torch.testing.assert_close(terms["composition"], expected)


def test_the_composition_term_is_a_mean_over_the_colours(batch):
    matte = flat(0.75, 0.5)
    batch["foreground"] = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(2, 3, 2, 2)
    batch["image"] = 0.5 * batch["foreground"]
    terms = DIMLoss(alpha=0, composition=1)(Prediction(None, matte, matte, {"transition": TRANSITION}), batch)
    # 0.25 * (1 + 0.5 + 0) / 3 over three of four pixels, of one of two samples
    torch.testing.assert_close(terms["composition"], torch.tensor(0.125 * 3 / 4 / 2), rtol=0, atol=2e-6)  # sqrt(1e-12)


def test_known_pixels_teach_nothing(batch):
    matte = flat(0.75, 0.1).clone().requires_grad_()
    sum(DIMLoss()(Prediction(None, matte, matte, {"transition": TRANSITION}), batch).values()).backward()
    assert torch.equal(matte.grad != 0, TRANSITION.bool())


def test_a_sample_without_transition_counts_as_zero(batch):
    matte = flat(0.75, 0.1)
    transition = TRANSITION.clone()
    transition[1] = 0
    terms = DIMLoss(alpha=1)(Prediction(None, matte, matte, {"transition": transition}), batch)
    torch.testing.assert_close(terms["alpha"], torch.tensor(0.1875 / 2))


def test_the_refiner_has_the_alpha_term_alone_and_the_decoder_its_own_matte(batch):
    refined, coarse = flat(0.6, 0.6), flat(0.75, 0.1)
    parts = {"transition": TRANSITION, "coarse": coarse}
    terms = DIMLoss()(Prediction(None, refined, refined, parts), batch)
    torch.testing.assert_close(terms["refined"], torch.tensor((0.3 / 4 + 0.1 / 2) / 2))
    torch.testing.assert_close(terms["alpha"], torch.tensor(0.5 * (0.1875 + 0.2) / 2))
    assert set(DIMLoss(alpha=0, composition=0)(Prediction(None, refined, refined, parts), batch)) == {"refined"}


def test_masks_without_layers_need_no_composition_term(batch):
    matte = flat(0.75, 0.1)
    masks = {"alpha": batch["alpha"]}
    assert set(DIMLoss(composition=0)(Prediction(None, matte, matte, {"transition": TRANSITION}), masks)) == {"alpha"}


def test_what_does_not_belong_together_is_refused(batch):
    matte = flat(0.75, 0.1)
    with pytest.raises(AimmatError, match="dim's loss has no term; give alpha, composition or refined a weight"):
        DIMLoss(0, 0, 0)
    with pytest.raises(ValueError, match="needs a matte and its part transition; model and loss differ"):
        DIMLoss()(Prediction(None, matte, matte), batch)
    with pytest.raises(ValueError, match=r"there is no refiner; set model\.refiner=true"):
        DIMLoss(0, 0)(Prediction(None, matte, matte, {"transition": TRANSITION}), batch)
