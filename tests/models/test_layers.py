from itertools import product

import pytest
import torch
import torch.nn.functional as F

from aimmat.models.layers import SqueezeExcite, conv_stack, unpool, upsample


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def pooled(shape, *, constant=False, seed=0):
    """A map, its pooled values replaced by fresh ones, and the indices of the maxima."""
    generator = torch.Generator().manual_seed(seed)
    full = torch.zeros(shape) if constant else torch.randn(shape, generator=generator)
    small, indices = F.max_pool2d(full, 3, stride=2, padding=1, return_indices=True)
    return torch.randn(small.shape, generator=generator), indices


# Even and odd sides, a single cell, and ties everywhere.
CASES = [*product([(2, 3, 16, 24), (1, 2, 7, 9), (1, 1, 2, 2), (1, 1, 1, 1)], [False, True])]


@pytest.mark.parametrize(("shape", "constant"), CASES)
def test_unpool_is_the_cpus_max_unpool_to_the_bit(shape, constant):
    x, indices = pooled(shape, constant=constant)
    expected = F.max_unpool2d(x, indices, 2, output_size=shape[-2:])
    assert torch.equal(unpool(x, indices, shape[-2:]), expected)


@pytest.mark.parametrize(("shape", "constant"), CASES)
@pytest.mark.usefixtures("deterministic")
def test_unpool_under_deterministic_algorithms_is_the_same_to_the_bit(shape, constant):
    x, indices = pooled(shape, constant=constant)
    strict = unpool(x, indices, shape[-2:])
    torch.use_deterministic_algorithms(False)
    assert torch.equal(strict, F.max_unpool2d(x, indices, 2, output_size=shape[-2:]))


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("two_threads")
def test_the_memory_format_and_threads_do_not_choose_the_winner():
    x, indices = pooled((1, 64, 128, 128))
    expected = unpool(x, indices, (128, 128))
    for _ in range(5):
        moved = (tensor.to(memory_format=torch.channels_last) for tensor in (x, indices))
        assert torch.equal(unpool(*moved, (128, 128)), expected)


def test_the_last_of_several_values_for_one_pixel_wins():
    # A peak at the odd pixel (1, 1) is the maximum of all four windows that hold it.
    peak = torch.zeros(1, 1, 4, 4)
    peak[..., 1, 1] = 1.0
    _, indices = F.max_pool2d(peak, 3, stride=2, padding=1, return_indices=True)
    assert indices.flatten().tolist() == [5, 5, 5, 5]
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2).requires_grad_()
    unpooled = unpool(x, indices, (4, 4))
    assert unpooled.flatten().tolist() == [0.0] * 5 + [4.0] + [0.0] * 10
    unpooled.sum().backward()
    assert x.grad.flatten().tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(("shape", "constant"), CASES)
def test_with_losers_the_gradient_is_that_of_torchs_max_unpool(shape, constant):
    x, indices = pooled(shape, constant=constant)
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, torchs = x.clone().requires_grad_(), x.clone().requires_grad_()
    unpooled = unpool(ours, indices, shape[-2:], losers=True)
    expected = F.max_unpool2d(torchs, indices, 2, output_size=shape[-2:])
    (unpooled * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.equal(unpooled, expected)
    assert torch.equal(ours.grad, torchs.grad)


@pytest.mark.parametrize("strict", [False, True])
def test_the_gradient_of_unpool_is_that_of_its_result(strict):
    x, indices = pooled((1, 2, 8, 10))
    assert len(indices[0, 0].unique()) < indices[0, 0].numel()  # there are losers
    torch.use_deterministic_algorithms(strict)
    try:
        torch.autograd.gradcheck(lambda x: unpool(x, indices, (8, 10)), x.double().requires_grad_())
    finally:
        torch.use_deterministic_algorithms(False)


def test_unpool_keeps_bfloat16_under_autocast():
    x, indices = pooled((1, 2, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        assert unpool(x.bfloat16(), indices, (8, 8)).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch 2.13's own doing
def test_a_compiled_unpool_gives_the_same_result_and_gradient():
    x, indices = pooled((1, 2, 8, 10))
    weights = torch.arange(80.0).view(1, 1, 8, 10)
    results = []
    for function in (unpool, torch.compile(unpool, backend="aot_eager", fullgraph=True)):
        leaf = x.clone().requires_grad_()
        unpooled = function(leaf, indices, (8, 10))
        (unpooled * weights).sum().backward()
        results.append((unpooled, leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_unpool_refuses_indices_of_another_map():
    x, indices = pooled((1, 2, 8, 8))
    with pytest.raises(ValueError, match=r"one shape, got \(1, 1, 4, 4\) and \(1, 2, 4, 4\)"):
        unpool(x[:, :1], indices, (8, 8))


def test_doubling_keeps_the_mean_so_excitation_may_come_before_it():
    x = torch.rand(2, 16, 5, 7, generator=torch.Generator().manual_seed(0))
    excite = SqueezeExcite(16).eval()
    with torch.no_grad():
        # float32 sums in another order: a few units of 6e-8
        torch.testing.assert_close(upsample(excite(x)), excite(upsample(x)), rtol=0, atol=1e-6)


def test_squeeze_excite_of_256_channels_holds_two_matrices_of_256_by_16():
    assert [tuple(p.shape) for p in SqueezeExcite(256).parameters()] == [(16, 256), (256, 16)]


def test_squeeze_excite_never_starts_dead():
    x = torch.rand(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))  # as after ReLU
    for seed in range(50):
        torch.manual_seed(seed)
        excite = SqueezeExcite(16)
        excite(x).sum().backward()
        assert all(p.grad.any() for p in excite.parameters())


def test_a_dilated_stack_keeps_the_size():
    assert conv_stack(3, 5, 7, dilation=2)(torch.rand(2, 3, 6, 9)).shape == (2, 7, 6, 9)
