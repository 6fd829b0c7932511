from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from torch import nn

from aimmat.inference import Hybrid, Resize, build_strategy, working_size
from aimmat.schema import AimmatError, Prediction

as_the_release_resizes = run_path(str(Path(__file__).parents[1] / "oracles" / "resize.py"))["resize"]


class Stub(nn.Module):
    """Alpha is the mean colour, the class follows from it by thresholds; remembers the sizes that it saw."""

    stride = 32

    def __init__(self, semantic=True):
        super().__init__()
        self.semantic = semantic
        self.seen = []

    def forward(self, image):
        assert image.shape[-2] % self.stride == 0
        assert image.shape[-1] % self.stride == 0
        self.seen.append(tuple(image.shape[-2:]))
        matting = image.mean(dim=1, keepdim=True)
        sure = 20.0  # softmax leaves 2e-9 to the other classes
        logits = sure * torch.cat([matting < 0.25, (matting >= 0.25) & (matting <= 0.75), matting > 0.75], dim=1)
        return Prediction(logits if self.semantic else None, matting, matting)


class SaysItsSize(Stub):
    """A small input is all transition with alpha 0.9; a large one all foreground with alpha 0.3."""

    def forward(self, image):
        super().forward(image)
        small = image.shape[-1] < 100
        logits = torch.tensor([0.0, 9.0, 0.0] if small else [0.0, 0.0, 9.0]).view(1, 3, 1, 1).expand_as(image)
        matting = torch.full_like(image[:, :1], 0.9 if small else 0.3)
        return Prediction(logits, matting, matting)


def test_hybrid_takes_semantics_from_the_smaller_and_matting_from_the_larger_input():
    net = SaysItsSize()
    prediction = Hybrid(semantic_scale=1 / 4, matting_scale=1 / 2)(net, torch.rand(2, 3, 256, 256))
    assert sorted(net.seen) == [(64, 64), (128, 128)]
    assert (prediction.semantic.argmax(dim=1) == 1).all()
    torch.testing.assert_close(prediction.alpha, torch.full((2, 1, 256, 256), 0.3))


def test_hybrid_looks_once_when_both_scales_give_one_size():
    net = Stub()
    Hybrid(semantic_scale=0.5, matting_scale=0.51)(net, torch.rand(1, 3, 64, 64))
    assert net.seen == [(32, 32)]


def test_resize_looks_once_and_keeps_every_map():
    net = Stub()
    prediction = Resize(scale=0.5)(net, torch.full((1, 3, 128, 192), 0.5))
    assert net.seen == [(64, 96)]
    assert prediction.semantic.shape == (1, 3, 128, 192)
    torch.testing.assert_close(prediction.alpha, torch.full((1, 1, 128, 192), 0.5))
    torch.testing.assert_close(prediction.matting, prediction.alpha)


def test_resize_to_a_size_ignores_the_shape_of_the_picture():
    net = Stub()
    assert Resize(size=320)(net, torch.rand(1, 3, 100, 70)).alpha.shape == (1, 1, 100, 70)
    assert net.seen == [(320, 320)]


STRATEGIES = [Resize(), Hybrid(), Hybrid(fusion="soft"), Resize(protocol="release"), Hybrid(protocol="release")]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (33, 65), (100, 31), (257, 129)])
def test_any_size_comes_back_exactly_and_in_range(strategy, size):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        prediction = strategy(Stub(), image)
    assert prediction.semantic.shape == (1, 3, *size)
    for alpha in (prediction.matting, prediction.alpha):
        assert alpha.shape == (1, 1, *size)
        assert alpha.dtype == torch.float32
        assert 0 <= alpha.min() <= alpha.max() <= 1
    assert prediction.semantic.isfinite().all()


def test_long_picture_is_capped_on_its_long_side_and_keeps_its_aspect():
    net = Stub()
    alpha = Hybrid()(net, torch.zeros(1, 3, 400, 12000)).alpha
    assert alpha.shape == (1, 1, 400, 12000)
    # 12000 / 4 and 12000 / 3 both exceed 1600; 400 * 1600 / 12000 = 53.3 is nearest to 2 strides of 32
    assert net.seen == [(64, 1600)]


