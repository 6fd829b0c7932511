import pytest
import torch

from aimmat.functional import fuse, likeliest_class


def test_hard_fusion_takes_matting_in_the_transition_only():
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0]]).T.reshape(1, 3, 1, 3)  # argmax 0, 1, 2
    matting = torch.tensor([0.2, 0.3, 0.4]).view(1, 1, 1, 3)
    torch.testing.assert_close(fuse(logits, matting, hard=True).flatten(), torch.tensor([0, 0.3, 1]))


def test_soft_fusion_is_equation_2_with_the_expected_semantics():
    logits = torch.tensor([0.2, 0.3, 0.5]).log().view(1, 3, 1, 1)  # U = 0.5 * 0.3 + 0.5 = 0.65, 2 |U - 0.5| = 0.3
    fused = fuse(logits, torch.full((1, 1, 1, 1), 0.4), hard=False)
    assert fused.item() == pytest.approx(0.7 * 0.4 + 0.3 * 0.65, abs=1e-6)


def test_soft_fusion_tends_to_the_hard_one_when_semantics_are_sure():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=generator) * 1000
    matting = torch.rand(2, 1, 8, 8, generator=generator)
    top = logits.topk(2, dim=1).values
    sure = (top[:, :1] - top[:, 1:]) > 20  # the other classes have e^-20 = 2e-9
    hard, soft = fuse(logits, matting, hard=True), fuse(logits, matting, hard=False)
    assert sure.float().mean() > 0.9
    torch.testing.assert_close(soft[sure], hard[sure], rtol=0, atol=1e-6)  # float32 rounding


def test_only_soft_fusion_teaches_the_semantics():
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    matting = torch.full((1, 1, 4, 4), 0.4, requires_grad=True)
    fuse(logits, matting, hard=True).sum().backward()
    assert logits.grad is None
    assert torch.equal(matting.grad, (logits.argmax(1, keepdim=True) == 1).float())
    fuse(logits, matting, hard=False).sum().backward()
    assert (logits.grad != 0).any()


def test_the_release_compares_sigmoids_and_takes_the_first_of_equal_ones():
    logits = torch.tensor([[30.0, 20.0, 40.0], [-9.0, 18.0, 17.5], [0.1, 0.3, 0.2]]).T.reshape(1, 3, 1, 3)
    assert likeliest_class(logits).flatten().tolist() == [2, 1, 1]
    assert likeliest_class(logits, "release").flatten().tolist() == [0, 1, 1]  # float32: all of the first are 1
    matting = torch.full((1, 1, 1, 3), 0.3)
    torch.testing.assert_close(fuse(logits, matting, True, "release").flatten(), torch.tensor([0.0, 0.3, 0.3]))


def test_shapes_that_do_not_belong_together_are_named():
    with pytest.raises(ValueError, match=r"got \(1, 3, 4, 4\) and \(1, 1, 8, 8\); resize"):
        fuse(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 8, 8), hard=True)
