import json
import math
from pathlib import Path
from runpy import run_path

import cv2
import numpy as np
import pytest
import torch

from aimmat.functional.metrics import connectivity_error, gradient_error, mad, measure, mse, sad

TESTS = Path(__file__).parents[1]
ORACLE = run_path(str(TESTS / "oracles" / "metrics.py"))
PAIRS = run_path(str(TESTS / "golden" / "pairs.py"))
GOLDEN = json.loads((TESTS / "golden" / "aim_metrics.json").read_text())["figures"]
ERRORS = {"sad": sad, "mse": mse, "mad": mad, "grad": gradient_error, "conn": connectivity_error}


def batched(matte):
    return torch.from_numpy(np.array(matte))[None, None]


def islands(seed, size):
    """A soft pair whose level sets fall apart into components of equal size: 8-bit values on a coarse grid."""
    rng = np.random.default_rng(seed)
    grid = rng.choice([0, 51, 102, 153, 204, 255], size=size) / 255
    pred = np.clip(grid + rng.choice([-0.2, -0.1, 0, 0.1], size=size), 0, 1)
    return np.kron(pred, np.ones((2, 2))), np.kron(grid, np.ones((2, 2)))


def soft(seed, size):
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.random(size), (5, 5), 1), cv2.GaussianBlur(rng.random(size), (5, 5), 1)


