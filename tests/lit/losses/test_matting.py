"""Terms and weights of the composite losses."""

import pytest
import torch

from aimmat.functional import alpha_loss, composition_loss, laplacian_loss, semantic_loss
from aimmat.lit.losses import MattingLoss, check_finite
from aimmat.schema import AimmatError, Prediction


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(2, 1, 16, 16, generator=generator)
    prediction = Prediction(
        torch.randn(2, 3, 16, 16, generator=generator),
        torch.rand(2, 1, 16, 16, generator=generator),
        torch.rand(2, 1, 16, 16, generator=generator),
    )
    batch = {
        "image": torch.rand(2, 3, 16, 16, generator=generator),
        "foreground": torch.rand(2, 3, 16, 16, generator=generator),
        "background": torch.rand(2, 3, 16, 16, generator=generator),
        "alpha": alpha,
        "semantic": torch.randint(0, 3, (2, 1, 16, 16), generator=generator),
        "name": ["one", "two"],
    }
    return prediction, batch


def test_every_term_is_the_loss_it_names(pair):
    prediction, batch = pair
    transition = batch["semantic"] == 1
    expected = {
        "semantic": semantic_loss(prediction.semantic, batch["semantic"]),
        "matting_alpha": alpha_loss(prediction.matting, batch["alpha"], transition),
        "matting_laplacian": laplacian_loss(prediction.matting, batch["alpha"], transition),
        "fused_alpha": alpha_loss(prediction.alpha, batch["alpha"]),
        "fused_laplacian": laplacian_loss(prediction.alpha, batch["alpha"]),
        "fused_composition": composition_loss(
            prediction.alpha, batch["foreground"], batch["background"], batch["image"]
        ),
    }
    assert MattingLoss()(prediction, batch) == expected


def test_every_term_follows_the_protocol(pair):
    prediction, batch = pair
    wide = {key: value.repeat(1, 1, 2, 2) if torch.is_tensor(value) else value for key, value in batch.items()}
    prediction = Prediction(*(part.repeat(1, 1, 2, 2) for part in prediction[:3]))
    alpha, transition = wide["alpha"], wide["semantic"] == 1
    layers = wide["foreground"], wide["background"], wide["image"]
    expected = {
        "semantic": semantic_loss(prediction.semantic, wide["semantic"], "release"),
        "matting_alpha": alpha_loss(prediction.matting, alpha, transition, "release"),
        "matting_laplacian": laplacian_loss(prediction.matting, alpha, transition, "release"),
        "fused_alpha": alpha_loss(prediction.alpha, alpha, None, "release"),
        "fused_laplacian": laplacian_loss(prediction.alpha, alpha, None, "release"),
        "fused_composition": composition_loss(prediction.alpha, *layers, "release"),
    }
    found = MattingLoss(protocol="release")(prediction, wide)
    assert found == expected
    paper = MattingLoss()(prediction, wide)
    assert {name for name in found if found[name] != paper[name]} == set(found) - {"fused_alpha"}  # the same formula


def test_an_unknown_protocol_is_named_when_the_loss_is_made():
    with pytest.raises(AimmatError, match="protocol must be paper or release"):
        MattingLoss(protocol="relaese")


def test_a_weight_scales_its_term_and_zero_leaves_it_out(pair):
    terms, half = MattingLoss()(*pair), MattingLoss(semantic=0.5, fused_composition=0)(*pair)
    assert half["semantic"] == terms["semantic"] / 2
    assert set(terms) - set(half) == {"fused_composition"}


def test_a_network_without_decoders_has_their_terms_left_out(pair):
    terms = MattingLoss()(Prediction(None, None, pair[0].alpha), pair[1])
    assert set(terms) == {"fused_alpha", "fused_laplacian", "fused_composition"}


def test_a_loss_that_is_no_number_names_its_samples(pair):
    with pytest.raises(FloatingPointError, match=r"semantic are not finite on the samples one, two$"):
        check_finite({"semantic": torch.tensor(float("nan")), "fused_alpha": torch.tensor(1.0)}, pair[1])
