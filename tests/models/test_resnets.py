"""ResNets and ResNeXts under torchvision's names."""

import pytest
import torch
from torch import nn

from aimmat.models import count_parameters
from aimmat.models.resnets import RESNETS, ResNet

# torchvision's published counts, with the classifier of 1000 classes: 21.8, 25.6, 44.5 and 88.8 M
COUNTS = {"resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160, "resnext101_32x8d": 88_791_336}


@pytest.mark.parametrize("kind", RESNETS)
def test_parameters_are_torchvisions_without_the_classifier(kind):
    with torch.device("meta"):
        net = ResNet(kind)
    assert count_parameters(net) == COUNTS[kind] - (net.channels[4] + 1) * 1000


@pytest.mark.parametrize("kind", RESNETS)
def test_names_are_torchvisions(kind):
    with torch.device("meta"):
        net = ResNet(kind)
    block, depths, *_ = RESNETS[kind]
    convolutions = 2 if block.expansion == 1 else 3
    expected = {"conv1.weight"} | norm("bn1")
    for stage, depth in enumerate(depths, start=1):
        for k in range(depth):
            for j in range(1, convolutions + 1):
                expected |= {f"layer{stage}.{k}.conv{j}.weight"} | norm(f"layer{stage}.{k}.bn{j}")
        if stage > 1 or block.expansion > 1:
            expected |= {f"layer{stage}.0.downsample.0.weight"} | norm(f"layer{stage}.0.downsample.1")
    assert net.state_dict().keys() == expected


def norm(name):
    return {f"{name}.{kind}" for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}


@pytest.mark.parametrize("kind", RESNETS)
def test_maps_have_the_channels_and_sizes_that_it_says(kind):
    net = ResNet(kind, width=0.0625).eval()
    with torch.no_grad():
        maps = net(torch.rand(1, 3, 64, 96))
    assert [found.shape[1] for found in maps] == list(net.channels)
    assert [tuple(found.shape[2:]) for found in maps] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]


def test_without_pool_and_strides_maps_stay_large():
    net = ResNet("resnext101_32x8d", width=0.0625, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), pool=False).eval()
    with torch.no_grad():
        maps = net(torch.rand(1, 3, 32, 32))
    assert [found.shape[-1] for found in maps] == [16, 16, 8, 4, 4]


@pytest.mark.parametrize("kind", ["resnet50", "resnext101_32x8d"])
def test_dilation_spares_the_first_block_and_keeps_the_size(kind):
    net = ResNet(kind, width=0.0625, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)).eval()
    found = [[block.conv2.dilation[0] for block in net.get_submodule(f"layer{k}")] for k in range(1, 5)]
    depths = RESNETS[kind][1]
    expected = zip(depths, (1, 1, 2, 4), strict=True)
    assert found == [[1] + [dilation] * (depth - 1) for depth, dilation in expected]
    with torch.no_grad():
        assert [x.shape[-1] for x in net(torch.rand(1, 3, 64, 64))] == [32, 16, 8, 8, 8]


def test_the_stride_is_in_the_middle_of_a_bottleneck():
    net = ResNet("resnet50", width=0.0625)
    assert net.layer2[0].conv1.stride == (1, 1)
    assert net.layer2[0].conv2.stride == (2, 2)


def test_a_resnext_has_groups_of_eight_channels():
    with torch.device("meta"):
        net = ResNet("resnext101_32x8d")
    middles = [net.get_submodule(f"layer{k}")[0].conv2 for k in range(1, 5)]
    assert [(conv.groups, conv.weight.shape[1]) for conv in middles] == [(32, 8), (32, 16), (32, 32), (32, 64)]


@pytest.mark.parametrize(("kind", "last"), [("resnet34", "bn2"), ("resnet50", "bn3")])
def test_a_block_adds_what_came_in(kind, last):
    block = ResNet(kind, width=0.0625).layer1[1].eval()
    nn.init.zeros_(getattr(block, last).weight)  # and its bias is 0: the branch says nothing
    x = torch.rand(1, 4 * (4 if last == "bn3" else 1), 5, 5)
    assert torch.equal(block(x), x)
