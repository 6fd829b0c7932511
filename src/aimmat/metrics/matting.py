"""Averages of the matting errors over a test set: over pictures, by type and by category."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchmetrics import Metric

from aimmat.functional.metrics import measure
from aimmat.schema import Category, ImageType

METRICS = tuple(f"{name}{suffix}" for suffix in ("", "_transition") for name in ("sad", "mse", "mad", "grad", "conn"))


class MattingMetrics(Metric):
    """Every error of Table 2, averaged over pictures and over groups of pictures; lower is better.

    State is one float64 sum and count per error and group, added up over processes, so an uneven last batch
    weighs what it should. A score that is nan (a mean over an empty transition) is left out of its averages.

    Source:
        Table 2 of the AIM paper: its first columns are means over pictures, both its "Avg." columns
        unweighted means over the groups.

    >>> metric = MattingMetrics()
    >>> scores = {name: torch.tensor([1.0, 2.0, 6.0]) for name in METRICS}
    >>> so, smoke = ImageType.SO.number, ImageType.NS.number
    >>> metric.add(scores, torch.tensor([so, so, smoke]), torch.tensor([Category.ANIMAL.number] * 3))
    >>> {key: value.item() for key, value in metric.compute().items() if key.startswith("sad/type")}
    {'sad/type/SO': 1.5, 'sad/type/NS': 6.0, 'sad/type/avg': 3.75}
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    sums: Tensor  # (metrics, 1 + types + categories)
    counts: Tensor  # same shape, pictures

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zeros = torch.zeros(len(METRICS), 1 + len(ImageType) + len(Category), dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("counts", zeros.clone(), dist_reduce_fx="sum")

    def update(self, pred: Tensor, alpha: Tensor, transition: Tensor, image_type: Tensor, category: Tensor) -> None:
        """Measure a batch and count it.

        Args:
            pred: predicted alpha matte, (B, 1, H, W), floating, values in [0, 1].
            alpha: true alpha matte, same shape and range.
            transition: where the trimap is 1, (B, 1, H, W) bool.
            image_type: `ImageType.number` of each picture, (B,) int64.
            category: `Category.number` of each picture, (B,) int64.

        Raises:
            TypeError, ValueError: as `measure` and `add`.
        """
        self._count(measure(pred, alpha, transition), image_type, category)

    def add(self, scores: Mapping[str, Tensor], image_type: Tensor, category: Tensor) -> None:
        """Count pictures that `measure` has seen already.

        Args:
            scores: what `measure` returns, (B,) each.
            image_type: `ImageType.number` of each picture, (B,) int64.
            category: `Category.number` of each picture, (B,) int64.

        Raises:
            ValueError: an error is missing or unknown, the lengths differ, or an index names no type or category.
        """
        self._computed = None  # what torchmetrics does around update: forget the cached result, note that data came
        self._update_count += 1
        self._count(scores, image_type, category)

    def compute(self) -> dict[str, Tensor]:
        """Averages of everything counted so far.

        Returns:
            For each name in `METRICS` scalars in float64 on the CPU: `sad` over pictures, `sad/type/SO` and
            `sad/cat/animal` over the pictures of a group, `sad/type/avg` and `sad/cat/avg` over the groups.
            A group without pictures has no key, and nothing counted gives an empty dict.
        """
        averages: dict[str, Tensor] = {}
        for name, means in zip(METRICS, (self.sums / self.counts).cpu(), strict=True):  # nan where nothing was counted
            overall, types, categories = means.split([1, len(ImageType), len(Category)])
            if overall.isnan():
                continue
            averages[name] = overall[0]
            for kind, words, group in (("type", ImageType, types), ("cat", Category, categories)):
                present = {word: mean for word, mean in zip(words, group, strict=True) if not mean.isnan()}
                averages |= {f"{name}/{kind}/{word}": mean for word, mean in present.items()}
                averages[f"{name}/{kind}/avg"] = torch.stack(list(present.values())).mean()
        return averages

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> torch.nn.Module:
        """Follow the module to another device, but not to another precision: Trainer(precision="16-true") casts all."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), exclude_state)

    def _count(self, scores: Mapping[str, Tensor], image_type: Tensor, category: Tensor) -> None:
        """Add a batch to the state."""
        if set(scores) != set(METRICS):
            raise ValueError(
                f"scores must hold {', '.join(METRICS)}, got {', '.join(scores) or 'none'}; give what measure returns"
            )
        shape = scores["sad"].shape
        if len(shape) != 1 or any(tensor.shape != shape for tensor in (*scores.values(), image_type, category)):
            raise ValueError(
                f"scores, image_type and category must hold one number for each picture, (B,), got "
                f"{tuple(shape)}, {tuple(image_type.shape)} and {tuple(category.shape)}; "
                f"an index for a single picture becomes one with index[None]"
            )
        values = torch.stack([scores[name] for name in METRICS]).to(self.sums)  # (metrics, B)
        member = torch.cat([_member(image_type, ImageType).to(self.sums), _member(category, Category).to(self.sums)], 1)
        member = pad(member, (1, 0), value=1)  # (B, groups), the first holds every picture
        known = ~values.isnan()
        self.sums += values.where(known, 0) @ member
        self.counts += known.to(self.counts) @ member


def _member(index: Tensor, words: type[ImageType] | type[Category]) -> Tensor:
    """Which of the words each picture belongs to, (B, words) bool."""
    member = index[:, None] == torch.arange(len(words), device=index.device)
    if not member.any(dim=1).all():
        raise ValueError(
            f"each picture needs a {words.__name__}.number from 0 to {len(words) - 1}, got {index.tolist()}; "
            f"{words.__name__}(name).number gives it"
        )
    return member
