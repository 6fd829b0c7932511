from pathlib import Path
from runpy import run_path

import pytest
import torch

from aimmat.models import build

fill = run_path(str(Path(__file__).parents[2] / "benchmarks" / "parity.py"))["fill"]
FORMS = [{}, {"mp": False}, {"se": False}, {"sa": False}, {"protocol": "release"}, {"fusion": "soft"}]
PIXEL = 16 * 18 / 2**20  # MiB of a pixel at a quarter of the width: 16 channels of four float32 and two bytes


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 160, 96, generator=torch.Generator().manual_seed(0))


def random(**switches):
    return fill(build("aimnet", width=0.25, **switches)).eval()


@pytest.mark.parametrize("switches", FORMS)
@torch.inference_mode()
def test_it_says_what_the_network_says(switches, image):
    net = random(**switches)
    plain, fast = net(image), net.fast()(image)
    # Other sums of float32, on logits of up to 15; measured 7e-5 and 5e-6.
    torch.testing.assert_close(fast.semantic, plain.semantic, rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(fast.matting, plain.matting, rtol=0, atol=2e-5)
    assert ((fast.alpha - plain.alpha).abs() > 1e-3).sum() <= 2  # two classes can be equally likely


@pytest.mark.parametrize("switches", FORMS)
@torch.inference_mode()
def test_each_decoder_alone_says_the_same(switches, image):
    net = random(**switches).fast()
    whole = net(image)
    assert torch.equal(net.semantics(image), whole.semantic)
    assert torch.equal(net.details(image), whole.matting)


@pytest.mark.parametrize("rows", [32, 64, 96, 128])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_bands_leave_no_seam(rows, batch, dtype, image):
    net = random()
    images = torch.cat((image, image.flip(-1)))[:batch]
    whole = net.fast(dtype)
    banded = net.fast(dtype, rows * 96 * batch * PIXEL * (10 / 18 if dtype == torch.bfloat16 else 1))
    assert len(whole._bands(images)) == 1
    assert len(banded._bands(images)) == -(-160 // rows)
    for one, other in zip(whole(images)[:3], banded(images)[:3], strict=True):
        # A row's sums are the same; a library may order them by the number of rows. bfloat16 keeps 8 bits of a value.
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5 if dtype == torch.float32 else 0.05)


@torch.inference_mode()
def test_a_narrow_margin_would_leave_a_seam(image, monkeypatch):
    net = random()
    whole, banded = net.fast(), net.fast(max_memory=32 * 96 * PIXEL)
    monkeypatch.setattr("aimmat.models.fast.MARGIN", 2)
    assert (whole.details(image) - banded.details(image)).abs().max() > 1e-3


@torch.inference_mode()
def test_bfloat16_is_near_on_the_whole(image):
    net = random()
    plain, half = net(image), net.fast(torch.bfloat16)(image)
    assert half.semantic.dtype == half.matting.dtype == half.alpha.dtype == torch.float32
    # 8 bits a value through 40 layers of random weights, and pooled maxima that change place.
    assert (half.matting - plain.matting).abs().mean() < 0.02


def test_the_network_itself_stays_as_it_is(image):
    net = random()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.inference_mode():
        expected = net(image)
        net.fast(torch.bfloat16)(image)
        assert torch.equal(net(image).alpha, expected.alpha)
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_wrong_sides_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="pad it to 64 x 64"):
        random().fast()(torch.rand(1, 3, 33, 64))