@pytest.mark.parametrize("height", [31, 500, 1080, 4000])
@pytest.mark.parametrize("width", [40, 1620, 6000])
@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 1.0])
@pytest.mark.parametrize("max_side", [20, 1000, 1600])
def test_working_size_is_within_half_a_stride_of_what_was_asked(height, width, scale, max_side):
    size = working_size(height, width, scale, stride=32, max_side=max_side)
    longest = max(max_side // 32, 1) * 32
    capped = min(scale, longest / max(height, width))
    assert max(size) <= longest
    for got, side in zip(size, (height, width), strict=True):
        assert got % 32 == 0
        assert got == 32 if side * capped < 32 else abs(got - side * capped) <= 16 + 1e-6  # float rounding at the cap


# Sides of the picture, what int(side / 4) and int(side / 3) or int(side / 2) leave of them, rounded down to 32.
@pytest.mark.parametrize(
    ("size", "scale", "seen"),
    [
        ((1080, 1620), 1 / 4, (256, 384)),  # 270, 405
        ((1080, 1620), 1 / 3, (352, 512)),  # 360, 540
        ((192, 288), 1 / 3, (64, 96)),  # exactly
        ((192, 288), 0.3333, (32, 64)),  # 63, 95: a rounded third loses a stride
        ((4000, 2000), 1 / 2, (1600, 992)),  # 2000, 1000: only one side is capped
        ((4000, 6000), 1 / 2, (1600, 1600)),
        ((127, 500), 1 / 4, (32, 96)),  # 31 would be no picture
    ],
)
def test_the_releases_working_size(size, scale, seen):
    assert working_size(*size, scale, stride=32, max_side=1600, protocol="release") == seen


def test_each_protocol_has_its_own_matting_scale_unless_one_is_given():
    for strategy, size in [
        (Hybrid(), 128),
        (Hybrid(protocol="release"), 192),
        (Hybrid(protocol="release", matting_scale=1 / 3), 128),
    ]:
        net = Stub()
        strategy(net, torch.zeros(1, 3, 384, 384))
        assert sorted(net.seen) == [(96, 96), (size, size)]


def as_the_release_tests(net, image, matting_scale):
    """The released hybrid test in NumPy and scikit-image: (H, W, 3) to alpha and class, (H, W)."""

    def seen(scale):
        small = as_the_release_resizes(image, [int(side * scale) // 32 * 32 for side in size])
        return net(torch.from_numpy(small).permute(2, 0, 1)[None].float())

    size = image.shape[:2]
    label = seen(1 / 4).semantic.sigmoid().numpy().argmax(axis=1)[0]
    grey = as_the_release_resizes(np.array([0, 128, 255], np.uint8)[label], size) * 255
    alpha = as_the_release_resizes(seen(matting_scale).matting[0, 0].numpy(), size)
    known = (grey == 0) | (grey == 255)
    return np.where(known, grey / 255, alpha), np.select([grey == 0, grey == 255], [0, 2], 1)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3])
@pytest.mark.parametrize("size", [(201, 323), (256, 128), (130, 131)])
def test_the_releases_hybrid_is_that_of_scikit_image(size, scale):
    y, x = np.mgrid[: size[0], : size[1]] / 20
    wave = 0.5 + 0.6 * np.sin(x) * np.cos(y)  # both sides of every threshold, also at the border
    image = np.stack([wave] * 3, axis=2).clip(0, 1)
    net = Stub()
    alpha, label = as_the_release_tests(net, image, scale)
    picture = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    prediction = Hybrid(matting_scale=scale, protocol="release")(net, picture)
    assert set(np.unique(label)) == {0, 1, 2}
    assert np.array_equal(prediction.semantic.argmax(dim=1)[0].numpy(), label)
    # float32 against float64: measured 1.7e-7
    np.testing.assert_allclose(prediction.alpha[0, 0].numpy(), alpha, rtol=0, atol=1e-6)


def test_a_sharp_half_plane_has_a_transition_of_one_coarse_pixel_in_the_release():
    image = torch.zeros(1, 3, 256, 256)
    image[..., 128:] = 1
    label = Hybrid(protocol="release")(Stub(), image).semantic.argmax(dim=1)[0, 128]
    # 4 pixels make a coarse one: between the centres of the two at the edge lies what is neither 0 nor 255
    assert label.tolist() == [0] * 126 + [1] * 4 + [2] * 124 + [1] * 2  # and the right border fades


def test_the_releases_resize_stretches_the_fused_alpha():
    class Half(Stub):
        def forward(self, image):
            alpha = torch.zeros_like(image[:, :1])
            alpha[..., 16:] = 1
            return super().forward(image)._replace(alpha=alpha)

    net = Half()
    alpha = Resize(protocol="release")(net, torch.rand(1, 3, 128, 128)).alpha[0, 0, 64]
    assert net.seen == [(32, 32)]
    # half a coarse pixel fades at the edge and at the border
    expected = [0] * 62 + [1 / 8, 3 / 8, 5 / 8, 7 / 8] + [1] * 60 + [7 / 8, 5 / 8]
    torch.testing.assert_close(alpha, torch.tensor(expected))


def test_the_release_takes_the_first_of_equal_sigmoids():
    class Sure(Stub):
        def forward(self, image):
            logits = torch.tensor([-9.0, 30.0, 40.0]).view(1, 3, 1, 1).expand_as(image)  # both sigmoids are 1
            return Prediction(logits, torch.full_like(image[:, :1], 0.3), image[:, :1])

    image = torch.zeros(1, 3, 64, 64)
    assert (Hybrid()(Sure(), image).alpha == 1).all()
    assert (Hybrid(protocol="release")(Sure(), image).semantic.argmax(dim=1) == 1).all()


def test_a_network_without_a_semantic_decoder_is_run_once():
    net = Stub(semantic=False)
    prediction = Hybrid(semantic_scale=0.25, matting_scale=0.5)(net, torch.full((1, 3, 128, 128), 0.5))
    assert net.seen == [(64, 64)]
    assert prediction.semantic is None
    torch.testing.assert_close(prediction.alpha, torch.full((1, 1, 128, 128), 0.5))


def test_a_sharp_half_plane_has_no_transition_between_its_known_sides():
    image = torch.zeros(1, 3, 128, 128)
    image[..., 64:] = 1
    alpha = Hybrid(semantic_scale=0.25, matting_scale=0.5)(Stub(), image).alpha
    torch.testing.assert_close(alpha, image[:, :1])  # the edge lies on a cell border, so the contour is exact


def test_soft_fusion_is_equation_2_with_the_expected_class():
    class Fixed(Stub):
        def forward(self, image):
            logits = torch.tensor([0.2, 0.5, 0.3]).log().view(1, 3, 1, 1).expand_as(image)
            return Prediction(logits, torch.full_like(image[:, :1], 0.6), image[:, :1])

    alpha = Hybrid(fusion="soft")(Fixed(), torch.zeros(1, 3, 50, 60)).alpha
    # U = 0.5 * 0.5 + 0.3 = 0.55, 2 |U - 0.5| = 0.1, alpha = 0.9 * 0.6 + 0.1 * 0.55
    torch.testing.assert_close(alpha, torch.full((1, 1, 50, 60), 0.595))


def test_shrinking_averages_what_it_cannot_show():
    stripes = torch.zeros(1, 3, 256, 256)
    stripes[..., ::2] = 1  # one pixel on, one off
    alpha = Resize(scale=0.25)(Stub(), stripes).alpha
    assert alpha.sub(0.5).abs().max() < 0.05  # without a low-pass filter all 0 or all 1; borders see one stripe more


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "tiles"}, "no inference strategy is called 'tiles'; choose one of resize, hybrid"),
        ({"name": "hybrid", "scale": 1}, "has no option scale; its options are semantic_scale, matting_scale"),
        ({"name": "hybrid", "matting_scale": 0}, "matting_scale of the strategy must be a number above 0, got 0"),
        ({"name": "resize", "scale": "1/4"}, "scale of the strategy must be a number above 0, got '1/4'"),
        ({"name": "hybrid", "fusion": "both"}, 'fusion must be "hard" or "soft", got \'both\''),
        ({"name": "hybrid", "protocol": "relaese"}, "protocol must be paper or release, got 'relaese'"),
        ({"name": "resize", "protocol": True}, "protocol must be paper or release, got True"),
        ({"name": "hybrid", "protocol": "release", "fusion": "soft"}, "the release's fusion is hard; set fusion=hard"),
    ],
)
def test_wrong_options_get_one_sentence(options, message):
    with pytest.raises(AimmatError, match=message):
        build_strategy(**options)


@pytest.mark.parametrize("strategy", [Resize(), Hybrid()])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (1, 3, 0, 8)])
def test_wrong_images_get_one_sentence(strategy, shape):
    with pytest.raises(ValueError, match=r"image must be a float batch \(B, 3, H, W\)"):
        strategy(Stub(), torch.zeros(shape))
