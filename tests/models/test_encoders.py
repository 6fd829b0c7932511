import pytest
import torch
import torch.nn.functional as F

from aimmat.models.encoders import ResNet34


@pytest.mark.parametrize(("mp", "finest"), [(True, 64), (False, 32)])
def test_maps_have_the_sizes_of_table_2(mp, finest):
    features = ResNet34(mp=mp, width=0.125).eval()(torch.rand(1, 3, 64, 64))
    assert [tuple(m.shape) for m in features.maps] == [
        (1, 8, finest, finest),
        (1, 8, 16, 16),
        (1, 16, 8, 8),
        (1, 32, 4, 4),
        (1, 64, 2, 2),
    ]


def test_the_indices_are_those_of_five_overlapping_pools():
    encoder = ResNet34(mp=True, width=0.125).eval()
    with torch.no_grad():
        features = encoder(torch.rand(1, 3, 64, 64))
        half, first = F.max_pool2d(features.maps[0], 3, 2, 1, return_indices=True)
    assert [len(group) for group in features.indices] == [2, 1, 1, 1]
    assert torch.equal(features.indices[0][0], first)
    assert torch.equal(features.indices[0][1], F.max_pool2d(half, 3, 2, 1, return_indices=True)[1])
    for k in (1, 2, 3):
        assert torch.equal(features.indices[k][0], F.max_pool2d(features.maps[k], 3, 2, 1, return_indices=True)[1])


@pytest.mark.parametrize("mp", [True, False])
def test_width_1_has_the_parameters_of_resnet_34_without_its_classifier(mp):
    # 21,797,672 as published, of which the ImageNet classifier has 512 * 1000 + 1000.
    with torch.device("meta"):
        encoder = ResNet34(mp=mp)
    assert sum(p.numel() for p in encoder.parameters()) == 21_797_672 - 513_000
