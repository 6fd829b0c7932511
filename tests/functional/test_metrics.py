import json
import math
import re
from pathlib import Path
from runpy import run_path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from aimmat.functional.metrics import _pairs, _reached, connectivity_error, gradient_error, mad, measure, mse, sad

TESTS = Path(__file__).parents[1]
ORACLE = run_path(str(TESTS / "oracles" / "metrics.py"))
MATLAB_ORACLE = run_path(str(TESTS / "oracles" / "matlab_metrics.py"))
PAIRS = run_path(str(TESTS / "golden" / "pairs.py"))
GOLDEN = json.loads((TESTS / "golden" / "aim_metrics.json").read_text())["figures"]
MATLAB_GOLDEN = json.loads((TESTS / "golden" / "matlab_metrics.json").read_text())["figures"]
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


@pytest.mark.parametrize("name", PAIRS["MATLAB_NAMES"])
def test_figures_equal_those_of_the_matlab_functions(name):
    pred, alpha, trimap = PAIRS["matlab_pair"](name)
    scores = measure(batched(pred / 255), batched(alpha / 255), batched(trimap == 128), protocol="matlab")
    for error, expected in MATLAB_GOLDEN[name].items():
        # MATLAB sums in single precision: up to 6e-7 here
        bounds = {"rel": 1e-6, "abs": 1e-12, "nan_ok": True}
        assert scores[error].item() == pytest.approx(math.nan if expected is None else expected, **bounds), error


def test_the_table_of_docs_metrics_has_the_figures_of_both_protocols():
    text = (TESTS.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]*\|(.+?)\|(.+?)\|(.+?)\|", text, re.MULTILINE)
    assert len(rows) == 7
    for name, *printed in rows:
        pred, alpha, _ = PAIRS["matlab_pair"](name)
        aim, matlab = (measure(batched(pred / 255), batched(alpha / 255), protocol=p) for p in ("aim", "matlab"))
        for error, cell in zip(("sad", "grad", "conn"), printed, strict=True):
            for figure, scores in zip(cell.split("/"), (aim, matlab), strict=True):
                assert float(figure) == round(scores[error].item(), 4), (name, error)


