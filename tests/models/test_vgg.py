"""VGG-16: torchvision's names and counts, and what its pools keep."""

import pytest
import torch
from torch.nn import functional as F

from aimmat.models import count_parameters
from aimmat.models.vgg import VGG16

# Convolutions of torchvision's `features`, which holds ReLUs (and normalisation) and pools beside them.
PLAIN = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
NORMALISED = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)


def test_the_counts_are_torchvisions():
    # vgg16 138,357,544 and vgg16_bn 138,365,992, without three linear layers of 123,642,856.
    assert count_parameters(VGG16(batch_norm=False)) == 138_357_544 - 123_642_856
    assert count_parameters(VGG16(batch_norm=True)) == 138_365_992 - 123_642_856
    assert count_parameters(VGG16(batch_norm=False, in_channels=4)) == 14_714_688 + 64 * 9


@pytest.mark.parametrize(("batch_norm", "convolutions"), [(False, PLAIN), (True, NORMALISED)])
def test_the_names_are_torchvisions(batch_norm, convolutions):
    weights = VGG16(batch_norm=batch_norm, width=0.0625).state_dict()
    kernels = [int(name.split(".")[1]) for name, value in weights.items() if value.ndim == 4]
    assert kernels == list(convolutions)
    assert ("features.1.running_mean" in weights) == batch_norm


def test_maps_and_indices_are_those_of_each_pool():
    torch.manual_seed(0)
    encoder = VGG16(batch_norm=False, width=0.0625).eval()
    with torch.no_grad():
        seen = encoder(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in seen.maps] == [
        (4, 64, 96),
        (8, 32, 48),
        (16, 16, 24),
        (32, 8, 12),
        (32, 4, 6),
    ]
    assert seen.deepest.shape == (1, 32, 2, 3)
    for before, where in zip(seen.maps, seen.indices, strict=True):
        assert before.min() == 0  # after its ReLU
        pooled = F.max_pool2d(before, 2)
        assert torch.equal(before.flatten(2).gather(2, where.flatten(2)).view(pooled.shape), pooled)
    assert torch.equal(seen.deepest, F.max_pool2d(seen.maps[4], 2))


def test_four_pools_leave_the_last_map_as_it_is():
    seen = VGG16(batch_norm=False, width=0.0625, pools=4).eval()(torch.rand(1, 3, 32, 32))
    assert len(seen.maps) == 5
    assert len(seen.indices) == 4
    assert seen.deepest is seen.maps[4]
    assert seen.deepest.shape[-2:] == (2, 2)
