"""A sweep's folder: which jobs it has, how each stands, what it gave or why it failed."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from filelock import FileLock, Timeout
from rich.table import Table
from rich.text import Text

from aimmat.schema import AimmatError
from aimmat.tables.rows import read_rows, write_file

SWEEP, TABLE = "sweep.json", "sweep.csv"  # of the sweep's folder
FAILURE, BUSY = "failure.txt", "busy.lock"  # of a job's folder: why it failed; held as long as it runs
LAST = ("model.safetensors", "backbone.pth")  # one of them is the last file that a run writes

State = Literal["done", "running", "failed", "unfinished", "missing"]


class Job(NamedTuple):
    """One job of a sweep."""

    folder: Path
    overrides: tuple[str, ...]
    state: State
    sad: float | None = None  # of its test, thousands of pixels
    reason: str = ""  # why it is not done


def write_sweep(folder: Path, cwd: Path, jobs: Sequence[Sequence[str]]) -> None:
    """Note what a sweep is made of before its first job starts.

    Args:
        folder: of the sweep; the jobs are its sub-folders 0, 1, ...
        cwd: where relative paths among the overrides start.
        jobs: the overrides of each.

    Raises:
        AimmatError: the file cannot be written.
    """
    write_file(folder / SWEEP, json.dumps({"cwd": str(cwd), "jobs": jobs}, indent=1))


def read_sweep(folder: Path) -> tuple[Path, list[Job]]:
    """How a sweep stands.

    Returns:
        Where relative paths among the overrides start; the jobs in order.

    Raises:
        AimmatError: the folder holds no sweep, or a job's rows cannot be read.
    """
    try:
        noted = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise AimmatError(
            f"{folder} is not a sweep's folder: it has no readable {SWEEP}; name what hydra.sweep.dir was"
        ) from None
    return Path(noted["cwd"]), [_job(folder / str(n), tuple(found)) for n, found in enumerate(noted["jobs"])]


def _job(folder: Path, overrides: tuple[str, ...]) -> Job:
    if any((folder / name).exists() for name in LAST):
        scores = [row.scores["sad"] for row in read_rows(folder / "rows.csv")] if (folder / "rows.csv").exists() else []
        return Job(folder, overrides, "done", sum(scores) / len(scores) if scores else None)
    if _is_busy(folder):
        return Job(folder, overrides, "running")
    if (folder / FAILURE).exists():
        return Job(folder, overrides, "failed", reason=(folder / FAILURE).read_text(encoding="utf-8").strip())
    state: State = "unfinished" if (folder / ".hydra" / "overrides.yaml").exists() else "missing"
    return Job(folder, overrides, state, reason=_WHY[state])


_WHY = {
    "unfinished": "its process ended without an error: it was interrupted or killed, or its machine stopped",
    "missing": "it was not started",
}


def _is_busy(folder: Path) -> bool:
    if not (folder / BUSY).exists():
        return False
    try:
        with FileLock(folder / BUSY, timeout=0):
            return False
    except Timeout:
        return True


def write_table(folder: Path, jobs: Sequence[Job]) -> None:
    """Write sweep.csv: a line a job, all its overrides.

    Raises:
        AimmatError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", "state", "sad", "reason", "overrides"])
    for job in jobs:
        sad = "" if job.sad is None else repr(job.sad)
        writer.writerow([job.folder.name, job.state, sad, job.reason, shlex.join(job.overrides)])
    write_file(folder / TABLE, text.getvalue())


def console_table(jobs: Sequence[Job]) -> Table:
    """A line a job: the overrides in which jobs differ, how it stands, its SAD or the reason why it has none."""
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    table = Table("job", "overrides", "state", "SAD, or the reason")
    for job in jobs:
        own = " ".join(override for override in job.overrides if override not in shared)
        result = job.reason if job.sad is None else f"{job.sad:.2f}"
        table.add_row(*map(Text, (job.folder.name, own, job.state, result)))  # as it is: rich reads [..] as markup
    return table
