"""One LightningDataModule for every data set: workers deliver uint8 layers, the device composites them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset

from aimmat.data import EpochBatches, EpochSampler, shared_out
from aimmat.data.errors import SkipErrors
from aimmat.data.records import SampleRecord, entries_of, fingerprint, read_records, versions
from aimmat.schema import AimmatError, Batch, Layers
from aimmat.tables import write_file


class MattingDataModule(LightningDataModule):
    """Loaders for training, validation and test.

    Args:
        train: samples as `aimmat.data.SceneDataset` gives them, all of one size; None where nothing is trained.
        val: the same, of any sizes; None goes without validation.
        test: the same, of any sizes.
        compose: makes a `Batch` of `Layers` on their device: `compose(layers, augment: bool)`.
        batch_size: training samples of a step of the optimiser, over all devices and accumulations.
        num_workers: loader processes of the training set; validation and test load in the main process.
        seed: of the order of the training samples.
        on_error: "stop" ends a run at a file that cannot be used; "skip" names it, takes another sample, counts and
            goes on. A test stops in either case: its figures would be those of another data set.
        device_batch_size: the most of a step's samples that a device takes at once; None takes its whole share. Who
            makes the trainer asks `shared_out` and sets its `accumulate_grad_batches`.

    Raises:
        AimmatError: another word for `on_error`.
    """

    def __init__(
        self,
        train: Dataset | None,
        val: Dataset | None,
        test: Dataset | None,
        compose: Callable[..., Batch],
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        on_error: str = "stop",
        device_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if on_error not in ("stop", "skip"):
            raise AimmatError(f"data.on_error must be stop or skip, got {on_error!r}")
        if on_error == "skip":
            train, val = (None if part is None else SkipErrors(part, seed) for part in (train, val))
        self.train, self.val, self.test = cast(Dataset, train), val, test  # who has none does not train
        self.skipped: Counter[str] = Counter()  # what was wrong with files that were left out, and how often
        self.compose = compose
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.device_batch_size = device_batch_size

    def shared_out(self, devices: int) -> tuple[int, int]:
        """Samples that each of so many devices takes at once, and how often for one step."""
        return shared_out(self.batch_size, devices, self.device_batch_size)

    def batches(self, rank: int = 0, world_size: int = 1, accumulate: int = 1) -> EpochBatches:
        """Which training samples a process is shown in an epoch, batch by batch."""
        order = EpochSampler(len(self.train), self.seed)  # type: ignore[arg-type]
        return EpochBatches(order, self.batch_size, rank, world_size, accumulate)

    def share(self, batch_idx: int) -> float:
        """Which part of its step's samples this process has in a batch of the epoch."""
        return self._batches().share(batch_idx)

    def _batches(self) -> EpochBatches:
        if self.trainer is None:
            return self.batches()
        trainer = self.trainer
        return self.batches(trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches)

    def train_dataloader(self) -> DataLoader:
        """Shuffled, every epoch anew; every sample once, so that the last batch may be smaller."""
        return _TrainLoader(
            self.trainer,
            self.train,
            batch_sampler=self._batches(),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_one_thread,
        )

    def val_dataloader(self) -> DataLoader | list:
        """One picture at a time, in order."""
        return self._in_order(self.val)

    def test_dataloader(self) -> DataLoader | list:
        """One picture at a time, in order."""
        return self._in_order(self.test)

    def _in_order(self, dataset: Dataset | None) -> DataLoader | list:
        if dataset is None:
            return []
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if len(dataset) < world_size:  # type: ignore[arg-type]
            raise AimmatError(
                f"{world_size} processes cannot share the {len(dataset)} pictures of a validation or test; "  # type: ignore[arg-type]
                f"set trainer.devices={len(dataset)} or fewer"  # type: ignore[arg-type]
            )
        mine = torch.utils.data.Subset(dataset, range(rank, len(dataset), world_size))  # type: ignore[arg-type]
        return DataLoader(mine, batch_size=1)

    def on_after_batch_transfer(self, batch: Layers, dataloader_idx: int) -> Batch:
        """Composite on the batch's device; say what was left out of the batch."""
        for sentence in filter(None, "\n".join(batch.get("skipped", [])).splitlines()):
            if sentence not in self.skipped:
                print(f"skipped: {sentence}", file=sys.stderr)
            self.skipped[sentence] += 1
        return self.compose(batch, augment=bool(self.trainer and self.trainer.training))

    def teardown(self, stage: str) -> None:
        """Say how much was left out."""
        if self.skipped:
            print(
                f"skipped {self.skipped.total():,} samples for {len(self.skipped):,} faults; "
                f"python -m aimmat.prepare check names all there are",
                file=sys.stderr,
            )
        self.skipped.clear()


