"""Averages of the matting errors over a test set: over pictures, by type and by category."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args

import torch
from torch import Tensor
from torchmetrics import Metric

from aimmat.functional.filters import widest_float
from aimmat.functional.metrics import Mattes, MetricProtocol, measure
from aimmat.metrics.groups import NUM_GROUPS, by_group, for_plot, members

METRICS = tuple(
    f"{error}{region}"
    for region in ("", "_transition", "_foreground", "_background")
    for error in ("sad", "mse", "mad", "grad", "conn")
)


class MattingMetrics(Metric):
    """Every error over the whole picture and the regions of its trimap, averaged over pictures; lower is better.

    Averages are over all pictures, over those of a type or category, and over the groups. State is one sum and count
    per error and group, added up over processes, so an uneven last batch weighs what it should. Sums are float64 on the
    metric's device, or float32 with their rounding errors beside them where a device has no float64 (Apple's MPS). A
    score that is nan (a mean over an empty region) is left out of its averages.

    Args:
        protocol: "aim" or "matlab", as `measure` takes it.
        kwargs: of `torchmetrics.Metric`.

    Raises:
        ValueError: an unknown protocol.

    Source:
        Table 2 of the AIM paper: its first columns are means over pictures, both its "Avg." columns
        unweighted means over the groups.

    >>> from aimmat.schema import Category, ImageType
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
    plot_lower_bound = 0.0
    sums: Tensor  # (metrics, groups)
    rounded_off: Tensor  # same shape, what the additions to the sums lost
    counts: Tensor  # same shape, pictures

    def __init__(self, protocol: MetricProtocol = "aim", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if protocol not in get_args(MetricProtocol):  # now: the first test may be an epoch away
            raise ValueError(f"protocol must be {' or '.join(get_args(MetricProtocol))}, got {protocol!r}")
        self.protocol = protocol
        for name in ("sums", "rounded_off", "counts"):
            zeros = torch.zeros(len(METRICS), NUM_GROUPS, dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(self, pred: Mattes, alpha: Mattes, trimap: Mattes, image_type: Tensor, category: Tensor) -> None:
        """Measure a batch and count it.

        Args:
            pred: predicted alpha mattes, (B, 1, H, W), floating, values in [0, 1], or a sequence of different sizes.
            alpha: true alpha mattes, same form and range.
            trimap: same form, int64: 0 background, 1 transition, 2 foreground.
            image_type: `ImageType.number` of each picture, (B,) int64.
            category: `Category.number` of each picture, (B,) int64.

        Raises:
            TypeError, ValueError: as `measure` and `add`.
        """
        self._count(measure(pred, alpha, trimap, self.protocol), image_type, category)

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
        sums, rounded_off, counts = (state.cpu().double() for state in (self.sums, self.rounded_off, self.counts))
        means = (sums + rounded_off) / counts  # nan where nothing was counted
        named = zip(METRICS, means, strict=True)
        return {key: value for name, groups in named for key, value in by_group(name, groups).items()}

    def plot(self, val: Any = None, ax: Any = None, name: str = "sad") -> Any:
        """Draw one error, overall and by type; needs matplotlib (the extra `plot`).

        Args:
            val: what `compute` returned, or a list of such results, drawn over time; None computes now.
            ax: matplotlib axes to draw on; None makes a figure.
            name: one of `METRICS`: they have units of their own, so each has its figure.

        Returns:
            Figure and axes.
        """
        shown = for_plot(self.compute() if val is None else val, name)
        figure, axes = cast(Any, self._plot(shown, ax))
        results = [shown] if isinstance(shown, dict) else shown
        axes.set_ylim(0, 1.1 * max(float(value) for result in results for value in result.values()) or 1)
        axes.set_ylabel(name)
        return figure, axes

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> torch.nn.Module:
        """Follow the module to another device, but not to another precision: Trainer(precision="16-true") casts all."""

        def move(tensor: Tensor) -> Tensor:
            device = fn(torch.empty(0, device=tensor.device)).device
            return tensor.to(widest_float(device)).to(device)

        return super()._apply(move, exclude_state)

    def _count(self, scores: Mapping[str, Tensor], image_type: Tensor, category: Tensor) -> None:
        """Add a batch to the state."""
        if set(scores) != set(METRICS):
            raise ValueError(
                f"scores must hold {', '.join(METRICS)}, got {', '.join(scores) or 'none'}; give what measure returns "
                f"for an integer trimap"
            )
        shape = scores["sad"].shape
        if len(shape) != 1 or any(tensor.shape != shape for tensor in (*scores.values(), image_type, category)):
            raise ValueError(
                f"scores, image_type and category must hold one number for each picture, (B,), got "
                f"{tuple(shape)}, {tuple(image_type.shape)} and {tuple(category.shape)}; "
                f"an index for a single picture becomes one with index[None]"
            )
        values = torch.stack([scores[name] for name in METRICS]).to(self.sums)  # (metrics, B)
        group = members(image_type, category).to(self.sums)  # (B, groups)
        known = ~values.isnan()
        self._add(values.where(known, 0) @ group)
        self.counts += known.to(group) @ group

    def _add(self, values: Tensor) -> None:
        """Add to the sums and keep what the addition rounds off (Knuth's two-sum)."""
        total = self.sums + values
        added = total - self.sums
        self.rounded_off += (self.sums - (total - added)) + (values - added)
        self.sums = total
