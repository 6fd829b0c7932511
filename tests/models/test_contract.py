"""What every registered network promises; a new one joins with its line in NETWORKS and one in SMALL."""

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from aimmat.models import NETWORKS, build
from aimmat.schema import AimmatError

SMALL = {
    "aimnet": {"width": 0.125},
    "hatt": {"width": 0.0625},
    "gfm": {"width": 0.0625},
    "dim": {"width": 0.125, "refiner": True},
    "lf": {"encoder": "densenet121", "width": 0.0625},
    "u2net": {"width": 0.0625},
    "shm": {"width": 0.0625},
}  # switches that make a network small enough to test

networks = pytest.mark.parametrize("name", [name for name, net in NETWORKS.items() if net.trainable])


def small(name):
    torch.manual_seed(0)
    return build(name, **SMALL[name])


def picture(net, *size, batch=2):
    return torch.rand(batch, net.input_channels, *size, generator=torch.Generator().manual_seed(0))


@networks
def test_the_prediction_has_the_images_size_and_lies_in_0_1(name):
    net = small(name).eval()
    for size in ((net.stride, net.stride), (2 * net.stride, 3 * net.stride)):
        with torch.no_grad():
            prediction = net(picture(net, *size, batch=1))
        assert prediction.alpha.shape == (1, 1, *size)
        assert prediction.semantic is None or prediction.semantic.shape == (1, 3, *size)
        for matte in (prediction.alpha, prediction.matting):
            if matte is not None:
                assert matte.shape == (1, 1, *size)
                assert 0 <= matte.min() <= matte.max() <= 1


@networks
def test_a_black_and_a_white_image_give_numbers(name):
    net = small(name).eval()
    flat = torch.stack((torch.zeros(net.input_channels, 64, 64), torch.ones(net.input_channels, 64, 64)))
    with torch.no_grad():
        assert all(t.isfinite().all() for t in tree_leaves(net(flat)) if t is not None)


@networks
def test_sides_that_do_not_fit_are_refused_with_the_padded_size(name):
    net = small(name)
    if net.stride == 1:
        pytest.skip("every size fits")
    s = net.stride
    with pytest.raises(ValueError, match=rf"multiples of {s}, got {s + 1} x {s}; pad it to {2 * s} x {s}"):
        net(picture(net, s + 1, s))


@networks
def test_what_is_no_batch_of_float_images_is_refused(name):
    net = small(name)
    image = picture(net, net.stride, net.stride)
    with pytest.raises(TypeError, match=r"got torch\.uint8; an 8-bit one becomes so with image / 255"):
        net(image.to(torch.uint8))
    with pytest.raises(ValueError, match=r"a single .* image becomes one with image\[None\]"):
        net(image[0])
    with pytest.raises(ValueError, match=rf"image must be \(B, {net.input_channels}, H, W\)"):
        net(image[:, :1])


@networks
def test_backward_reaches_every_parameter(name):
    net = small(name).train()
    prediction = net(picture(net, 64, 64))
    # Targets that no output meets: background everywhere, a matte of 1.
    loss = (1 - prediction.alpha).square().mean()
    if prediction.matting is not None:
        loss = loss + (1 - prediction.matting).square().mean()
    if prediction.semantic is not None:
        background = torch.zeros(prediction.semantic.shape[0], *prediction.semantic.shape[2:], dtype=torch.int64)
        loss = loss + nn.functional.cross_entropy(prediction.semantic, background)
    for part in (prediction.parts or {}).values():
        loss = loss + (2 - part).square().mean()
    loss.backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        if parameter.ndim > 1:  # a bias before batch normalisation has the gradient 0
            assert parameter.grad.any(), parameter_name


@networks
def test_weights_survive_a_round_trip_through_a_file(name, tmp_path):
    net = small(name).eval()
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(1)
    other = build(name, **SMALL[name]).eval()
    image = picture(net, 64, 64)
    with torch.no_grad():
        expected = net(image)
        assert not torch.equal(other(image).alpha, expected.alpha)
        other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        assert torch.equal(other(image).alpha, expected.alpha)


@networks
def test_the_exported_program_gives_the_same_numbers(name):
    net = small(name).eval()
    image = picture(net, 64, 96)
    program = torch.export.export(net, (image,))
    with torch.no_grad():
        outputs = [tree_leaves(outcome) for outcome in (program.module()(image), net(image))]
        for exported, eager in zip(*outputs, strict=True):
            # The same operations in the same order; only unpooling takes another way, equal to the bit.
            torch.testing.assert_close(exported, eager, rtol=0, atol=1e-6)


@networks
def test_deterministic_algorithms_train_a_step(name):
    torch.use_deterministic_algorithms(True)
    try:
        net = small(name).train()
        net(picture(net, 64, 64)).alpha.sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


@networks
def test_an_unknown_switch_is_answered_with_the_known_ones(name):
    with pytest.raises(AimmatError, match=rf"{name} has no switch 'no_such'; its switches are "):
        build(name, no_such=True)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        AimmatError, match=r"there is no network 'aimet' \(did you mean 'aimnet'\?\); the networks are aimnet"
    ):
        build("aimet")
