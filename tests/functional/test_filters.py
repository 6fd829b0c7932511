import numpy as np
import pytest
import scipy.ndimage
import torch

from aimmat.functional import box_blur, gaussian_derivative, gaussian_kernel, laplacian_pyramid, separable_filter
from aimmat.functional.filters import derivative_bands, lay_out

SIZES = [(24, 17), (7, 40), (3, 3), (1, 1), (1, 9)]  # the radius of the derivative's kernel is 6


def noise(*shape, dtype=torch.float64, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_gaussian_kernel_sums_to_one_and_has_scipys_radius():
    for sigma, radius in [(1.4, 6), (1.0, 4), (0.1, 0)]:  # int(4 * sigma + 0.5)
        kernel = gaussian_kernel(sigma)
        assert len(kernel) == 2 * radius + 1
        assert sum(kernel) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("size", SIZES)
def test_gaussian_derivative_is_scipys(size):
    image = noise(2, 3, *size)
    for order, derivative in zip([(1, 0), (0, 1)], gaussian_derivative(image), strict=True):
        oracle = [
            [scipy.ndimage.gaussian_filter(plane, 1.4, order=order) for plane in planes] for planes in image.numpy()
        ]
        torch.testing.assert_close(derivative, torch.tensor(np.array(oracle)), rtol=0, atol=1e-14)  # float64 rounding


def test_gaussian_derivative_in_single_precision_stays_within_its_rounding():
    image = noise(1, 1, 30, 30)
    for single, double in zip(gaussian_derivative(image.float()), gaussian_derivative(image), strict=True):
        torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-6)  # 26 roundings of 6e-8


def test_gaussian_derivative_of_a_ramp_is_its_slope():
    image = 0.01 * torch.arange(40.0).view(1, 1, 1, 40).expand(1, 1, 40, 40)
    dy, dx = gaussian_derivative(image)
    torch.testing.assert_close(dy, torch.zeros_like(dy), rtol=0, atol=1e-7)
    # 6 pixels from the border; 0.9994 of the slope, as the kernel ends at 4.3 sigma
    torch.testing.assert_close(dx[..., 6:-6], torch.full((1, 1, 40, 28), 0.01), rtol=1e-3, atol=0)


def laid_out(plane, **options):
    """dy and dx of all bands, and how many there were."""
    bands = list(derivative_bands(plane, **options))
    dy, dx = torch.empty(2, *plane.shape, dtype=torch.float64)
    for place, derivative in enumerate((dy, dx)):
        lay_out(torch.cat([band[place] for band in bands], dim=1), derivative)
    return dy, dx, len(bands)


@pytest.mark.parametrize("border", ["reflect", "nearest"])
@pytest.mark.parametrize("size", [*SIZES, (150, 1700)])  # the last one in three bands
def test_derivative_bands_are_scipys_gradient(size, border):
    plane = noise(*size)
    *derivatives, num_bands = laid_out(plane, truncate=2.6, border=border)
    for order, derivative in zip([(1, 0), (0, 1)], derivatives, strict=True):
        oracle = scipy.ndimage.gaussian_filter(plane.numpy(), 1.4, order=order, truncate=2.6, mode=border)
        torch.testing.assert_close(derivative, torch.tensor(oracle), rtol=0, atol=1e-14)  # float64 rounding
    assert num_bands == (3 if size == (150, 1700) else 1)


def test_derivative_bands_round_what_is_smoothed_as_scipy_does_when_it_stores_float32():
    plane = noise(40, 50)
    stored, exact = (laid_out(plane, stored=stored)[:2] for stored in (torch.float32, None))
    for order, derivative in zip([(1, 0), (0, 1)], stored, strict=True):
        oracle = torch.tensor(scipy.ndimage.gaussian_filter(plane.numpy(), 1.4, order=order, output=np.float32))
        # of slopes up to 0.5 SciPy rounds both directions: twice 6e-8 of 0.25
        torch.testing.assert_close(derivative.float(), oracle, rtol=0, atol=3e-8)
    assert torch.equal(stored[1].float(), oracle)  # along the rows nothing but the smoothed columns is rounded
    assert not torch.equal(exact[1].float(), oracle)


