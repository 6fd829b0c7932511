"""Windows: what each sees, that none leaves an edge, and what becomes of networks without two decoders."""

import pytest
import torch
from torch import nn

from aimmat.inference import Hybrid, Tile, build_strategy
from aimmat.models import build
from aimmat.schema import AimmatError, Prediction


class Stub(nn.Module):
    """Alpha is what `details` makes of a picture, or the number of the call; all is transition."""

    stride, input_channels = 32, 3

    def __init__(self, details=None, semantic=True):
        super().__init__()
        self.details, self.semantic, self.seen = details, semantic, []

    def forward(self, image):
        self.seen.append(tuple(image.shape[-2:]))
        matte = self.details(image) if self.details else torch.full_like(image[:, :1], (len(self.seen) % 2))
        logits = torch.tensor([0.0, 20, 0]).view(1, 3, 1, 1).expand(len(image), 3, *image.shape[-2:])
        return Prediction(logits if self.semantic else None, matte, matte)


def asked(net, *sides, **options):
    image = torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return image, Tile(**options)(net, image).alpha


@pytest.mark.parametrize("semantic", [True, False])
@pytest.mark.parametrize("sides", [(320, 448), (96, 640), (64, 64)])
def test_what_depends_on_single_pixels_alone_is_as_in_one_piece(sides, semantic):
    net = Stub(lambda image: image.mean(dim=1, keepdim=True), semantic)
    image, alpha = asked(net, *sides, window=128, overlap=32)
    torch.testing.assert_close(alpha, image.mean(dim=1, keepdim=True))
    assert all(height <= 128 and width <= 128 for height, width in net.seen[1:])
    assert all(side % 32 == 0 for size in net.seen for side in size)


def test_windows_that_contradict_each_other_leave_no_edge():
    _, alpha = asked(Stub(), 64, 1024, window=256, overlap=64)  # 0 and 1 in turn
    assert (alpha.amin(), alpha.amax()) == (0, 1)
    # A ramp of 64 pixels rises by 1/64 a pixel; where two ramps meet, by no more than twice that.
    assert alpha.diff(dim=-1).abs().max() <= 2 / 64 + 1e-6


def test_a_long_picture_keeps_its_shape_and_is_never_seen_whole():
    net = Stub(lambda image: image[:, :1])
    image, alpha = asked(net, 400, 12_000, window=512, overlap=128)
    assert alpha.shape == (1, 1, 400, 12_000)
    assert max(max(size) for size in net.seen[1:]) == 512
    assert max(net.seen[0]) <= 1600
    # 400 goes to 416 and back, nothing else is resized: means of neighbours of uniform noise
    assert (alpha - image[:, :1]).abs().mean() < 0.15


def test_one_window_that_holds_the_picture_is_the_hybrid_strategy():
    torch.manual_seed(0)
    net = build("aimnet", width=0.125).eval()
    image, alpha = asked(net, 128, 192, semantic_scale=0.5, window=256, overlap=64)
    with torch.no_grad():
        expected = Hybrid(semantic_scale=0.5, matting_scale=1.0)(net, image).alpha
    torch.testing.assert_close(alpha, expected)


def test_a_network_of_one_size_has_windows_of_that():
    net = Stub(lambda image: image[:, :1])
    net.stride = net.size = 96
    _, alpha = asked(net, 192, 288)
    assert set(net.seen) == {(96, 96)}
    assert alpha.shape == (1, 1, 192, 288)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 600}, "overlap of the strategy must be at most half its window, got 600 of 1024"),
        ({"window": 0}, "window of the strategy must be a number above 0, got 0"),
        ({"scale": 1}, "the strategy tile has no option scale; its options are semantic_scale, matting_scale, window"),
    ],
)
def test_wrong_options_get_one_sentence(options, message):
    with pytest.raises(AimmatError, match=message):
        build_strategy("tile", **options)
