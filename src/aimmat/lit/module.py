"""The LightningModule around a matting network: fetch, predict, score, log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from aimmat import models
from aimmat.inference import build_strategy
from aimmat.lit.losses import check_finite
from aimmat.metrics import MattingMetrics, measure
from aimmat.schema import Batch, Category, ImageType, Prediction, Row


class MattingModule(LightningModule):
    """Train and test one network.

    Args:
        model: name and switches of the network, as `aimmat.build` takes them.
        inference: name and options of the strategy of validation and test (`aimmat.inference.build_strategy`).
        loss: `loss(prediction, batch)` gives named terms.
        optimizer: makes the optimiser of the parameters.
        schedule: makes a learning-rate schedule of `(optimizer, total_steps=...)`; None keeps the rate.
        prefix: put before the logged names; stages before the last have one.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        inference: Mapping[str, Any],
        loss: nn.Module | None = None,
        optimizer: Callable[..., Optimizer] | None = None,
        schedule: Callable[..., Any] | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        self.save_hyperparameters({"model": dict(model), "inference": dict(inference)})
        self.net = models.build(**model)
        self.strategy = build_strategy(**inference)
        self.loss, self.optimizer, self.schedule, self.prefix = loss, optimizer, schedule, prefix
        self.val_metrics, self.test_metrics = MattingMetrics(), MattingMetrics()
        self.rows: list[Row] = []

    def forward(self, image: Tensor) -> Prediction:
        """The network itself: (B, 3, H, W) in [0, 1] to a `Prediction`."""
        return self.net(image)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Weighted sum of the loss terms."""
        assert self.loss is not None
        terms = self.loss(self.net(batch["image"]), batch)
        check_finite(terms, batch)
        total = torch.stack(list(terms.values())).sum()
        size = len(batch["name"])
        self.log_dict({f"{self.prefix}train/{name}": term for name, term in terms.items()}, batch_size=size)
        self.log(f"{self.prefix}train/loss", total, prog_bar=True, batch_size=size)
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Prediction]:
        """Prediction at the picture's own size, scored."""
        prediction = self.strategy(self.net, batch["image"])
        self._score(self.val_metrics, prediction, batch)
        return {"prediction": prediction}

    def on_validation_epoch_end(self) -> None:
        """Log the metrics by type and category."""
        self._log_metrics(self.val_metrics, "val")

    def on_test_epoch_start(self) -> None:
        """Forget the rows of an earlier test."""
        self.rows = []

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Prediction]:
        """Prediction at the picture's own size, scored; a row for each picture."""
        prediction = self.strategy(self.net, batch["image"])
        self.rows += rows(self._score(self.test_metrics, prediction, batch), batch)
        return {"prediction": prediction}

    def on_test_epoch_end(self) -> None:
        """Log the metrics by type and category, and gather the rows of all processes."""
        self._log_metrics(self.test_metrics, "test")
        if dist.is_available() and dist.is_initialized():
            parts: list[list[Row]] = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(parts, self.rows)
            self.rows = [row for part in parts for row in part]

    def configure_optimizers(self) -> Any:
        """The optimiser, and the schedule stepped after every batch."""
        assert self.optimizer is not None
        optimizer = self.optimizer(self.net.parameters())
        if self.schedule is None:
            return optimizer
        schedule = self.schedule(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _score(self, metrics: MattingMetrics, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        scores = measure(prediction.alpha.float(), batch["alpha"], batch["trimap"])
        metrics.add(scores, batch["type"], batch["category"])
        return scores

    def _log_metrics(self, metrics: MattingMetrics, split: str) -> None:
        if not self.trainer.sanity_checking:
            self.log_dict({f"{self.prefix}{split}/{name}": value for name, value in metrics.compute().items()})
        metrics.reset()


def rows(scores: Mapping[str, Tensor], batch: Batch) -> list[Row]:
    """One row for each picture of a batch."""
    types, categories = list(ImageType), list(Category)
    return [
        Row(
            name=name,
            type=types[int(batch["type"][i])],
            category=categories[int(batch["category"][i])],
            scores={key: float(values[i]) for key, values in scores.items()},
        )
        for i, name in enumerate(batch["name"])
    ]
