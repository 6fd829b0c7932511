"""What a run notes of its training samples, so that `python -m aimmat.prepare replay` can make them again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from aimmat.data.layouts import Entry
from aimmat.schema import AimmatError

RECORD = "samples.json"  # in the folder of a stage
LIBRARIES = ("torch", "numpy", "cv2", "albumentations", "PIL")  # a sample may change with their versions


@dataclass(frozen=True)
class SampleRecord:
    """Everything that decides which samples the steps of a stage were shown, from `step` on."""

    step: int  # optimiser steps before this record
    epoch: int  # where that is
    batch: int
    epochs: int  # that the stage has
    batches: int  # per epoch and process
    accumulate: int  # batches per step
    processes: int
    device: str  # its kind, "cpu" or "cuda", which draws random numbers of its own
    manifest: str  # `fingerprint` of the training entries
    data: dict[str, Any]  # config of the data module
    folder: str  # that the config's relative paths start from
    time: float  # seconds since 1970
    versions: dict[str, str]

    @property
    def steps(self) -> int:
        """Of an epoch; the last takes what batches are left."""
        return -(-self.batches // self.accumulate)

    def place(self, step: int) -> tuple[int, range]:
        """The epoch of a step, and which of its batches the step learnt from."""
        epoch, number = divmod(step - self.step + self.epoch * self.steps + self.batch // self.accumulate, self.steps)
        first = number * self.accumulate
        begin = max(first, self.batch) if epoch == self.epoch else first
        return epoch, range(begin, min(first + self.accumulate, self.batches))

    def step_of(self, epoch: int, batch: int) -> int:
        """The step that learnt from a batch."""
        return self.step + (epoch - self.epoch) * self.steps + batch // self.accumulate - self.batch // self.accumulate


def read_records(path: str | Path) -> list[SampleRecord]:
    """The records of a stage, in order.

    Raises:
        AimmatError: the file is not what `aimmat.lit.datamodule.RecordSamples` writes.
    """
    try:
        return [SampleRecord(**found) for found in json.loads(Path(path).read_bytes())]
    except (TypeError, ValueError) as error:
        raise AimmatError(
            f"{path} is not a record of training samples ({error}); train again with this version"
        ) from None


def versions() -> dict[str, str]:
    """Of the libraries that make samples."""
    return {name: import_module(name).__version__ for name in LIBRARIES}


def entries_of(dataset: object) -> list[Entry]:
    """The entries that a data set holds, itself or in the sources and data sets inside it; each once, in order."""
    found: dict[Entry, None] = {}

    def look(thing: object) -> None:
        if isinstance(thing, Entry):
            found[thing] = None
        elif isinstance(thing, list | tuple):
            for part in thing:
                look(part)
        elif type(thing).__module__.startswith("aimmat."):
            look(list(getattr(thing, "__dict__", {}).values()))

    look(dataset)
    return list(found)


def fingerprint(entries: Iterable[Entry]) -> str:
    """A hash of what a manifest says of its pictures: files, types and order, not what the files hold."""
    lines = (f"{e.path}\t{e.alpha}\t{e.foreground}\t{e.trimap}\t{e.role}\t{e.type}\t{e.category}\n" for e in entries)
    return sha256("".join(lines).encode()).hexdigest()
