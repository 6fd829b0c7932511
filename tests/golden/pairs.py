"""Pairs of mattes from a seed, with NumPy alone: what the golden figures of this folder were measured on.

`pair` and `NAMES` belong to aim_metrics.json, `matlab_pair` and `MATLAB_NAMES` to matlab_metrics.json.
"""

import numpy as np

NAMES = ("hair", "glass", "smoke", "islands", "faint", "noise")
MATLAB_NAMES = (
    *("smoke", "hair", "net", "glass", "discs", "outside", "large"),  # pictures
    *("empty", "full", "half", "equal", "empty_truth", "full_truth", "half_truth"),  # equal or constant mattes
    *("empty_prediction", "half_prediction", "narrow_range"),  # what the rescaling before the gradient does
    *("column", "row", "pixel", "two_columns", "small"),  # narrower than the filter
    *("no_unknown", "all_unknown"),
    *("ties", "levels", "noise", "checkerboard", "complement", "diagonal", "faint", "low"),  # components and levels
)


def pair(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction (float32 values), truth (8-bit levels) and transition of one pair, (96, 128) float64 and bool."""
    rng = np.random.default_rng(NAMES.index(name))
    y, x = np.mgrid[:96, :128]
    wave = _blocks(rng, 8)
    radius = np.hypot((y - 48) / 40, (x - 64) / 52)
    alpha = {
        "hair": np.clip((1 - radius) * 6 + 0.5 * np.sin(x * 0.9 + 6 * wave), 0, 1),
        "glass": np.where(radius < 1, 0.35 + 0.5 * wave, 0),
        "smoke": wave * _blocks(rng, 16),
        "islands": (_blocks(rng, 12) > 0.55) * (0.3 + 0.7 * wave),
        "faint": 0.09 * wave,  # no pixel reaches the first level
        "noise": rng.random((96, 128)),
    }[name]
    alpha = np.round(255 * alpha) / 255
    pred = np.clip(alpha + 0.4 * (_blocks(rng, 6) - 0.5) * (alpha > 0) + 0.2 * (rng.random((96, 128)) - 0.5), 0, 1)
    if name == "faint":
        pred *= 0.2
    transition = (alpha > 0) & (alpha < 1)
    pred = np.where(rng.random((96, 128)) < 0.3, np.round(255 * pred) / 255, pred.astype(np.float32))
    return pred, alpha, transition


def matlab_pair(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, truth and trimap (0, 128, 255) of one pair, (H, W) uint8 as their PNG files would hold them."""
    index = MATLAB_NAMES.index(name)
    rng = np.random.default_rng(1000 + index)
    sizes = {"large": (160, 157), "column": (97, 1), "row": (1, 83), "pixel": (1, 1), "two_columns": (60, 2)}
    height, width = sizes.get(name, (3, 5) if name == "small" else (40 + 3 * (index % 7), 56 - 5 * (index % 4)))
    y, x = np.mgrid[:height, :width]
    wave, ripple, drift = (_blocks(rng, cells, (height, width)) for cells in (6, 13, 5))
    radius = np.hypot((y - height / 2) / height, (x - width / 2) / width)
    parts = np.minimum(np.hypot(y - 14, x - 12) - 10, np.hypot(y - 30, x - 36) - 8)  # pixels outside two discs
    squares = (y % 11 < 4) & (x % 9 < 4) & (x + y > 6)  # equally large; by rows another one comes first than by columns
    truths = {
        "smoke": wave * ripple,
        "hair": np.clip((1 - 2.6 * radius) * 4 + np.sin(x * 0.9 + 6 * wave), 0, 1),
        "net": np.where((x % 6 == 2) | (y % 7 == 3), 0.4 + 0.6 * wave, 0),
        "glass": np.where(radius < 0.4, 0.35 + 0.5 * wave, 0),
        "discs": np.maximum(np.clip(0.5 - parts / 3, 0, 1), (y > 16) & (y < 25) & (abs(x - y) < 4)),
        "outside": np.clip((0.35 - radius) * 9, 0, 1),
        "large": np.clip(1.6 - 4 * radius + 0.7 * np.sin(y * 0.7 + 9 * wave), 0, 1),
        "equal": wave * (radius < 0.45),
        "full": np.ones((height, width)),
        "full_truth": np.ones((height, width)),
        "half": np.full((height, width), 0.5),
        "half_truth": np.full((height, width), 0.5),
        "no_unknown": (radius < 0.3).astype(float),
        "ties": squares * (0.4 + 0.3 * ((y // 11 + x // 9) % 3)),
        "levels": np.floor(6 * wave) / 5,
        "noise": rng.random((height, width)),
        "checkerboard": (x + y) % 2 * (0.3 + 0.7 * wave),
        "complement": (x + y) % 2.0,
        "diagonal": np.maximum(np.where((x - y) % 9 == 0, 1.0, 0), np.where(radius < 0.12, 0.8, 0)),
        "faint": 0.095 * wave,  # no pixel reaches the first level
        "low": 0.55 * ripple * (radius < 0.5),
        "empty": np.zeros((height, width)),
        "empty_truth": np.zeros((height, width)),
    }
    alpha = truths.get(name, np.clip(1.4 * wave - 0.2, 0, 1))
    pred = alpha + 0.5 * (drift - 0.5) * (alpha > 0) + 0.1 * (rng.random((height, width)) - 0.5)
    predictions = {
        "outside": np.where((y < 8) & (x > 30), 0.9, np.where(radius < 0.1, 0.3, pred)),
        "empty_prediction": np.zeros((height, width)),
        "half_prediction": np.full((height, width), 0.5),
        "narrow_range": 0.4 + 0.15 * pred,
        "ties": squares * (0.3 + 0.7 * drift),
        "levels": np.where(x % 4 == 0, pred, np.floor(6 * np.clip(wave + 0.4 * (drift - 0.5), 0, 0.999)) / 5),
        "complement": (x + y + 1) % 2 * (0.5 + 0.5 * drift),  # no pixel that both mattes hold
        "pixel": np.full((1, 1), 0.8),
        "empty_truth": 0.7 * wave * ripple,
        "discs": pred * ((y < 20) | (y > 22)),  # cut in two
        "faint": 0.09 * drift,
        **dict.fromkeys(("empty", "full", "half", "equal"), alpha),
    }
    pred, alpha = (
        np.round(255 * np.clip(matte, 0, 1)).astype(np.uint8) for matte in (predictions.get(name, pred), alpha)
    )
    unknown = np.pad((alpha > 0) & (alpha < 255), 2)
    for axis in (0, 1):
        unknown = np.any([np.roll(unknown, step, axis) for step in (-2, -1, 0, 1, 2)], axis=0)
    unknown = unknown[2:-2, 2:-2] | (
        name in ("all_unknown", "pixel", "complement", "empty_truth", "full_truth", "empty")
    )
    return pred, alpha, np.where(unknown, 128, np.where(alpha == 255, 255, 0)).astype(np.uint8)


def _blocks(rng: np.random.Generator, cells: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Smooth noise in [0, 1]: random values on a coarse lattice, bilinear in between."""
    lattice = rng.random((cells + 1, cells + 1))
    rows, columns = (np.linspace(0, cells, side, endpoint=False) for side in size)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], columns - left
    upper, lower = lattice[top], lattice[top + 1]
    mixed = upper * (1 - down) + lower * down
    return mixed[:, left] * (1 - right) + mixed[:, left + 1] * right
