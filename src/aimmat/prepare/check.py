"""`python -m aimmat.prepare check`: the data doctor, with its report as one HTML page."""

from __future__ import annotations

import argparse
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from aimmat.data import DATASETS, Entry, read_folder, read_manifest, survey
from aimmat.data.doctor import KINDS, SEVERITIES, check, page
from aimmat.schema import AimmatError
from aimmat.tables import write_file

SAID = 10  # findings of a kind that are printed

T = TypeVar("T")


def register(verbs: argparse._SubParsersAction) -> None:
    """Add the verb to the command."""
    verb = verbs.add_parser("check", help="look for files that would spoil a training, and write a report about them")
    add_data(verb)
    verb.add_argument("-o", "--output", type=Path, default=Path("check.html"), help="the page to write (%(default)s)")
    verb.add_argument("--jobs", type=int, metavar="N", help="processes (as many as CPUs, fewer for few pictures)")
    verb.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print what was found and write the page; 1 if something would spoil a training."""
    entries, defects = read_data(given.data, given.root)
    jobs = processes(given.jobs, len(entries))
    report = check(entries, jobs, defects, lambda seen: progress(seen, len(entries), "checking"))
    write_file(given.output, page(report, f"Check of {shlex.join(given.data)}", jobs))
    for severity in list(SEVERITIES)[:2]:
        said: Counter[str] = Counter()
        for finding in report.of(severity):
            said[finding.kind] += 1
            if said[finding.kind] <= SAID:
                print(f"{severity}: {finding.sentence}")
        for kind, count in said.items():
            if count > SAID:
                print(f"{severity}: {KINDS[kind][1].lower()}: {count - SAID:,} more in the report")
    print(f"{report.summary}\n{given.output}")
    return int(bool(report.of("error")))


def add_data(verb: argparse.ArgumentParser) -> None:
    """Add the arguments that `read_data` takes."""
    verb.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help=f"sample, a manifest (CSV), a folder, or data sets, with their own folder (NAME=DIR) if it lies "
        f"elsewhere: {', '.join(DATASETS)}",
    )
    verb.add_argument("--root", type=Path, default=Path("data"), help="the folder of the sets (%(default)s)")


def read_data(words: Iterable[str], root: Path) -> tuple[list[Entry], list[str]]:
    """The pictures that words name, and what is wrong with their layout.

    Args:
        words: "sample", manifests, folders, or names of data sets, with =DIR where one lies elsewhere.
        root: the folder of the sets.

    Raises:
        AimmatError: nothing is there.
    """
    entries: list[Entry] = []
    defects: list[str] = []
    for word in words:
        name, _, folder = word.partition("=")
        if name in DATASETS:
            found = survey(name, folder or root)
            if not found.entries and not found.defects:
                raise AimmatError(
                    f"{found.info.title} was not found in {Path(folder or root).absolute()}; "
                    f"python -m aimmat.prepare layout {name} shows where it belongs and whom to ask"
                )
            entries += found.entries
            defects += found.defects
        elif word == "sample":
            entries += read_manifest()
        else:
            entries += read_manifest(word) if word.lower().endswith(".csv") else read_folder(word)
    return entries, defects


def processes(jobs: int | None, pictures: int) -> int:
    """How many processes to start: what was asked for, or as many as CPUs and fewer for few pictures."""
    if jobs is not None and jobs < 1:
        raise AimmatError(f"--jobs must be 1 or more, got {jobs}")
    return max(1, min(jobs or os.cpu_count() or 1, 1 + pictures // 256 if jobs is None else pictures))


def progress(items: Iterator[T], total: int, what: str) -> Iterable[T]:
    """The items, with a progress bar on stderr where that is a terminal."""
    console = Console(stderr=True)
    return track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