LEVELS = [0, 25, 26, 51, 76, 77, 102, 127, 128, 153, 178, 179, 204, 229, 230, 255]  # on and around those of conn
PROPERTY = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@st.composite
def levels(draw, count=2):
    """Small 8-bit mattes of one size, and a region: full of ties, of plateaus and of empty levels."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    mattes = draw(npst.arrays(np.uint8, (count, *shape), elements=st.sampled_from(LEVELS)))
    return *mattes, draw(npst.arrays(bool, shape))


@PROPERTY
@given(levels())
def test_both_protocols_equal_their_plain_twins_on_anything(drawn):
    pred, alpha, region = drawn
    region.flat[0] = True
    tensors = batched(pred / 255), batched(alpha / 255), batched(region)
    for name, error in ERRORS.items():
        expected = ORACLE[name](pred / 255, alpha / 255, region)
        assert error(*tensors).item() == pytest.approx(expected, rel=1e-6, abs=1e-9), name  # grad's maps are float32
        if name != "mad":  # the MATLAB code has none
            expected = MATLAB_ORACLE[name](pred, alpha, region)
            assert error(*tensors, "matlab").item() == pytest.approx(expected, rel=1e-6, abs=1e-9), name  # its sums too


@PROPERTY
@given(levels(), st.sampled_from(["aim", "matlab"]))
def test_errors_are_zero_for_equals_symmetric_and_additive_over_regions(drawn, protocol):
    pred, alpha, region = map(batched, drawn)
    pred, alpha = pred / 255.0, alpha / 255.0
    for name, error in ERRORS.items():
        assert error(pred, pred, None, protocol).item() == pytest.approx(0, abs=1e-30)
        whole = error(pred, alpha, None, protocol)
        torch.testing.assert_close(error(alpha, pred, None, protocol), whole, rtol=1e-12, atol=1e-15)  # order of sums
        if name in ("sad", "grad", "conn"):
            parts = error(pred, alpha, region, protocol) + error(pred, alpha, ~region, protocol)
            torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-15)


@PROPERTY
@given(levels(), st.sampled_from(["aim", "matlab"]), st.sampled_from([(-1,), (-2,), (-1, -2)]))
def test_errors_do_not_depend_on_which_way_the_picture_is_turned(drawn, protocol, sides):
    # an object larger than the rest: the way decides which of two equally large components it is
    pair = [torch.cat([batched(matte / 255), torch.ones(1, 1, *matte.shape)], dim=-2) for matte in drawn[:2]]
    pair[1][..., -1, :] = 1
    for error in ERRORS.values():
        turned = error(*(matte.flip(sides) for matte in pair), None, protocol)
        # aim's gradient is rounded to float32 on the way: 1e-6 of the sum, or of what a pixel can add
        torch.testing.assert_close(turned, error(*pair, None, protocol), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("protocol", ["aim", "matlab"])
def test_pictures_of_different_sizes_are_measured_in_one_call_as_alone(protocol):
    mattes = [CASES[name] for name in ("soft 0", "one pixel", "islands 3", "no level is reached", "one row", "noise")]
    pred, alpha = ([torch.from_numpy(matte)[None] for matte in column] for column in zip(*mattes, strict=True))
    trimap = [(matte * 2).round().long() for matte in alpha]
    together = measure(pred, alpha, trimap, protocol)
    for i, pair in enumerate(zip(pred, alpha, trimap, strict=True)):
        alone = measure(*(tensor[None] for tensor in pair), protocol)
        torch.testing.assert_close({name: score[i : i + 1] for name, score in together.items()}, alone, equal_nan=True)


def test_a_float_prediction_on_a_level_counts_as_numpy_compares_it():
    thresholds = [step * 0.1 for step in range(1, 11)]
    values = [near for level in thresholds for near in (math.nextafter(level, 0), level, math.nextafter(level, 1))]
    values += [k / 255 for k in range(256)]
    matte = torch.tensor(values, dtype=torch.float64)[None, None, None]
    pair = _pairs(matte, torch.ones_like(matte), None, "aim", "region")[0]
    assert _reached(pair, "aim")[0].tolist() == [sum(v >= t for t in thresholds) for v in matte.flatten().tolist()]
    single = matte.float().numpy().ravel()
    bounds = np.array(thresholds, np.float32)
    assert _reached(pair, "matlab")[0].tolist() == [int((value >= bounds).sum()) for value in single]


def test_eight_bits_give_the_same_figures_in_float32_as_in_float64():
    rng = np.random.default_rng(0)
    pred, alpha = (torch.from_numpy(rng.choice(LEVELS, (2, 1, 30, 40)) / 255) for _ in range(2))
    for protocol in ("aim", "matlab"):
        double = measure(pred, alpha, alpha > 0.5, protocol)
        for mixed in ((pred.float(), alpha.float()), (pred, alpha.float()), (pred.float(), alpha)):
            # each value is off by up to 3e-8; one pixel on the wrong side of a level would be 1e-5
            torch.testing.assert_close(measure(*mixed, alpha > 0.5, protocol), double, rtol=1e-6, atol=0)


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
    # cut off: excesses 0.5 and 1; the object holds to level 0.5, where nothing is left: levels end, excess 0
    assert connectivity_error(pred, alpha).item() == pytest.approx(10_000 * 0.5 / 1000, rel=1e-6)
    # by columns the other one comes first, and what has no level left hangs on to 0.5 only
    both = 10_000 * (0.5 + 0.5) / 1000
    assert connectivity_error(pred, alpha, protocol="matlab").item() == pytest.approx(both, rel=1e-6)


def test_a_region_chooses_pixels_and_an_empty_one_has_sums_but_no_means():
    pred, alpha = (torch.cat([batched(matte)] * 2) for matte in CASES["soft 0"])
    top = torch.zeros_like(pred, dtype=torch.bool)
    top[..., :5, :] = True
    for error in (mse, mad):
        expected = error(pred[..., :5, :], alpha[..., :5, :])
        torch.testing.assert_close(error(pred, alpha, top), expected, rtol=1e-14, atol=0)  # order of the sum
    top[1] = False
    for error in (sad, gradient_error, connectivity_error):
        assert error(pred, alpha, top)[1] == 0
    for error in (mse, mad):
        with pytest.raises(ValueError, match=r"hold a pixel of every matte .* got none of number 1; leave"):
            error(pred, alpha, top)
    scores = measure(pred, alpha, top)
    for name in ERRORS:
        assert scores[f"{name}_transition"].isnan().tolist() == [False, name in ("mse", "mad")]


@pytest.mark.parametrize("protocol", ["aim", "matlab"])
def test_measure_is_the_five_functions_over_the_regions_of_the_trimap(protocol):
    pairs = [PAIRS["pair"](name) for name in PAIRS["NAMES"]]
    pred, alpha, transition = (torch.from_numpy(np.stack(column))[:, None] for column in zip(*pairs, strict=True))
    trimap = transition + 2 * (~transition & (alpha == 1))
    regions = {"": None, "_transition": trimap == 1, "_foreground": trimap == 2, "_background": trimap == 0}
    scores = measure(pred, alpha, trimap, protocol)
    assert list(scores) == [f"{error}{region}" for region in regions for error in ERRORS]
    assert {score.dtype for score in scores.values()} == {torch.float64}
    for name, error in ERRORS.items():
        for suffix, region in regions.items():
            there = torch.ones(6, dtype=torch.bool) if region is None else region.flatten(1).any(dim=1)
            expected = error(pred[there], alpha[there], None if region is None else region[there], protocol)
            torch.testing.assert_close(scores[name + suffix][there], expected, rtol=1e-12, atol=1e-15)
    bool_scores = measure(pred, alpha, transition, protocol)
    assert list(bool_scores) == [name for name in scores if not name.endswith("ground")]
    assert list(measure(pred, alpha, None, protocol)) == list(ERRORS)
    for name, score in bool_scores.items():
        torch.testing.assert_close(score, scores[name], rtol=1e-14, atol=0, equal_nan=True)


def test_large_mattes_are_measured_in_bands_as_small_ones_are():
    generator = torch.Generator().manual_seed(0)
    pred, alpha = torch.rand(2, 1, 1, 130, 1700, generator=generator, dtype=torch.float64)  # 3 bands of the gradient
    region = alpha > 0.3
    for error in (gradient_error, sad, connectivity_error):
        strips = [error(pred, alpha, region & (torch.arange(130)[:, None] // 13 == i)) for i in range(10)]
        torch.testing.assert_close(sum(strips), error(pred, alpha, region))
    expected = ORACLE["grad"](pred[0, 0].numpy(), alpha[0, 0].numpy(), region[0, 0].numpy())
    assert gradient_error(pred, alpha, region).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("close", [1e-2, 1e-3, 1e-4])
def test_the_gradient_error_of_a_close_prediction_on_a_plateau_is_that_of_the_release(close):
    rng = np.random.default_rng(0)
    alpha = np.where(np.hypot(*np.mgrid[-40:40, -50:50]) < 30, 0.7, 0.3)
    pred = np.clip(alpha + close * rng.standard_normal(alpha.shape), 0, 1)
    expected = ORACLE["grad"](pred, alpha, np.ones(alpha.shape, bool))
    assert gradient_error(batched(pred), batched(alpha)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_mattes_are_measured_in_float64(dtype):
    pred, alpha = (batched(matte).to(dtype).requires_grad_() for matte in CASES["soft 0"])
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
        (MATTE.numpy(), MATTE, None, TypeError, "pred must be a floating tensor, got ndarray; use torch.from_numpy"),
        (MATTE, MATTE, MATTE, TypeError, "region must be a bool tensor, got torch.float32; .* trimap == 1"),
        (0.5, MATTE, None, TypeError, "pred must be a floating tensor, got float"),
        ([MATTE, MATTE], [MATTE], None, ValueError, "pred, alpha must be .* of one length, got 2, 1 tensors; give one"),
        ([], [], None, ValueError, "one length, got 0, 0 tensors"),
        (
            [MATTE[0]],
            [MATTE[1]],
            [MATTE[1, 0] > 0],
            ValueError,
            r"shape of the mattes, \(1, 4, 5\)",
        ),
        (MATTE[:, 0], MATTE[:, 0], None, ValueError, r"one shape \(B, 1, H, W\) .* got \(2, 4, 5\)"),
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


def test_wrong_trimaps_and_protocols_get_a_sentence():
    with pytest.raises(ValueError, match=r"trimap must hold 0 background, .* got 0 to 255; .* trimap // 127"):
        measure(MATTE, MATTE, (MATTE > 0.5) * 255)
    with pytest.raises(TypeError, match=r"trimap must be a bool or an integer tensor, got torch.float32; .*long"):
        measure(MATTE, MATTE, MATTE)
    with pytest.raises(ValueError, match="protocol must be aim or matlab, got 'raw'"):
        measure(MATTE, MATTE, protocol="raw")


@pytest.mark.parametrize("shape", [(33, 1620), (65, 4096), (129, 1620)])
def test_bands_whose_last_one_is_padding_alone_lose_no_row(shape):
    rng = np.random.default_rng(0)
    pred, alpha = rng.random(shape), rng.random(shape)
    found = measure(*(torch.from_numpy(matte)[None, None] for matte in (pred, alpha)))
    everywhere = np.ones(shape, bool)
    assert found["grad"].item() == pytest.approx(ORACLE["grad"](pred, alpha, everywhere), rel=1e-6)
    assert found["sad"].item() == pytest.approx(np.abs(pred - alpha).sum() / 1000, rel=1e-12)
    assert found["mse"].item() == pytest.approx(np.square(pred - alpha).mean(), rel=1e-12)
