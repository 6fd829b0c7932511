"""`python -m aimmat.prepare layout`: the data sets as expected, what is there, and whom to ask for the rest."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from aimmat.data.datasets import DATASETS, DatasetInfo, Survey, survey
from aimmat.schema import AimmatError

SHOWN = 5  # defects, or missing pictures, of a set that are printed


def register(verbs: argparse._SubParsersAction) -> None:
    """Add the verb to the command."""
    verb = verbs.add_parser("layout", help="what data is expected, what is there, what is missing and whom to ask")
    verb.add_argument(
        "names",
        nargs="*",
        metavar="NAME[=DIR]",
        help=f"data sets, with their own folder if it lies elsewhere; without one all: {', '.join(DATASETS)}",
    )
    verb.add_argument("--root", type=Path, default=Path("data"), help="the folder of the sets (%(default)s)")
    verb.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print a report; 1 if a set that was asked for is missing or has defects."""
    places = dict(_place(word, given.root) for word in given.names or DATASETS)
    found = {name: survey(name, root, own=root != given.root) for name, root in places.items()}
    print(f"looked in {given.root.absolute()}\n")
    for item in found.values():
        print(report(item, whole=bool(given.names)) + "\n")
    print(training(found))
    usable = all(item.entries and not item.defects for item in found.values())
    return int(bool(given.names) and not usable)


def _place(word: str, root: Path) -> tuple[str, Path]:
    name, _, folder = word.partition("=")
    if name not in DATASETS:
        raise AimmatError(f"there is no data set {name!r}; those known are {', '.join(DATASETS)}")
    return name, Path(folder) if folder else root


def report(found: Survey, whole: bool = True) -> str:
    """What is there of a set and what is not.

    Args:
        found: the set.
        whole: whether to say all that is known of it; otherwise only a set that is not there is drawn.
    """
    info = found.info
    lines = [f"{info.name}: {info.title} ({info.use})"]
    if found.folder is None:
        lines.append("  not found")
    else:
        lines.append(f"  {found.folder}")
        lines += [f"  {split:6}{_count(found, split)}" for split in info.counts]
        if found.missing:
            lines.append(f"  ! the archive's list has {_some(found.missing, ', ')}, not on disk; unpack it again")
        if found.defects:
            lines.append(f"  ! {_some(found.defects, chr(10) + '  ! ')}")
    if whole or found.folder is None:
        lines.append(indent(describe(info, whole), "  "))
    return "\n".join(lines)


def describe(info: DatasetInfo, whole: bool = True) -> str:
    """What a set is to look like and who gives it out.

    Args:
        info: the set.
        whole: whether to draw all its layouts and to give its terms too, not the first layout alone.
    """
    lines = [f"its folder is called {', '.join(name for name in info.folders if name)}"]
    for name in list(info.layouts)[: None if whole else 1]:
        lines += [f"it holds ({name}):", indent(info.tree(name), "  ")]
    if info.types:
        lines.append(f"types: {' or '.join(info.types)}, or types.csv (name,type,category) in its folder")
    lines.append(f"ask: {info.ask}")
    if whole:
        lines += [f"licence: {info.licence}", f"cite: {info.citation}"]
    return "\n".join(lines + ([f"note: {info.note}"] if info.note else []))


def _some(words: Sequence[str], between: str) -> str:
    more = [f"and {len(words) - SHOWN} more"] if len(words) > SHOWN else []
    return between.join([*words[:SHOWN], *more])


def _count(found: Survey, split: str) -> str:
    expected, there = found.info.counts[split], found.count(split)
    text = f"{there:,} of {expected:,}"
    if there != expected:
        text += f", {expected - there:,} missing" if there < expected else f", {there - expected:,} more than known"
    if split in found.info.used:
        text += f" (the paper counts {found.info.used[split]:,})"
    return text + (f", laid out as {found.layouts[split]}" if there else "")


def training(found: dict[str, Survey]) -> str:
    """The paper's sum of training images (section 4.2) and the one that the sets at hand give."""
    sets = [info for info in DATASETS.values() if info.repeats]
    here = {info.name: found[info.name].count("train") if info.name in found else 0 for info in sets}
    paper = {info.name: info.used.get("train", info.counts["train"]) for info in sets}
    return f"training images: {_sum(sets, paper)} in the paper\n                 {_sum(sets, here)} here"


def _sum(sets: list[DatasetInfo], counts: dict[str, int]) -> str:
    terms = " + ".join(f"{counts[info.name]:,} x {info.repeats}" for info in sets)
    return f"{terms} = {sum(counts[info.name] * info.repeats for info in sets):,}"
