import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from aimmat.lit.losses import HATTLoss
from aimmat.lit.losses.hatt import patch_discriminator, structural_similarity
from aimmat.models import count_parameters
from aimmat.schema import AimmatError, Prediction


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of(alpha):
    return {"alpha": alpha, "image": drawn(len(alpha), 3, *alpha.shape[2:], seed=7)}


def terms_of(pred, alpha, **settings):
    return HATTLoss(**settings)(Prediction(None, None, pred), batch_of(alpha))


# structural similarity


def test_flat_mattes_are_as_alike_as_their_means():
    mattes = torch.tensor([0.2, 0.6]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    wanted = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    found = structural_similarity(mattes, mattes.flip(0))
    torch.testing.assert_close(found, torch.full_like(found, wanted), rtol=0, atol=1e-3)  # float32's 1e-7 over 9e-4


def test_the_similarity_is_that_of_another_library():
    pred = drawn(2, 1, 32, 40).double()
    alpha = (pred + drawn(2, 1, 32, 40, seed=1)) / 2
    _, wanted = structural_similarity_index_measure(pred, alpha, data_range=1.0, return_full_image=True)
    found = structural_similarity(pred, alpha)
    inside = ..., slice(5, -5), slice(5, -5)  # no window reaches beyond the border, where the two differ
    torch.testing.assert_close(found[inside], wanted[inside], rtol=0, atol=1e-9)  # both in float64
    assert found[inside].std() > 0.01


def test_the_similarity_knows_its_own_gradient():
    pred, alpha = drawn(1, 1, 6, 5).double().requires_grad_(), drawn(1, 1, 6, 5, seed=1).double()
    assert torch.autograd.gradcheck(lambda x: structural_similarity(x, alpha), pred)


def test_autocast_does_not_round_the_similarity():
    pred, alpha = drawn(1, 1, 16, 16), drawn(1, 1, 16, 16, seed=1)
    wanted = structural_similarity(pred, alpha)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(structural_similarity(pred, alpha), wanted)


def test_mattes_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"got \(1, 1, 8, 8\) and \(1, 1, 8, 9\); resize the prediction to the target"):
        structural_similarity(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 9))


# the two terms that are always there


def test_a_better_structure_lowers_the_loss():
    # Two mattes that are off by 0.1 everywhere: one keeps the structure, the other puts a chessboard over it.
    alpha = 0.2 + 0.6 * drawn(1, 1, 24, 24)
    chessboard = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).tile(12, 12)
    kept, broken = terms_of(alpha + 0.1, alpha), terms_of(alpha + 0.1 * chessboard, alpha)
    torch.testing.assert_close(kept["mse"], torch.tensor(0.01))
    torch.testing.assert_close(broken["mse"], torch.tensor(0.01))
    assert 0 < kept["ssim"] < 0.7 * broken["ssim"]


def test_the_true_matte_costs_nothing_and_every_other_something():
    alpha = drawn(2, 1, 16, 16)
    true, inverted = terms_of(alpha, alpha), terms_of(1 - alpha, alpha)
    assert true["mse"] == 0
    assert true["ssim"].item() == pytest.approx(0, abs=1e-6)
    assert 0.1 < inverted["ssim"] < 0.2  # 0.1 * (1 - s), s below 0


def test_following_the_similarity_term_makes_mattes_more_alike():
    alpha, pred = drawn(1, 1, 16, 16), drawn(1, 1, 16, 16, seed=1).requires_grad_()
    before = structural_similarity(pred, alpha).mean()
    terms_of(pred, alpha)["ssim"].backward()
    after = structural_similarity(pred.detach() - 100 * pred.grad, alpha).mean()
    assert after > before + 0.01


def test_weights_scale_their_terms():
    alpha, pred = drawn(2, 1, 16, 16), drawn(2, 1, 16, 16, seed=1)
    ones, default = terms_of(pred, alpha, mse=1, ssim=1), terms_of(pred, alpha)
    assert ones.keys() == default.keys() == {"mse", "ssim"}
    torch.testing.assert_close(default["mse"], (pred - alpha).square().mean())
    torch.testing.assert_close(default["ssim"], 0.1 * ones["ssim"])


# the discriminator


def test_without_a_discriminator_nothing_of_the_loss_learns():
    assert not list(HATTLoss().parameters())
    assert count_parameters(HATTLoss(adversarial="patchgan")) == 2_764_865
    with pytest.raises(AimmatError, match="hatt's adversarial is off or patchgan, got False; YAML needs it as 'off'"):
        HATTLoss(adversarial=False)


def test_a_logit_sees_a_patch_of_70_pixels():
    discriminator = patch_discriminator()
    for layer in discriminator:
        if isinstance(layer, torch.nn.InstanceNorm2d):
            layer.forward = lambda x: x  # it alone sees the whole
    picture = drawn(1, 4, 128, 128).requires_grad_()
    logits = discriminator(picture)
    assert logits.shape == (1, 1, 14, 14)
    logits[0, 0, 7, 7].backward()
    seen = picture.grad.abs().sum((0, 1)).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [70, 70]


def adversarial_terms():
    torch.manual_seed(0)
    loss = HATTLoss(adversarial="patchgan")
    pred, alpha = drawn(2, 1, 32, 32).requires_grad_(), drawn(2, 1, 32, 32, seed=1)
    return loss, pred, loss(Prediction(None, None, pred), batch_of(alpha))


def test_the_generator_term_teaches_the_matte_alone():
    loss, pred, terms = adversarial_terms()
    terms["generator"].backward()
    assert pred.grad.any()
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_the_discriminator_term_teaches_the_discriminator_alone():
    loss, pred, terms = adversarial_terms()
    terms["discriminator"].backward()
    assert pred.grad is None
    assert all(parameter.grad.any() for parameter in loss.parameters())


def test_the_adversarial_terms_are_cross_entropies_of_the_patches():
    loss, pred, terms = adversarial_terms()
    batch = batch_of(drawn(2, 1, 32, 32, seed=1))
    true, false = (loss.discriminator(torch.cat((batch["image"], matte), 1)) for matte in (batch["alpha"], pred))
    ones, zeros = torch.ones_like(true), torch.zeros_like(false)
    entropy = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(terms["generator"], 0.05 * entropy(false, ones))
    torch.testing.assert_close(terms["discriminator"], (entropy(true, ones) + entropy(false, zeros)) / 2)


def test_both_sides_learn_in_one_optimiser():
    loss, pred, terms = adversarial_terms()
    batch = batch_of(drawn(2, 1, 32, 32, seed=1))
    told_apart = terms["discriminator"].item()
    optimizer = torch.optim.Adam(loss.parameters(), 1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        terms = loss(Prediction(None, None, pred), batch)
        sum(terms.values()).backward()
        optimizer.step()
    assert terms["discriminator"] < 0.5 * told_apart
    # Down its own term, a matte gets harder to tell from a true one.
    before = loss(Prediction(None, None, pred), batch)["generator"]
    (slope,) = torch.autograd.grad(before, pred)
    moved = Prediction(None, None, pred - 0.1 * slope / slope.abs().max())
    assert loss(moved, batch)["generator"] < before
