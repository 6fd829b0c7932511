"""The LightningModule around a matting network: fetch, predict, score, log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from aimmat import models
from aimmat.inference import build_strategy
from aimmat.lit.losses import MattingLoss, check_finite
from aimmat.lit.processes import gathered
from aimmat.lit.steps import WholeSteps
from aimmat.metrics import MattingMetrics, SemanticMetrics, measure
from aimmat.schema import AimmatError, Batch, Category, ImageType, Prediction, Row


class MattingModule(WholeSteps):
    """Train and test one network.

    Args:
        model: name and switches of the network, as `aimmat.build` takes them.
        inference: name and options of the strategy of validation and test (`aimmat.inference.build_strategy`).
        loss: `loss(prediction, batch)` gives named terms; parameters that it has itself, such as those of a
            discriminator, learn with the network's.
        optimizer: makes the optimiser of the parameters.
        schedule: makes a learning-rate schedule of `(optimizer, total_steps=...)`; None keeps the rate.
        prefix: put before the logged names; stages before the last have one.
        frozen: what does not learn: parts of the network by the beginning of their parameters' names (encoder,
            semantic.head, ...), batch normalisation's statistics included, and `batch_norm`, which keeps those of
            every batch normalisation.

    Raises:
        AimmatError: `frozen` names no part of the network, or all of them.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        inference: Mapping[str, Any],
        loss: nn.Module | None = None,
        optimizer: Callable[..., Optimizer] | None = None,
        schedule: Callable[..., Any] | None = None,
        prefix: str = "",
        frozen: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.save_hyperparameters({"model": dict(model), "inference": dict(inference)})
        self.net = models.build(**model)
        self.strategy = build_strategy(**inference)
        self.loss, self.optimizer, self.schedule, self.prefix = loss, optimizer, schedule, prefix
        self.frozen = tuple(frozen)
        self._freeze()
        self.val_metrics, self.test_metrics = MattingMetrics(), MattingMetrics()
        self.semantic_metrics = SemanticMetrics()  # of the test
        self.rows: list[Row] = []

    def forward(self, image: Tensor) -> Prediction:
        """The network itself: (B, 3, H, W) in [0, 1] to a `Prediction`."""
        return self.net(image)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Weighted sum of the loss terms."""
        assert self.loss is not None
        terms = self.loss(self.net(self.net.inputs(batch)), batch)
        check_finite(terms, batch)
        areas = {"matting_alpha": self.loss.area(batch)} if isinstance(self.loss, MattingLoss) else {}
        return self.learn(terms, batch_idx, areas)

    def train(self, mode: bool = True) -> Self:
        """Training or test; frozen batch normalisation stays in the latter."""
        super().train(mode)
        for name, part in self.net.named_modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and self._is_frozen(name):
                part.eval()
        return self

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Prediction]:
        """Prediction at the picture's own size, scored."""
        prediction = self.strategy(self.net, self.net.inputs(batch))
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
        prediction = self.strategy(self.net, self.net.inputs(batch))
        self.rows += rows(self._score(self.test_metrics, prediction, batch), batch)
        if prediction.semantic is not None:
            classes = prediction.semantic.argmax(dim=1, keepdim=True)
            self.semantic_metrics.update(classes, batch["semantic"], batch["type"], batch["category"])
        return {"prediction": prediction}

    def on_test_epoch_end(self) -> None:
        """Log the metrics by type and category, those of the semantic decoder too, and gather all processes' rows."""
        self._log_metrics(self.test_metrics, "test")
        if self.semantic_metrics.update_called:  # the network has a semantic decoder
            semantic = self.semantic_metrics.compute()
            self.log_dict({f"{self.prefix}test/semantic_{name}": value for name, value in semantic.items()})
            self.semantic_metrics.reset()
        self.rows = gathered(self.rows)

    def configure_optimizers(self) -> Any:
        """The optimiser, and the schedule stepped after every batch."""
        assert self.optimizer is not None
        learners = [self.net] if self.loss is None else [self.net, self.loss]
        optimizer = self.optimizer([value for part in learners for value in part.parameters() if value.requires_grad])
        if self.schedule is None:
            return optimizer
        schedule = self.schedule(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _freeze(self) -> None:
        names = [part for part in self.frozen if part != "batch_norm"]
        parameters = dict(self.net.named_parameters())
        parts = {part: [name for name in parameters if f"{name}.".startswith(f"{part}.")] for part in names}
        if unknown := [part for part, found in parts.items() if not found]:
            known = ", ".join(dict.fromkeys(name.partition(".")[0] for name in parameters))
            raise AimmatError(f"frozen names {', '.join(unknown)}; name parts of {known}, or batch_norm")
        for name in {name for found in parts.values() for name in found}:
            parameters[name].requires_grad_(False)
        if names and not any(parameter.requires_grad for parameter in parameters.values()):
            raise AimmatError(f"frozen={list(self.frozen)} leaves nothing to learn; leave out a part")
        self.train()

    def _is_frozen(self, name: str) -> bool:
        """Whether a batch normalisation keeps its statistics."""
        return "batch_norm" in self.frozen or any(f"{name}.".startswith(f"{part}.") for part in self.frozen)

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
