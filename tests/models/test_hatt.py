"""HATT: its size, the sizes of its maps, and what its two attentions weigh."""

import pytest
import torch

from aimmat.models import HATT, build, count_macs, count_parameters
from aimmat.models.hatt import AtrousPyramid, StripAttention
from aimmat.schema import AimmatError

# Counted by hand from the layers, weights and biases, two values per channel of batch normalisation.
PYRAMID = 2 * 2048 * 256 + 3 * 9 * 2048 * 256 + 5 * 256 * 256 + 5 * 2 * 256 + 256
ATTENTION = 2 * (7 * 256 * 128 + 7 * 128 * 128 + 2 * 2 * 128) + 256 * 256 + 256
COUNTS = {
    "encoder": 86_742_336,  # torchvision's 88,791,336 without 2,049,000 of its classifier
    "pyramid": PYRAMID,
    "distil": 2 * 256 * 16,
    "filter": ATTENTION,
    "refine": 9 * 256 * 256 + 2 * 256,
    "head": 9 * 512 + 1,
}


def small():
    torch.manual_seed(0)
    return build("hatt", width=0.0625).eval()


def test_its_size_is_the_sum_of_its_parts():
    with torch.device("meta"):
        net = HATT()
    assert {name: count_parameters(part) for name, part in net.named_children()} == COUNTS
    assert count_parameters(net) == sum(COUNTS.values()) == 103_635_265
    assert count_macs(net, 320) == pytest.approx(223.71e9, abs=5e6)  # the last digit


def test_cues_have_half_the_size_and_semantics_an_eighth():
    net, sizes = small(), {}
    for name in ("encoder.layer1", "encoder.layer2", "encoder.layer3", "encoder.layer4", "distil", "filter", "head"):
        part = net.get_submodule(name)
        part.register_forward_hook(lambda _, given, found, name=name: sizes.update({name: tuple(found.shape[1:])}))
    with torch.no_grad():
        prediction = net(torch.rand(1, 3, 64, 40))
    assert prediction.semantic is prediction.matting is prediction.parts is None
    assert prediction.alpha.shape == (1, 1, 64, 40)
    assert sizes == {
        "encoder.layer1": (32, 32, 20),
        "encoder.layer2": (32, 16, 10),
        "encoder.layer3": (64, 8, 5),
        "encoder.layer4": (128, 8, 5),
        "distil": (16, 8, 5),
        "filter": (32, 32, 20),
        "head": (1, 32, 20),
    }


def test_the_pyramid_sees_four_surroundings_and_the_whole():
    torch.manual_seed(0)
    pyramid = AtrousPyramid(4, 4).eval()
    assert [branch[0].dilation for branch in pyramid.far] == [(6, 6), (12, 12), (18, 18)]
    for name, reach in (("near", 0), ("far.0", 6), ("far.1", 12), ("far.2", 18)):
        place = torch.zeros(1, 4, 41, 41)
        place[..., 20, 20] = 1
        with torch.no_grad():
            seen = pyramid.get_submodule(name)[0](place).abs().sum((0, 1)).nonzero() - 20
        assert (seen.amin().item(), seen.amax().item()) == (-reach, reach), name
    torch.nn.init.ones_(pyramid.whole.weight)
    with torch.no_grad():
        far = torch.zeros(1, 4, 41, 41)
        before = pyramid(far)[..., 0, 0]
        far[..., 40, 40] = 1e4  # further than any rate reaches
        assert not torch.equal(pyramid(far)[..., 0, 0], before)


def test_either_path_sees_seven_by_seven_pixels():
    attention = StripAttention(4, 3).eval()
    for path, kernels in zip(attention.paths, ([(1, 7), (7, 1)], [(7, 1), (1, 7)]), strict=True):
        assert [strip[0].kernel_size for strip in path] == kernels
        x = torch.ones(1, 4, 21, 21, requires_grad=True)
        path[1][0](path[0][0](x))[..., 10, 10].sum().backward()
        seen = x.grad.abs().sum((0, 1)).nonzero()
        assert (seen.amin(0).tolist(), seen.amax(0).tolist()) == ([7, 7], [13, 13])
    found = attention(torch.rand(2, 4, 9, 5))
    assert found.shape == (2, 3, 9, 5)
    assert 0 < found.min() <= found.max() < 1


def test_a_closed_gate_lets_no_cue_through():
    net = small()
    seen = []
    net.refine.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    torch.nn.init.zeros_(net.filter.gate.weight)
    torch.nn.init.constant_(net.filter.gate.bias, -200.0)
    with torch.no_grad():
        net(torch.rand(1, 3, 32, 32))
        assert not seen[0].any()
        torch.nn.init.constant_(net.filter.gate.bias, 200.0)
        image = torch.rand(1, 3, 32, 32)
        net(image)
        assert torch.equal(seen[1], net.encoder(net.normalise(image))[1])  # an open one, all of them


def test_alpha_is_float32_under_autocast():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert small()(torch.rand(1, 3, 32, 32)).alpha.dtype == torch.float32


def test_a_single_small_picture_trains():
    # One value per channel and picture is too few for batch normalisation: the mean of the whole map has none.
    net = small().train()
    net(torch.rand(1, 3, 16, 16)).alpha.sum().backward()
    assert net.pyramid.whole.weight.grad.any()


def test_torchvisions_file_fills_the_encoder():
    backbone = small().backbones()["resnext101_32x8d"]
    assert {"conv1.weight", "layer1.0.conv1.weight", "layer4.2.bn3.running_var"} <= backbone.state_dict().keys()


def test_a_width_without_sense_is_refused():
    with pytest.raises(AimmatError, match="hatt's width is a number above 0 and at most 4, got 0"):
        HATT(width=0)
