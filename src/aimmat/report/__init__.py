"""`python -m aimmat.report RUNS...`: tables beside the paper's, comparisons, galleries; `sweep DIR`; `dashboard`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aimmat.console import guarded
from aimmat.report import compare, dashboard, gallery, sweep, table
from aimmat.schema import AimmatError
from aimmat.tables.runs import read_runs

# modules with register(verbs), which sets `run` to a function of the arguments
VERBS = {"sweep": sweep, "dashboard": dashboard}

DESCRIPTION = """\
Lays finished runs beside each other and beside the paper. RUNS are folders of runs, folders that hold runs, such as
those of a sweep, patterns, or what `python -m aimmat.score` wrote."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see `python -m aimmat.report --help`."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = _verbs() if words and words[0] in VERBS else _runs()
    given = parser.parse_args(words)
    return guarded(lambda: given.run(given))


def _verbs() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aimmat.report")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in VERBS.values():
        verb.register(verbs)
    return parser


def _runs() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aimmat.report",
        description=DESCRIPTION,
        epilog=f"Other uses, each with its own --help: python -m aimmat.report {' | '.join(VERBS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="runs, folders of runs, or patterns")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--table",
        choices=table.TABLES,
        help="1: test sets; 2: all errors; 3: ablation; s1: semantic decoder; cost: size, epochs, steps (3)",
    )
    what.add_argument("--compare", action="store_true", help="two runs, picture by picture: is it better, and where")
    what.add_argument("--gallery", action="store_true", help="input, truth and the matte of every run")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder to write into; a table is only printed without"
    )
    parser.set_defaults(run=_run)
    return parser


def _run(given: argparse.Namespace) -> None:
    runs, left_out = read_runs(given.runs)
    for sentence in left_out:
        print(f"left out: {sentence}", file=sys.stderr)
    if given.compare:
        if len(runs) != 2:
            raise AimmatError(
                f"--compare takes two finished runs, got {len(runs)}: {', '.join(str(run.folder) for run in runs)}; "
                f"name two"
            )
        compare.write(runs[0], runs[1], given.output or Path("compare"))
    elif given.gallery:
        gallery.write(runs, given.output or Path("gallery"))
    else:
        table.write(given.table or "3", runs, given.output)
