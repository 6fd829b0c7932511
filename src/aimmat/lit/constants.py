"""What a network must beat: predictors that give every pixel of a picture the same alpha."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

import torch
from torch.utils.data import Dataset, default_collate

from aimmat.lit.datamodule import MattingDataModule
from aimmat.lit.module import rows
from aimmat.metrics import measure
from aimmat.schema import Batch, Row

TYPE_MEAN = "mean of type"


def constant_rows(data: MattingDataModule) -> dict[str, list[Row]]:
    """Rows of the constant predictors on the test set.

    Args:
        data: whose `test` is measured.

    Returns:
        Method name to rows. "all 0", "all 0.5" and "all 1" say what they are; "mean of type" knows the type of each
        picture and the mean alpha of that type over the very pictures it is tested on, more than any network is told.
    """
    alphas: dict[int, list[float]] = defaultdict(list)
    for batch in _batches(data):
        alphas[int(batch["type"][0])].append(float(batch["alpha"].mean()))
    result: dict[str, list[Row]] = {"all 0": [], "all 0.5": [], "all 1": [], TYPE_MEAN: []}
    for batch in _batches(data):
        alpha, trimap = batch["alpha"], batch["trimap"]
        values = (0.0, 0.5, 1.0, fmean(alphas[int(batch["type"][0])]))
        for method, value in zip(result, values, strict=True):
            result[method] += rows(measure(torch.full_like(alpha, value), alpha, trimap), batch)
    return result


def _batches(data: MattingDataModule) -> Iterator[Batch]:
    test = data.test
    assert isinstance(test, Dataset)
    for index in range(len(test)):  # type: ignore[arg-type]
        yield data.compose(default_collate([test[index]]), augment=False)