class RecordSamples(Callback):
    """Write a `SampleRecord` when training begins, goes on, or accumulates another number of batches.

    A run that goes on begins with the step that it was in, though it may take another number of batches for it now.

    Args:
        path: a JSON file, a list of records.
        data: config of the data module, resolved.
    """

    def __init__(self, path: str | Path, data: Mapping[str, Any]) -> None:
        self.path, self.data = Path(path), dict(data)
        self._accumulate = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Add a record to the file."""
        if trainer.accumulate_grad_batches == self._accumulate or not trainer.is_global_zero:
            return
        if trainer.overfit_batches:  # type: ignore[attr-defined]
            return  # the same few samples in every epoch: nothing to find again
        self._accumulate = trainer.accumulate_grad_batches
        record = SampleRecord(
            step=trainer.global_step,
            epoch=trainer.current_epoch,
            batch=batch_idx,
            epochs=trainer.max_epochs or -1,
            batches=int(trainer.num_training_batches),
            accumulate=trainer.accumulate_grad_batches,
            processes=trainer.world_size,
            device=trainer.strategy.root_device.type,
            manifest=fingerprint(entries_of(trainer.datamodule.train)),  # type: ignore[attr-defined]
            data=self.data,
            folder=os.getcwd(),
            time=time.time(),
            versions=versions(),
        )
        records = read_records(self.path) if self.path.exists() else []
        write_file(self.path, json.dumps([asdict(found) for found in (*records, record)], indent=1))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep how many batches make a step."""
        checkpoint["accumulate_grad_batches"] = trainer.accumulate_grad_batches

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count the batches of the epoch as they are now, to the beginning of a step: half a one left no gradient."""
        progress = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_loop.batch_progress")
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if progress is None or not hasattr(data, "batches"):
            return
        now, current = trainer.accumulate_grad_batches, progress["current"]
        steps = current["completed"] // checkpoint.get("accumulate_grad_batches", now)
        done = steps * now
        if progress["is_last_batch"] and current["completed"] == current["ready"]:
            done = len(data.batches(0, trainer.world_size, now))
        else:
            progress["is_last_batch"] = False
        progress["total"] = {name: count + done - current["completed"] for name, count in progress["total"].items()}
        progress["current"] = dict.fromkeys(current, done)


class _TrainLoader(DataLoader):
    """Begins an epoch when its first batch is asked for, at the batch where the trainer is.

    Lightning makes the iterator before it names the epoch, and workers would fetch samples of another one ahead. A run
    that goes on in the middle of an epoch would begin that epoch anew.
    """

    def __init__(self, trainer: Trainer | None, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.trainer = trainer

    def __iter__(self) -> Iterator[Layers]:  # type: ignore[override]
        if self.trainer and self.trainer.training:
            self.batch_sampler.first = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready  # type: ignore[union-attr]
            if self.trainer.overfit_batches:  # type: ignore[attr-defined]
                self.batch_sampler.sampler.set_epoch(0)  # type: ignore[union-attr]
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Tells Lightning that this loader can go on in the middle of an epoch; the trainer's state says where."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is kept."""


def _one_thread(worker: int) -> None:
    """Keep OpenCV in a worker from using the cores of the other workers and of the training."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