def test_filters_keep_full_precision_under_autocast():
    image = noise(1, 1, 20, 20, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        dy, _ = gaussian_derivative(image)
    assert torch.equal(dy, gaussian_derivative(image)[0])


def test_separable_filter_correlates_without_turning_the_kernel():
    image = torch.zeros(1, 1, 5, 5)
    image[..., 2, 2] = 1
    response = separable_filter(image, [0.0, 1.0, 0.0], [1.0, 2.0, 3.0])
    assert response[0, 0, 2].tolist() == [0, 3, 2, 1, 0]  # seen from the left neighbour the 1 lies right: weight 3
    assert response.sum() == 6


def test_separable_filter_has_the_right_gradient():
    image = noise(1, 2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: separable_filter(x, [0.1, 0.5, 0.2], [0.3, -0.1, 0.2, 0.4, 0.7]), image)


@pytest.mark.parametrize("size", SIZES)
def test_box_blur_of_odd_size_is_scipys_uniform_filter(size):
    image = noise(4, 2, *size)
    widths = [1, 3, 7, 31]
    for blurred, sample, width in zip(box_blur(image, widths), image, widths, strict=True):
        oracle = scipy.ndimage.uniform_filter(sample.numpy(), (1, width, width), mode="reflect")
        torch.testing.assert_close(blurred, torch.tensor(oracle), rtol=0, atol=1e-13)  # float64 rounding


def test_box_blur_of_even_or_broken_size_shares_its_end_pixels():
    image = torch.zeros(2, 1, 1, 9)
    image[..., 4] = 1
    blurred = box_blur(image, [4, 2.5])[:, 0, 0]
    torch.testing.assert_close(blurred[0], torch.tensor([0, 0, 0.5, 1, 1, 1, 0.5, 0, 0]) / 4)
    torch.testing.assert_close(blurred[1], torch.tensor([0, 0, 0, 0.75, 1, 0.75, 0, 0, 0]) / 2.5)


def test_box_blur_keeps_a_constant_image_and_a_size_of_one_keeps_any():
    constant = torch.full((3, 3, 12, 15), 0.3)
    torch.testing.assert_close(box_blur(constant, [2, 9, 61.7]), constant, rtol=1e-5, atol=0)  # 120 roundings of 6e-8
    image = noise(2, 3, 6, 6)
    assert torch.equal(box_blur(image, [1, 0.25]), image)


def test_laplacian_pyramid_halves_and_sums_over_its_levels():
    bands = laplacian_pyramid(torch.full((1, 1, 37, 20), 0.7), levels=5)
    assert [tuple(band.shape[-2:]) for band in bands] == [(37, 20), (19, 10), (10, 5), (5, 3), (3, 2), (2, 1)]
    for band in bands[:-1]:
        torch.testing.assert_close(band, torch.zeros_like(band), rtol=0, atol=1e-6)  # 10 roundings of 6e-8
    torch.testing.assert_close(bands[-1], torch.full((1, 1, 2, 1), 0.7))


def pyramid_by_the_releases_formula(image, levels):
    """Plain convolution with the kernel written down: exp(-x^2) + exp(-y^2), normalised."""
    y, x = np.mgrid[-2:3, -2:3]
    kernel = np.exp(-(x**2.0)) + np.exp(-(y**2.0))
    kernel /= kernel.sum()
    bands = []
    for _ in range(levels):
        height, width = image.shape
        smooth = scipy.ndimage.correlate(image, kernel, mode="nearest")
        bands.append(image - smooth)
        even = smooth[: height // 2 * 2, : width // 2 * 2]
        image = even.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    return [*bands, image]


@pytest.mark.parametrize("size", [(64, 32), (37, 75), (32, 33)])
def test_laplacian_pyramid_of_the_release_is_its_formula(size):
    image = noise(2, 1, *size)
    bands = laplacian_pyramid(image, protocol="release")
    for k, sample in enumerate(image[:, 0].numpy()):
        for band, expected in zip(bands, pyramid_by_the_releases_formula(sample, 5), strict=True):
            torch.testing.assert_close(band[k, 0], torch.tensor(expected), rtol=0, atol=1e-14)  # float64 rounding


def test_laplacian_pyramid_of_the_release_needs_32_pixels_a_side():
    assert len(laplacian_pyramid(torch.zeros(1, 1, 32, 32), protocol="release")) == 6
    with pytest.raises(ValueError, match=r"both sides must be 32 pixels or more .* got 31 x 40; use larger"):
        laplacian_pyramid(torch.zeros(1, 1, 31, 40), protocol="release")


def test_laplacian_pyramid_of_a_dot():
    image = torch.zeros(1, 1, 17, 17)
    image[..., 8, 8] = 1
    first = laplacian_pyramid(image)[0][0, 0]
    peak, side = 0.40262, 0.24420  # of the five weights exp(-x^2 / 2), normalised
    assert first[8, 8] == pytest.approx(1 - peak**2, abs=1e-5)
    assert first[8, 9] == pytest.approx(-peak * side, abs=1e-5)
    assert first[9, 9] == pytest.approx(-(side**2), abs=1e-5)  # a product of profiles, not their sum


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: gaussian_kernel(0), "sigma must be above 0"),
        (lambda: gaussian_derivative(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)), r"got torch.uint8.*image / 255"),
        (lambda: separable_filter(torch.zeros(4, 4), [1], [1]), r"got torch.float32 of shape \(4, 4\)"),
        (lambda: separable_filter(torch.zeros(1, 1, 4, 4), [1, 1], [1]), "odd length, got 2"),
        (lambda: box_blur(torch.zeros(2, 1, 4, 4), [3]), "got 1 for 2"),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
