"""metrics.csv: what a run logged, a line a step, also when the run was stopped and goes on."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from aimmat.tables import write_file

EVERY = 10  # seconds from one writing of the file to the next


class CurveLogger(Logger):
    """Log into `metrics.csv`: a line for each step of each stage, steps counted from 0 in each.

    A run that goes on reads what there is. A step that is made again replaces its line, so that the file is the one
    curve of the run.

    Args:
        folder: where the file lies.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.stage = ""  # whose steps come
        self._lines: dict[tuple[str, int], dict[str, Any]] = {}
        self._written = float("-inf")
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                for line in csv.DictReader(file):
                    stage, step = line.pop("stage"), int(line.pop("step"))
                    known = {name: value for name, value in line.items() if value}
                    self._lines[stage, step] = {"stage": stage, "step": step, **known}

    @property
    def name(self) -> str:
        """Lightning names folders after it."""
        return self.path.parent.name

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @property
    def save_dir(self) -> str:
        """Where the run lies."""
        return str(self.path.parents[1])

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They lie in the run's config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add to the line of a step."""
        step = step or 0
        self._lines.setdefault((self.stage, step), {"stage": self.stage, "step": step}).update(metrics)

    def save(self) -> None:
        """Write the file if the last time is a while ago; Lightning asks for it after every line."""
        if time.monotonic() - self._written >= EVERY:
            self.flush()

    def finalize(self, status: str) -> None:
        """Write the file."""
        self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Write the file, whole or not at all."""
        self._written = time.monotonic()
        if not self._lines:
            return
        names = dict.fromkeys(name for line in self._lines.values() for name in line)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._lines.values())
        write_file(self.path, text.getvalue())
