from itertools import product
from pathlib import Path
from runpy import run_path

import pytest
import skimage.transform
import torch
import torch.nn.functional as F

from aimmat.functional.resize import resize
from aimmat.schema import AimmatError

as_the_release_resizes = run_path(str(Path(__file__).parents[1] / "oracles" / "resize.py"))["resize"]


def noise(*shape, dtype=torch.float64, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Growing, shrinking, odd ratios, one side each way, sides of one pixel.
SIZES = [(8, 12), (96, 64), (31, 47), (5, 100), (64, 1), (1, 1), (33, 33), (128, 7)]


@pytest.mark.parametrize(("before", "after"), [pair for pair in product(SIZES, SIZES) if pair[0] != pair[1]])
def test_the_release_resizes_as_scikit_image_does(before, after):
    image = 0.2 + 0.5 * noise(1, 3, *before)
    expected = as_the_release_resizes(image[0].permute(1, 2, 0).numpy(), after)
    got = resize(image, after, protocol="release")[0].permute(1, 2, 0)
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=0, atol=1e-12)  # float64 rounding of positions


@pytest.mark.parametrize("after", [(96, 64), (31, 47), (100, 3)])
def test_the_release_resizes_as_scikit_image_of_today_does_when_told_to(after):
    matte = noise(1, 1, 24, 33)
    expected = skimage.transform.resize(
        matte[0, 0].numpy(), after, order=1, mode="constant", cval=0, clip=True, anti_aliasing=False
    )
    got = resize(matte, after, protocol="release")[0, 0]
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=0, atol=1e-12)  # float64 rounding of positions


@pytest.mark.parametrize("after", [(97, 140), (640, 33), (1000, 1001)])
def test_a_constant_region_stays_exactly_constant(after):
    maps = torch.cat([torch.full((1, 1, 32, 16), value) for value in (0.0, 1.0, 0.3)], dim=3)
    got = resize(maps, after, protocol="release")
    rows = slice(round(after[0] / 64) + 1, -round(after[0] / 64) - 1)  # half a pixel of the small map fades
    for k, value in enumerate((0.0, 1.0, 0.3)):
        columns = slice(round((k / 3 + 1 / 96) * after[1]) + 1, round(((k + 1) / 3 - 1 / 96) * after[1]) - 1)
        region = got[..., rows, columns]
        assert region.numel() > 100
        assert (region == torch.tensor(value)).all()


def test_a_sample_does_not_depend_on_its_batch():
    maps = torch.stack([noise(1, 20, 30), 0.5 + noise(1, 20, 30, seed=1)])  # each is clipped to its own range
    both = resize(maps, (50, 41), protocol="release")
    for sample, alone in zip(both, maps, strict=True):
        assert torch.equal(sample, resize(alone[None], (50, 41), protocol="release")[0])


def test_the_papers_resizing_filters_and_keeps_the_border():
    stripes = torch.zeros(1, 1, 32, 32)
    stripes[..., ::2] = 1
    assert resize(stripes, (8, 8)).sub(0.5).abs()[..., 1:-1].max() < 0.05  # the border sees one stripe more
    assert resize(stripes, (32, 11), protocol="release")[0, 0, 0, -1] > 0.95  # the last pixel holds 2.9 stripes
    grown = resize(stripes, (128, 128))
    assert torch.equal(grown[..., :2], torch.ones(1, 1, 128, 2))
    torch.testing.assert_close(grown, F.interpolate(stripes, (128, 128), mode="bilinear"))


def test_an_unknown_protocol_is_named():
    with pytest.raises(AimmatError, match="protocol must be paper or release, got 'paepr'"):
        resize(torch.zeros(1, 1, 4, 4), (2, 2), protocol="paepr")
