"""`python -m aimmat.prepare VERB`: look at the data and get it ready before training on it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from aimmat.console import guarded
from aimmat.prepare import cache, check, foregrounds, layout, replay, sheet, table1, types

# modules with register(verbs), which sets `run` to a function of the arguments
VERBS = (layout, check, types, foregrounds, cache, table1, sheet, replay)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see `python -m aimmat.prepare --help`."""
    parser = argparse.ArgumentParser(prog="python -m aimmat.prepare", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in VERBS:
        verb.register(verbs)
    given = parser.parse_args(arguments)
    return guarded(lambda: given.run(given))
