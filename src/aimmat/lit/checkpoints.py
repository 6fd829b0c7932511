"""Checkpoints that a run goes on from, the same as if it had never been stopped."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO

from aimmat.lit.curve import CurveLogger
from aimmat.schema import AimmatError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it: what was there stays whole until the new one is.

    A `last.ckpt` that is replaced stays as `previous.ckpt`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save under a temporary name, then rename; remove what is left of a failure.

        Raises:
            AimmatError: it cannot be written; names the checkpoint that there is.
        """
        path, content = Path(path), BytesIO()
        torch.save(checkpoint, content)
        partial = path.with_name(f"{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())  # a rename may reach the disk before what the file holds
            if path.name == LAST:
                with suppress(FileNotFoundError):
                    path.rename(path.with_name(PREVIOUS))
            partial.replace(path)
        except OSError as error:
            kept = [found for name in (path.name, LAST, PREVIOUS) if (found := path.with_name(name)).exists()]
            good = f"the last good one is {kept[0]}" if kept else "there is none before it"
            raise AimmatError(
                f"could not write the checkpoint {path} ({error.strerror}); {good}; make room, then go on with resume="
            ) from error
        finally:
            with suppress(OSError):
                partial.unlink()


class SaveLast(Checkpoint):
    """Write `last.ckpt` every few minutes, at the end of each epoch, and when training is interrupted or fails.

    It is written between two steps of the optimiser alone, when the network's averages, the schedule, the counters and
    the logs agree: training that goes on from it is the same as without a stop. So Ctrl-C waits for the end of the
    step; a second one does not. Weights that are not finite are never written.

    Args:
        folder: where the checkpoints of the stage lie.
        minutes: from one to the next.
    """

    def __init__(self, folder: str | Path, minutes: float) -> None:
        self.folder, self.minutes = Path(folder), minutes
        self._saved = time.monotonic()
        self._asked = self._saving = self._trained = False
        self._handler: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have Ctrl-C wait, also in the loader's workers, which are forked later."""
        self._asked = self._trained = False
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with suppress(ValueError):  # not in the main thread
                self._handler = signal.signal(signal.SIGINT, self._ask)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have Ctrl-C stop at once again."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None

    def _ask(self, number: int, frame: Any) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, self._handler)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._trained, self._saved = True, time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save when it is time, after the logs of the step before; stop when Ctrl-C asked for it."""
        if batch_idx % trainer.accumulate_grad_batches:
            return
        due = time.monotonic() - self._saved >= 60 * self.minutes
        asked, due = trainer.strategy.broadcast((self._asked, due))  # processes have clocks of their own
        if asked:
            raise KeyboardInterrupt
        if due and batch_idx:  # an epoch's first batch comes after a checkpoint
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; stop when Ctrl-C asked for it."""
        self._save(trainer, pl_module)
        if trainer.strategy.broadcast(self._asked):
            raise KeyboardInterrupt

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the averaged weights of a stage that was complete: Lightning leaves that out when nothing is trained."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging) and not self._trained:
                callback.on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what was learnt since, unless nothing was, a step is under way or it was the saving that failed."""
        self.teardown(trainer, pl_module, "fit")
        batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        between = batches.started == batches.completed and (
            batches.completed % trainer.accumulate_grad_batches == 0
            or batches.completed == trainer.num_training_batches
        )
        # A process that fails alone would wait here for the others, which wait for it; all stop for Ctrl-C together.
        together = trainer.world_size == 1 or isinstance(exception, KeyboardInterrupt)
        if trainer.training and trainer.global_step and between and together and not self._saving:
            self._save(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count the batch that is about to begin as one that has not."""
        batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        if batches["current"]["ready"] > batches["current"]["started"]:
            batches["total"]["ready"] -= 1
            batches["current"]["ready"] -= 1

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = time.monotonic()
        if not finite(pl_module):
            return  # the next loss tells
        self._saving = True
        for logger in trainer.loggers:
            if isinstance(logger, CurveLogger):
                logger.flush()  # what a checkpoint has behind it is never logged again
        trainer.save_checkpoint(self.folder / LAST, weights_only=False)
        self._saving = False


def finite(module: torch.nn.Module) -> bool:
    """Whether every weight is a number."""
    return all(bool(torch.isfinite(weight).all()) for weight in module.state_dict().values())


def latest(folder: str | Path) -> Path | None:
    """The checkpoint that a stage goes on from: the newest one that is whole.

    One that is damaged is named on stderr and set aside as `last.ckpt.damaged`, so that it never replaces a whole one.

    Args:
        folder: where the checkpoints of the stage lie.

    Returns:
        Its path; None when there is none, so that the stage begins anew.
    """
    folder = Path(folder)
    for partial in folder.glob("*.partial"):
        partial.unlink(missing_ok=True)  # of a run that was killed
    damaged = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        if reason := _damage(path):
            damaged.append(f"{path} is damaged ({reason})")
            with suppress(FileNotFoundError):  # another process was faster
                path.rename(path.with_name(f"{path.name}.damaged"))
            continue
        if damaged:
            print(f"warning: {damaged[0]}; going on from {path}, the one before", file=sys.stderr)
        return path
    if damaged:
        print(f"warning: {' and '.join(damaged)}; the stage begins anew", file=sys.stderr)
    return None


def _damage(path: Path) -> str:
    """What is wrong with a file of torch.save, a zip archive with a checksum for each tensor; empty if nothing."""
    try:
        with ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # whatever a damaged archive leads zipfile to
        return " ".join(str(error).split()) or type(error).__name__
    return f"the checksum of {broken} is wrong" if broken else ""
