"""Slow plain twins of Deep Image Matting's MATLAB errors, for one (H, W) uint8 pair and a region, step for step.

MATLAB keeps the mattes and the sums in single precision, and so do these, column after column.
"""

from math import ceil, exp, log, pi, sqrt

import numpy as np
from scipy import ndimage

SIGMA, EPSILON = 1.4, 1e-2


def sad(pred, alpha, region):
    return float(_sum(abs(_difference(pred, alpha)), region) / np.float32(1000))


def mse(pred, alpha, region):
    count = np.float32(np.count_nonzero(region))
    return float(_sum(_difference(pred, alpha) ** 2, region) / count) if count else np.nan


def grad(pred, alpha, region):
    error = (_magnitude(pred) - _magnitude(alpha)) ** 2
    return float(_sum(error, region) / np.float32(1000))


def conn(pred, alpha, region, first="column", empty="assign"):
    """`first` and `empty` choose a rule: who wins a tie, and what a level without a component does."""
    pred, alpha = (matte.astype(np.float32) / np.float32(255) for matte in (pred, alpha))
    thresholds = [np.float32(0.1 * step) for step in range(11)]  # single: 153 / 255 reaches 0.6
    level = np.full(pred.shape, -1, np.float32)
    for step in range(1, 11):
        largest = _largest((pred >= thresholds[step]) & (alpha >= thresholds[step]), first)
        if empty == "assign" or largest.any():
            level[(level == -1) & ~largest] = thresholds[step - 1]
    level[level == -1] = 1

    def connectedness(matte):
        distance = matte - level
        return 1 - distance * (distance >= np.float32(0.15))

    return float(_sum(abs(connectedness(pred) - connectedness(alpha)), region) / np.float32(1000))


def kernel():
    """Derivative of a Gaussian across the columns, (9, 9), of which the squares sum to 1."""
    half = ceil(SIGMA * sqrt(-2 * log(sqrt(2 * pi) * SIGMA * EPSILON)))
    offsets = range(-half, half + 1)
    bell = np.array([exp(-(offset**2) / (2 * SIGMA**2)) for offset in offsets])
    slope = -np.array(offsets) * bell
    across = np.outer(bell, slope)
    return across / np.sqrt((across**2).sum())


def _difference(pred, alpha):
    return (pred.astype(np.float32) - alpha.astype(np.float32)) / np.float32(255)


def _magnitude(matte):
    low, high = float(matte.min()), float(matte.max())
    stretched = (matte - low) / (high - low) if high > low else np.zeros(matte.shape)  # a constant has no gradient
    across, down = (ndimage.convolve(stretched, weights, mode="nearest") for weights in (kernel(), kernel().T))
    return np.sqrt(across**2 + down**2).astype(np.float32)


def _largest(mask, first):
    labels, count = ndimage.label(mask.T if first == "column" else mask)  # 4-connected, numbered as they are met
    areas = [np.count_nonzero(labels == label) for label in range(1, count + 1)]
    largest = labels == 1 + areas.index(max(areas)) if areas else np.zeros(labels.shape, bool)
    return largest.T if first == "column" else largest


def _sum(error, region):
    assert error.dtype == np.float32
    columns = np.add.accumulate(error * region, axis=0, dtype=np.float32)[-1]
    return np.add.accumulate(columns, dtype=np.float32)[-1]
