"""`python -m aimmat.prepare table1`: Table 1 of the paper from the test sets that are on disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from aimmat.data.table1 import measure, table
from aimmat.schema import AimmatError


def register(verbs: argparse._SubParsersAction) -> None:
    """Add the verb to the command."""
    verb = verbs.add_parser("table1", help="Table 1 of the paper from the test sets on disk, beside the paper's rows")
    verb.add_argument("--root", type=Path, default=Path("data"), help="the folder of the sets (%(default)s)")
    verb.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Print the table."""
    if not given.root.is_dir():
        raise AimmatError(f"looked for data sets in {given.root.absolute()}, which is not a folder; give --root DIR")
    print(table(measure(given.root)))
