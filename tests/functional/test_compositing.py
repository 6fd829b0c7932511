import pytest
import torch

from aimmat.functional import box_blur, composite, rssn
from aimmat.schema import ImageType

SO, STM, NS = (kind.number for kind in ImageType)
PLAIN = {"denoise_probability": 0, "resample_probability": 0, "blur_probability": 0, "noise_probability": 0}


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def scenes(count, size=24):
    layers = noise(count, 3, size, size), noise(count, 3, size, size, seed=1), noise(count, 1, size, size, seed=2)
    return *layers, torch.arange(count) % 3


def test_composite_keeps_the_layers_where_alpha_is_0_or_1():
    foreground, background, *_ = scenes(1)
    assert torch.equal(composite(foreground, background, torch.ones(1, 1, 24, 24)), foreground)
    assert torch.equal(composite(foreground, background, torch.zeros(1, 1, 24, 24)), background)


def test_rssn_without_its_draws_is_a_plain_composite():
    foreground, background, alpha, types = scenes(3)
    image, *layers = rssn(foreground, background, alpha, types, generators(0, 1, 2), type_wise=False, **PLAIN)
    assert torch.equal(image, composite(foreground, background, alpha))
    assert torch.equal(torch.stack(layers), torch.stack([foreground, background]))


def test_a_sample_does_not_depend_on_its_batch():
    scene = scenes(12)
    scale = torch.linspace(0.1, 1, 12)
    options = {"resample_probability": 0.5, "denoised_foreground": noise(12, 3, 24, 24, seed=5)}
    together = rssn(*scene, generators(*range(12)), scale=scale, **options)
    again = rssn(*scene, generators(*range(12)), scale=scale, **options)
    for i in range(12):
        one = slice(i, i + 1)
        options["denoised_foreground"] = noise(12, 3, 24, 24, seed=5)[one]
        alone = rssn(*(part[one] for part in scene), generators(i), scale=scale[one], **options)
        for batched, repeated, single in zip(together, again, alone, strict=True):
            assert torch.equal(batched[one], single)
            assert torch.equal(batched[one], repeated[one])


def test_what_rssn_returns_composites_and_stays_in_range():
    foreground, background, alpha, types = scenes(12)
    foreground, background = foreground.round(), background.round()  # black and white, where noise could wrap around
    image, new_foreground, new_background = rssn(foreground, background, alpha, types, generators(*range(12)))
    assert torch.equal(image, composite(new_foreground, new_background, alpha))
    for picture in (image, new_foreground, new_background):
        assert picture.min() >= 0
        assert picture.max() <= 1
    assert (new_foreground - foreground).abs().max() < 6.5 * 10 / 255  # of 20 000 normal numbers none is beyond 6


def test_noise_is_the_same_on_both_layers_and_has_its_sigma():
    foreground, background = torch.full((1, 3, 64, 64), 0.4), torch.full((1, 3, 64, 64), 0.6)
    _, new_foreground, new_background = rssn(
        foreground,
        background,
        torch.ones(1, 1, 64, 64),
        torch.tensor([SO]),
        generators(0),
        **PLAIN | {"noise_probability": 1},
    )
    grain = new_foreground - foreground
    torch.testing.assert_close(new_background - background, grain, rtol=0, atol=1e-6)  # float32 rounding
    assert grain.std().item() == pytest.approx(10 / 255, rel=0.03)  # 12 288 numbers: 4 standard errors are 2.6 %
    assert grain.mean().item() == pytest.approx(0, abs=0.0015)  # 4 standard errors


def test_the_background_of_ns_is_always_blurred_and_of_others_when_drawn():
    foreground, background, alpha, types = scenes(3)
    _, kept, blurred = rssn(foreground, background, alpha, types, generators(0, 1, 2), blur_kernels=[7], **PLAIN)
    assert torch.equal(kept, foreground)
    assert torch.equal(blurred[:NS], background[:NS])
    torch.testing.assert_close(blurred[NS:], box_blur(background[NS:], [7]))


def test_the_blur_is_measured_in_pixels_of_the_original_composite():
    foreground, background, alpha, types = scenes(2)
    options = PLAIN | {"blur_probability": 1}
    _, _, blurred = rssn(
        foreground,
        background,
        alpha,
        types,
        generators(0, 1),
        scale=torch.tensor([0.25, 0.5]),
        blur_kernels=[20],
        **options,
    )
    torch.testing.assert_close(blurred, box_blur(background, [5, 10]))


def test_half_of_the_backgrounds_are_blurred_by_each_kernel_alike():
    count = 1000
    background = torch.zeros(count, 3, 1, 129)
    background[..., 64] = 1
    types = torch.full((count,), STM)
    options = {"noise_probability": 0, "resample_probability": 0}
    _, _, blurred = rssn(background, background, background[:, :1], types, generators(*range(count)), **options)
    widths = (1 / blurred[:, 0, 0, 64]).round().int()  # a row's blur leaves 1 / width in the middle
    assert sorted(widths.unique().tolist()) == [1, 20, 30, 40, 50, 60]
    share = torch.stack([(widths == width).float().mean() for width in (1, 20, 30, 40, 50, 60)])
    expected = torch.tensor([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    torch.testing.assert_close(share, expected, rtol=0, atol=0.063)  # 4 standard errors of one half


def test_a_lower_resolution_takes_one_layer_and_keeps_its_mean():
    foreground, background, alpha, types = scenes(16, size=8)
    _, *layers = rssn(
        foreground,
        background,
        alpha,
        types,
        generators(*range(16)),
        type_wise=False,
        **PLAIN | {"resample_probability": 1},
    )
    changed = torch.stack(
        [(new != old).flatten(1).any(1) for new, old in zip(layers, scenes(16, size=8)[:2], strict=True)]
    )
    assert (changed.sum(0) == 1).all()
    assert 0 < changed[0].sum() < 16
    # blocks of 2 keep the mean; the bilinear way back weighs blocks of the border a little differently
    torch.testing.assert_close(layers[0].mean((2, 3)), foreground.mean((2, 3)), rtol=0, atol=0.05)


@pytest.mark.parametrize("probability", [0, 1])
def test_denoised_layers_replace_both_where_they_exist(probability):
    foreground, background, alpha, types = scenes(2)
    clean = noise(2, 2, 3, 24, 24, seed=4)
    options = PLAIN | {"denoise_probability": probability}
    _, *layers = rssn(
        foreground,
        background,
        alpha,
        types,
        generators(0, 1),
        denoised_foreground=clean[0],
        denoised_background=clean[1],
        **options,
    )
    expected = clean if probability else torch.stack([foreground, background])
    assert torch.equal(torch.stack(layers), expected)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"alpha": torch.zeros(2, 1, 8, 8)}, r"crop or resize"),
        ({"denoised_background": torch.zeros(2, 3, 8, 8)}, r"crop or resize"),
        ({"image_type": torch.tensor(0)}, r"each of 2 samples, got types of shape \(\)"),
        ({"scale": torch.ones(3)}, r"one for all or one for each of 2 samples, got shape \(3,\)"),
        ({"generators": generators(0)}, r"generators on \['cpu'\]"),
    ],
)
def test_bad_arguments_are_named(change, match):
    foreground, background, alpha, image_type = scenes(2)
    arguments = {"foreground": foreground, "background": background, "alpha": alpha, "image_type": image_type}
    with pytest.raises(ValueError, match=match):
        rssn(**(arguments | {"generators": generators(0, 1)} | change))