CASES = {
    **{f"islands {seed}": islands(seed, (8, 9)) for seed in range(20)},
    **{f"soft {seed}": soft(seed, (17, 14)) for seed in range(5)},
    "noise": (np.random.default_rng(0).random((16, 16)), np.random.default_rng(1).random((16, 16))),
    "no level is reached": (np.full((6, 7), 0.09), np.full((6, 7), 0.05)),
    "no level is reached together": (np.full((6, 7), 0.9), np.full((6, 7), 0.05)),
    "an excess on the bound": (np.array([[1, 1, 0, 0.15]]), np.array([[1.0, 1, 0, 0]])),
    "upper levels are empty": (np.full((6, 7), 0.45), np.full((6, 7), 0.8)),
    "full": (np.ones((6, 7)), np.full((6, 7), 0.999)),
    "equal": (np.eye(9), np.eye(9)),
    "one row": (np.linspace(0, 1, 12)[None], np.linspace(1, 0, 12)[None]),
    "one column": (np.linspace(0, 1, 12)[:, None] ** 2, np.linspace(0, 1, 12)[:, None]),
    "one pixel": (np.array([[0.7]]), np.array([[0.2]])),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("case", CASES)
def test_errors_equal_their_plain_twins(case, name):
    pred, alpha = CASES[case]
    for region in (np.ones(pred.shape, bool), np.indices(pred.shape).sum(0) % 3 == 0):
        expected = ORACLE[name](pred, alpha, region)
        # the gradient maps are float32, so equal up to its rounding; everything else is float64
        bounds = {"rel": 1e-6, "abs": 1e-9} if name == "grad" else {"rel": 1e-12, "abs": 1e-15}
        assert ERRORS[name](batched(pred), batched(alpha), batched(region)).item() == pytest.approx(expected, **bounds)


@pytest.mark.parametrize("name", PAIRS["NAMES"])
def test_figures_equal_those_of_the_released_functions(name):
    scores = measure(*map(batched, PAIRS["pair"](name)))
    for error, expected in GOLDEN[name].items():
        # the release sums gradient errors in float32: 1e-6
        bound = 1e-6 if error == "grad" else 1e-12
        assert scores[error].item() == pytest.approx(expected, rel=bound, abs=1e-15), error


def test_sums_count_thousands_of_pixels():
    alpha = torch.zeros(2, 1, 10, 10)
    pred = alpha.clone()
    pred[1, :, :4, :5] = 0.5  # second picture only: 20 pixels, each off by one half
    assert sad(pred, alpha).tolist() == [0, 0.010]
    assert mad(pred, alpha).tolist() == [0, 0.1]
    assert mse(pred, alpha).tolist() == [0, 0.05]


def test_a_missed_straight_edge_costs_two_hundredths_per_pixel():
    alpha = torch.zeros(1, 1, 50, 60)
    alpha[..., 30:] = 1  # an edge 50 pixels long
    x = np.arange(-6, 7)  # 4 sigma
    gaussian = np.exp(-(x**2) / (2 * 1.4**2))
    slopes = np.cumsum(x / 1.4**2 * gaussian / gaussian.sum())  # of the smoothed step, column by column
    error = gradient_error(torch.zeros_like(alpha), alpha).item()
    assert error == pytest.approx(50 * (slopes**2).sum() / 10, rel=1e-6)  # float32 maps
    assert error == pytest.approx(50 * 0.02, rel=0.05)


def test_a_part_cut_off_costs_its_whole_excess():
    alpha = torch.zeros(1, 1, 1, 10, dtype=torch.float64)
    alpha[..., :5] = 1
    alpha[..., 7:] = 1  # three pixels that the object does not reach: connected at level 0 in both mattes
    pred = alpha.clone()
    pred[..., 7:] = 0.6
    assert connectivity_error(pred, alpha).item() == pytest.approx(3 * 0.4 / 1000)
    pred[..., 7:] = 0.1  # an excess below 0.15 counts as none: the truth's whole 1 is missed
    assert connectivity_error(pred, alpha).item() == pytest.approx(3 / 1000)


def test_of_equal_components_the_first_in_raster_order_is_the_object():
    alpha = torch.zeros(1, 1, 300, 300, dtype=torch.float64)
    alpha[..., 100:200, :100] = 1
    alpha[..., 99:199, 200:] = 1  # as large, begins a row higher: the object; the other one is cut off
    pred = alpha.clone()
    pred[..., 100:200, :100] = 0.5
    pred[..., 99:199, 200:] = 0.5
    for threads in (1, 2):  # OpenCV labels stripes of a picture at once
        before = cv2.getNumThreads()
        cv2.setNumThreads(threads)
        # cut off: excesses 0.5 and 1; the object holds to level 0.5, where nothing is left: levels end, excess 0
        assert connectivity_error(pred, alpha).item() == pytest.approx(10_000 * 0.5 / 1000, rel=1e-6)
        cv2.setNumThreads(before)


def test_a_region_chooses_pixels_and_an_empty_one_has_sums_but_no_means():
    pred, alpha = (batched(matte) for matte in CASES["soft 0"])
    some, rest = torch.zeros_like(pred, dtype=torch.bool), torch.ones_like(pred, dtype=torch.bool)
    some[..., :5, :] = True
    rest[..., :5, :] = False
    for error in (sad, gradient_error, connectivity_error):
        torch.testing.assert_close(error(pred, alpha, some) + error(pred, alpha, rest), error(pred, alpha))
        assert error(pred, alpha, torch.zeros_like(some)).item() == 0
    for error in (mse, mad):
        assert error(pred, alpha, some) == error(pred[..., :5, :], alpha[..., :5, :])
        assert error(pred, alpha, torch.zeros_like(some)).isnan()


def test_measure_is_the_five_functions_over_both_regions():
    pairs = [PAIRS["pair"](name) for name in PAIRS["NAMES"]]
    pred, alpha, transition = (torch.from_numpy(np.stack(column))[:, None] for column in zip(*pairs, strict=True))
    scores = measure(pred, alpha, transition)
    for name, error in ERRORS.items():
        assert torch.equal(scores[name], error(pred, alpha))
        assert torch.equal(scores[f"{name}_transition"], error(pred, alpha, transition))
    assert {score.dtype for score in scores.values()} == {torch.float64}
    assert len(scores) == 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_mattes_are_measured_in_float64(dtype):
    pred, alpha = (batched(matte).to(dtype).requires_grad_() for matte in CASES["islands 0"])
    scores = measure(pred, alpha, alpha > 0.5)
    expected = measure(pred.double(), alpha.double(), alpha > 0.5)
    assert all(torch.equal(scores[name], expected[name]) for name in scores)
    assert not any(score.requires_grad for score in scores.values())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = measure(pred, alpha, alpha > 0.5)
    assert all(torch.equal(mixed[name], expected[name]) for name in scores)


MATTE = torch.rand(2, 1, 4, 5)
NAN = torch.full_like(MATTE, math.nan)


@pytest.mark.parametrize(
    ("pred", "alpha", "region", "error", "words"),
    [
        (MATTE, MATTE.byte(), None, TypeError, r"alpha must be a floating tensor, got torch.uint8; .* matte / 255"),
        (MATTE.numpy(), MATTE, None, TypeError, "pred must be a floating tensor, got ndarray"),
        (MATTE, MATTE, MATTE, TypeError, "region must be a bool tensor, got torch.float32; .* trimap == 1"),
        (MATTE, MATTE[:1], None, ValueError, r"one shape .* got \(2, 1, 4, 5\) and \(1, 1, 4, 5\)"),
        (MATTE[0, 0], MATTE[0, 0], None, ValueError, r"\(B, 1, H, W\) .* matte\[None, None\]"),
        (MATTE[:0], MATTE[:0], None, ValueError, "at least one pixel"),
        (MATTE, MATTE, MATTE[:1] > 0, ValueError, r"region must have the shape .* got \(1, 1, 4, 5\)"),
        (MATTE, MATTE.to("meta"), None, ValueError, "one device, got cpu and meta"),
        (MATTE * 255, MATTE, None, ValueError, r"pred must hold finite values in \[0, 1\], got .* divide"),
        (MATTE, NAN, None, ValueError, "alpha must hold finite values .* got nan to nan"),
        (MATTE, MATTE / 0, None, ValueError, "alpha must hold finite values .* to inf"),
    ],
)
def test_wrong_arguments_get_a_sentence(pred, alpha, region, error, words):
    for metric in ERRORS.values():
        with pytest.raises(error, match=words):
            metric(pred, alpha, region)
