"""`python -m aimmat.report sweep`: how the jobs of a sweep stand, and those that are not done run again."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from aimmat.tables.sweeps import TABLE, console_table, read_sweep, write_table


def register(verbs: argparse._SubParsersAction) -> None:
    """Add the verb to the command."""
    verb = verbs.add_parser("sweep", help="the jobs of a sweep: done, failed and why, unfinished, missing")
    verb.add_argument("folder", type=Path, help="the sweep's folder: hydra.sweep.dir")
    verb.add_argument("--retry", action="store_true", help="run those that are not done")
    verb.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the jobs and write them as sweep.csv; returns 1 if some are still not done after a retry."""
    console = Console(highlight=False)
    cwd, jobs = read_sweep(given.folder.absolute())
    if given.retry:
        for job in jobs:
            if job.state not in ("failed", "unfinished", "missing"):
                continue
            started = (job.folder / ".hydra" / "overrides.yaml").exists()
            arguments = [f"resume={job.folder}"] if started else [*job.overrides, f"hydra.run.dir='{job.folder}'"]
            console.print(f"job {job.folder.name}: {shlex.join(arguments)}", soft_wrap=True, markup=False)
            _train(arguments, cwd)
        jobs = read_sweep(given.folder.absolute())[1]
    console.print(console_table(jobs))
    write_table(given.folder, jobs)
    console.print(f"  {given.folder / TABLE}  [dim]the same as a file[/dim]", soft_wrap=True)
    return int(given.retry and any(job.state != "done" for job in jobs))


def _train(arguments: Sequence[str], cwd: Path) -> None:
    child = subprocess.Popen([sys.executable, "-m", "aimmat.train", *arguments], cwd=cwd)
    try:
        child.wait()
    except KeyboardInterrupt:
        child.wait()  # it had the same Ctrl-C, and ends with a checkpoint
        raise
