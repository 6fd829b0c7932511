"""`python -m aimmat.prepare foregrounds`: the foreground colours of photographs with an alpha, estimated."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from aimmat.data import Entry, write_manifest
from aimmat.data.foregrounds import MISSING, with_foreground
from aimmat.data.layouts import SPLITS
from aimmat.data.processes import mapped
from aimmat.prepare.check import add_data, processes, progress, read_data
from aimmat.schema import AimmatError


def register(verbs: argparse._SubParsersAction) -> None:
    """Add the verb to the command."""
    verb = verbs.add_parser(
        "foregrounds", help="estimate foreground colours of photographs with an alpha, so that composites have no halo"
    )
    add_data(verb)
    verb.add_argument("-o", "--output", type=Path, default=Path("foregrounds"), help="folder to write (%(default)s)")
    verb.add_argument("--split", choices=SPLITS, help="one split instead of all")
    verb.add_argument("--jobs", type=int, metavar="N", help="processes (as many as CPUs, fewer for few pictures)")
    verb.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Write the colours that are not there yet and a manifest of the data; 1 if a picture has none."""
    if find_spec("pymatting") is None:
        raise AimmatError(MISSING)
    entries, defects = read_data(given.data, given.root)
    entries = [entry for entry in entries if given.split in (None, entry.split)]
    photos = [entry for entry in entries if entry.role == "photo" and entry.alpha and entry.foreground is None]
    if not photos:
        raise AimmatError(
            f"{' '.join(given.data)} has no photograph with an alpha and without foreground colours; there is nothing "
            f"to estimate"
        )
    folder = given.output.absolute()
    outcomes = mapped(partial(_outcome, folder=folder), photos, processes(given.jobs, len(photos)))
    done: dict[Entry, Entry] = {}
    for photo, outcome in zip(photos, progress(outcomes, len(photos), "estimating"), strict=True):
        if isinstance(outcome, str):
            defects.append(outcome)
        else:
            done[photo] = outcome
    for defect in defects:
        print(f"error: {defect}", file=sys.stderr)
    write_manifest(folder / "manifest.csv", [done.get(entry, entry) for entry in entries])
    print(f"{folder / 'manifest.csv'}: {len(entries):,} pictures, {len(done):,} of them with estimated foregrounds")
    return int(bool(defects))


def _outcome(entry: Entry, folder: Path) -> Entry | str:
    try:
        return with_foreground(entry, folder)
    except AimmatError as error:  # one bad file costs its own line
        return str(error)
