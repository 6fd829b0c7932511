"""How well a network finds background, transition and foreground: IoU and accuracy of the generalised trimap."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from aimmat.metrics.groups import NUM_GROUPS, by_group, for_plot, members

_CLASSES = 3


class SemanticMetrics(Metric):
    """Intersection over union and accuracy of the predicted generalised trimap; higher is better.

    State is one 3 x 3 table of pixels for each group of pictures, counted exactly and added up over processes.
    A class that is neither there nor predicted has no IoU and is left out of the mean over classes.

    Source:
        AIM paper, supplement, Table 1: 0.7393 and 0.8900 with SE blocks. It does not say how it averages; here the
        pixels of all pictures of a group are counted together, and IoU is the mean over the three classes.

    >>> from aimmat.schema import Category, ImageType
    >>> metric = SemanticMetrics()
    >>> truth, pred = torch.tensor([[[[0, 1, 1, 2]]]]), torch.tensor([[[[0, 1, 2, 2]]]])
    >>> metric.update(pred, truth, torch.tensor([ImageType.SO.number]), torch.tensor([Category.TOY.number]))
    >>> scores = metric.compute()
    >>> scores["iou"].item(), scores["iou_transition"].item(), scores["accuracy/type/SO"].item()
    (0.6666666666666666, 0.5, 0.75)
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    pixels: Tensor  # (groups, 3, 3) int64: true class, predicted class

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zeros = torch.zeros(NUM_GROUPS, _CLASSES, _CLASSES, dtype=torch.int64)
        self.add_state("pixels", zeros, dist_reduce_fx="sum")

    def update(self, pred: Tensor, semantic: Tensor, image_type: Tensor, category: Tensor) -> None:
        """Count a batch.

        Args:
            pred: predicted class index of each pixel, (B, 1, H, W) int64: 0 background, 1 transition, 2 foreground.
                A `Prediction.semantic` becomes one with `.argmax(dim=1, keepdim=True)`.
            semantic: the generalised trimap, same shape and values.
            image_type: `ImageType.number` of each picture, (B,) int64.
            category: `Category.number` of each picture, (B,) int64.

        Raises:
            TypeError: a map is not int64.
            ValueError: shapes differ, a map holds another class, or an index names no type or category.
        """
        for name, classes in (("pred", pred), ("semantic", semantic)):
            if classes.dtype != torch.int64:
                raise TypeError(
                    f"{name} must hold class indices as int64, got {classes.dtype}; "
                    f"logits become them with logits.argmax(dim=1, keepdim=True)"
                )
        size = len(pred)
        if pred.shape != semantic.shape or pred.ndim != 4 or pred.shape[1] != 1:
            raise ValueError(
                f"pred and semantic must be class maps of one shape (B, 1, H, W), got {tuple(pred.shape)} and "
                f"{tuple(semantic.shape)}; logits become one with logits.argmax(dim=1, keepdim=True)"
            )
        if image_type.shape != (size,) or category.shape != (size,):
            raise ValueError(
                f"image_type and category must hold one number for each picture, ({size},), got "
                f"{tuple(image_type.shape)} and {tuple(category.shape)}; one picture needs a batch of one"
            )
        if size == 0:
            return
        low, high = torch.stack(torch.cat([pred, semantic]).aminmax()).tolist()
        if low < 0 or high >= _CLASSES:
            raise ValueError(
                f"classes must be 0 background, 1 transition or 2 foreground, got {low} to {high}; "
                f"a trimap file's 0, 128 and 255 stand for them"
            )
        group = members(image_type, category).T[..., None]  # (groups, B, 1)
        picture = torch.arange(size, device=pred.device).view(-1, 1, 1, 1)
        codes = (picture * _CLASSES + semantic) * _CLASSES + pred
        counts = codes.flatten().bincount(minlength=size * _CLASSES**2).view(size, -1)  # (B, 9)
        self.pixels += (group * counts).sum(dim=1).view_as(self.pixels)

    def compute(self) -> dict[str, Tensor]:
        """IoU and accuracy of everything counted so far.

        Returns:
            For `iou`, its parts `iou_background`, `iou_transition` and `iou_foreground`, and `accuracy`, scalars in
            float64 on the CPU: overall, by type (`iou/type/SO`), by category (`iou/cat/animal`), and the unweighted
            means over the groups (`iou/type/avg`, `iou/cat/avg`). What no picture says anything of has no key.
        """
        pixels = self.pixels.cpu().double()
        right, true, predicted = pixels.diagonal(dim1=1, dim2=2), pixels.sum(dim=2), pixels.sum(dim=1)
        iou = right / (true + predicted - right)  # (groups, classes); nan where a class is neither there nor predicted
        scores = {"iou": iou.nanmean(dim=1)}
        scores |= dict(zip(("iou_background", "iou_transition", "iou_foreground"), iou.unbind(dim=1), strict=True))
        scores["accuracy"] = right.sum(dim=1) / true.sum(dim=1)
        return {key: value for name, means in scores.items() for key, value in by_group(name, means).items()}

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw IoU and accuracy, overall and by type; needs matplotlib.

        Args:
            val: what `compute` returned, or a list of such results, drawn over time; None computes now.
            ax: matplotlib axes to draw on; None makes a figure.

        Returns:
            Figure and axes.
        """
        return self._plot(for_plot(self.compute() if val is None else val, "iou", "accuracy"), ax)
