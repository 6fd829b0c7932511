"""Slow plain twins of the five errors, one (H, W) float64 pair at a time, written from their definitions."""

from itertools import pairwise

import numpy as np
from scipy import ndimage


def sad(pred, alpha, region):
    return sum(abs(pred[p] - alpha[p]) for p in zip(*np.nonzero(region), strict=True)) / 1000


def mse(pred, alpha, region):
    return sum((pred[p] - alpha[p]) ** 2 for p in zip(*np.nonzero(region), strict=True)) / np.count_nonzero(region)


def mad(pred, alpha, region):
    return 1000 * sad(pred, alpha, region) / np.count_nonzero(region)


def grad(pred, alpha, region):
    def magnitude(matte):
        axes = [ndimage.gaussian_filter(matte, 1.4, order=order, output=np.float32) for order in ((1, 0), (0, 1))]
        return np.sqrt(axes[0] ** 2 + axes[1] ** 2)

    return np.square(magnitude(pred) - magnitude(alpha), dtype=np.float64)[region].sum() / 10


def conn(pred, alpha, region):
    thresholds = [0.1 * step for step in range(11)]
    level = np.full(pred.shape, np.nan)
    for below, threshold in pairwise(thresholds):
        labels, count = ndimage.label((pred >= threshold) & (alpha >= threshold))  # 4-connected, in raster order
        if count == 0:
            continue
        areas = [np.count_nonzero(labels == label) for label in range(1, count + 1)]
        outside = labels != 1 + areas.index(max(areas))
        level[outside & np.isnan(level)] = np.float32(below)  # the release keeps its level map in float32
    level[np.isnan(level)] = 1

    def connectedness(matte):
        distance = matte - level
        return 1 - np.where(distance >= 0.15, distance, 0)

    return np.abs(connectedness(pred) - connectedness(alpha))[region].sum() / 1000
