"""The groups that scores are averaged over: all pictures, those of a type, those of a category."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aimmat.schema import Category, ImageType

Result = dict[str, Tensor]  # name of a score and group, "sad/type/SO", and its average, a scalar
NUM_GROUPS = 1 + len(ImageType) + len(Category)


def members(image_type: Tensor, category: Tensor) -> Tensor:
    """Which groups each picture belongs to.

    Args:
        image_type: `ImageType.number` of each picture, (B,) int64.
        category: `Category.number` of each picture, (B,) int64.

    Returns:
        (B, NUM_GROUPS) bool: every picture, then the types, then the categories.

    Raises:
        ValueError: an index names no type or no category.

    >>> members(torch.tensor([0]), torch.tensor([1])).long()
    tensor([[1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]])
    """
    columns = [torch.ones_like(image_type, dtype=torch.bool)[:, None]]
    words: type[ImageType] | type[Category]
    for index, words in ((image_type, ImageType), (category, Category)):
        column = index[:, None] == torch.arange(len(words), device=index.device)
        if not column.any(dim=1).all():
            raise ValueError(
                f"each picture needs a {words.__name__}.number from 0 to {len(words) - 1}, got {index.tolist()}; "
                f"{words.__name__}(name).number gives it"
            )
        columns.append(column)
    return torch.cat(columns, dim=1)


def by_group(name: str, means: Tensor) -> Result:
    """Name the averages of one score.

    Args:
        name: the score's.
        means: one value a group, (NUM_GROUPS,); nan where the group is empty.

    Returns:
        Scalars: `name` over all pictures, `name/type/SO` and `name/cat/animal` for each group that is not empty,
        `name/type/avg` and `name/cat/avg`, the unweighted means of those. Empty when nothing was counted.
    """
    overall, types, categories = torch.split(means, [1, len(ImageType), len(Category)])
    if overall.isnan():
        return {}
    averages = {name: overall[0]}
    for kind, words, values in (("type", ImageType, types), ("cat", Category, categories)):
        present = {word: value for word, value in zip(words, values, strict=True) if not value.isnan()}
        averages |= {f"{name}/{kind}/{word}": value for word, value in present.items()}
        averages[f"{name}/{kind}/avg"] = torch.stack(list(present.values())).mean()
    return averages


def for_plot(results: Result | Sequence[Result], *names: str) -> Result | list[Result]:
    """What one figure can show of one result, or of several over time: some scores, overall and by type.

    Args:
        results: what a metric's `compute` returned, or several of that.
        names: the scores to keep, such as "sad".

    Returns:
        One result or several, as they came; of several, only what all of them hold.
    """
    several = [results] if isinstance(results, dict) else results
    common = set.intersection(*(set(result) for result in several))
    keys = [key for key in several[0] if key in common and key.split("/")[0] in names and "/cat/" not in key]
    shown = [{key: result[key] for key in keys} for result in several]
    return shown[0] if isinstance(results, dict) else shown
