"""Six pairs of mattes from a seed, with NumPy alone: what tests/golden/aim_metrics.json was measured on."""

import numpy as np

NAMES = ("hair", "glass", "smoke", "islands", "faint", "noise")


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


def _blocks(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise in [0, 1]: random values on a coarse lattice, bilinear in between."""
    lattice = rng.random((cells + 1, cells + 1))
    rows, columns = np.linspace(0, cells, 96, endpoint=False), np.linspace(0, cells, 128, endpoint=False)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], columns - left
    upper, lower = lattice[top], lattice[top + 1]
    mixed = upper * (1 - down) + lower * down
    return mixed[:, left] * (1 - right) + mixed[:, left + 1] * right
