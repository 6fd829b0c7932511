"""`python -m aimmat.prepare cache`: pictures decoded once, so that training reads no more of them than its crops."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aimmat.data import DATASETS
from aimmat.data.cache import bytes_needed, cached_pictures, free_bytes, is_done, write_cache
from aimmat.data.composites import recipe
from aimmat.data.layouts import SPLITS
from aimmat.prepare.check import add_data, processes, progress, read_data
from aimmat.schema import AimmatError


def register(verbs: argparse._SubParsersAction) -> None:
    """Add the verb to the command."""
    verb = verbs.add_parser(
        "cache", help="decode foregrounds and backgrounds once, into arrays that crops are read from"
    )
    add_data(verb)
    verb.add_argument("-o", "--output", type=Path, default=Path("cache"), help="folder to write (%(default)s)")
    verb.add_argument("--split", choices=SPLITS, default="train", help="%(default)s")
    verb.add_argument("--background-side", type=int, metavar="N", help="keep backgrounds at N pixels a side or less")
    verb.add_argument("--jobs", type=int, metavar="N", help="processes (as many as CPUs, fewer for few pictures)")
    verb.add_argument("--verify", action="store_true", help="compare checksums too, and make again what differs")
    verb.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Write what is not there yet; 1 if a picture cannot be used."""
    if given.background_side is not None and given.background_side < 1:
        raise AimmatError(f"--background-side must be 1 or more, got {given.background_side}")
    entries, defects = read_data(given.data, given.root)
    folder = given.output.absolute()
    pictures = cached_pictures([e for e in entries if e.split == given.split], folder, given.background_side)
    if not pictures:
        raise AimmatError(
            f"the {given.split} split of {' '.join(given.data)} has neither backgrounds nor foregrounds with their "
            f"colours; there is nothing to decode"
        )
    print(recipe([picture.entry for picture in pictures], {name: info.repeats or 1 for name, info in DATASETS.items()}))
    looking = progress(iter(pictures), len(pictures), "looking")
    todo = [picture for picture in looking if not is_done(picture, given.verify)]
    needed, free = sum(map(bytes_needed, todo)), free_bytes(folder)
    print(
        f"{folder}: {len(pictures) - len(todo):,} of {len(pictures):,} pictures are there; "
        f"the others need {_size(needed)}, {_size(free)} are free"
    )
    if needed > free:
        raise AimmatError(
            f"{folder} has {_size(free)} free and the cache needs {_size(needed)} more; choose another folder, or keep "
            f"backgrounds smaller with --background-side"
        )
    outcomes = progress(write_cache(todo, processes(given.jobs, len(todo))), len(todo), "decoding")
    defects += [sentence for sentence in outcomes if sentence]
    for defect in defects:
        print(f"error: {defect}", file=sys.stderr)
    print(f"train with data.train.cache={folder}")
    return int(bool(defects))


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"
