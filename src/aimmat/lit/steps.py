"""Training steps that are the same whatever the number of devices and accumulations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from aimmat.lit.processes import summed


class WholeSteps(LightningModule):
    """A module that learns from, and logs, the loss of a whole step, of which a batch may be a part.

    Processes average their gradients and accumulated batches count alike, which is the mean over a step's samples only
    while all have as many samples. Here each counts by its share of the step, so an epoch's last step is right as well.
    """

    prefix = ""  # before the logged names
    _logged: Tensor | None = None  # of the step's batches so far

    def learn(
        self, terms: Mapping[str, Tensor], batch_idx: int, areas: Mapping[str, Tensor] = MappingProxyType({})
    ) -> Tensor:
        """What `training_step` returns; logs the terms and their sum when a step is complete.

        Args:
            terms: parts of the loss, each a mean over the batch's samples.
            batch_idx: number of the batch in the epoch.
            areas: terms that are a sum over some pixels of the batch divided by their number + 1, and that number. All
                processes count as one batch; accumulated ones by their samples, since those to come are not known yet.

        Returns:
            (), such that the mean over processes and accumulated batches is the loss of the step. Without a trainer the
            batch is the step.
        """
        if self._trainer is None:
            return torch.stack(list(terms.values())).sum()
        trainer = self.trainer
        parts = trainer.world_size * trainer.accumulate_grad_batches
        data: Any = getattr(trainer, "datamodule", None)
        share = data.share(batch_idx) if hasattr(data, "share") else 1 / parts
        shares: dict[str, float | Tensor] = dict.fromkeys(terms, share)
        for name, area in areas.items():
            if name in terms and trainer.world_size > 1:
                counts = area.double() * (share > 0)
                total, of_step = summed(torch.stack([counts, torch.full_like(counts, share)]))
                shares[name] = of_step * (area + 1) / (total + 1) if share else 0.0
        weighted = torch.stack([term * torch.as_tensor(shares[name]).to(term) for name, term in terms.items()])
        self._log_step(list(terms), weighted.detach(), batch_idx)
        return weighted.sum() * parts

    def _log_step(self, names: Sequence[str], values: Tensor, batch_idx: int) -> None:
        accumulate = self.trainer.accumulate_grad_batches
        before = self._logged if batch_idx % accumulate else None
        self._logged = values if before is None else before + values
        if (batch_idx + 1) % accumulate == 0 or self.trainer.is_last_batch:
            values, self._logged = summed(self._logged), None
            for name, value in zip(names, values, strict=True):
                self.log(f"{self.prefix}train/{name}", value, batch_size=1)
            self.log(f"{self.prefix}train/loss", values.sum(), prog_bar=True, batch_size=1)
