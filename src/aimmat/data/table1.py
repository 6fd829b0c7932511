"""Table 1 of the paper, from the test sets that are on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aimmat.data.datasets import DATASETS, survey
from aimmat.data.layouts import Entry
from aimmat.schema import Category, ImageType


@dataclass(frozen=True)
class TestSet:
    """A row of Table 1."""

    volume: int
    natural: bool
    types: Mapping[ImageType, int] | None  # None: no types file says them
    subject: str  # "Portrait", "Animal" or "Mixed"


def _printed(volume: int, natural: bool, so: int, stm: int, ns: int, subject: str) -> TestSet:
    return TestSet(volume, natural, dict(zip(ImageType, (so, stm, ns), strict=True)), subject)


# Paper, Table 1.
PAPER = {
    "dapm": _printed(200, True, 200, 0, 0, "Portrait"),
    "dim": _printed(50, False, 28, 17, 5, "Mixed"),
    "hatt": _printed(50, False, 30, 11, 9, "Mixed"),
    "am2k": _printed(200, True, 200, 0, 0, "Animal"),
    "aim500": _printed(500, True, 424, 43, 33, "Mixed"),
}


def describe(entries: Sequence[Entry], typed: bool = True) -> TestSet:
    """The row of a test set.

    Args:
        entries: its pictures; at least one.
        typed: whether their types were told.
    """
    types = Counter(entry.type for entry in entries)
    categories = {entry.category for entry in entries}
    alone = categories.pop() if len(categories) == 1 else Category.OTHER
    return TestSet(
        volume=len(entries),
        natural=all(entry.role == "photo" for entry in entries),
        types={word: types[word] for word in ImageType} if typed else None,
        subject="Mixed" if alone is Category.OTHER else alone.capitalize(),
    )


def measure(root: str | Path) -> dict[str, TestSet]:
    """The rows of those of Table 1's sets whose test pictures are below `root`, by name."""
    rows = {}
    for name in PAPER:
        found = survey(name, root, "test", own=False)
        if found.entries:
            rows[name] = describe(found.entries, found.typed)
    return rows


def table(rows: Mapping[str, TestSet]) -> str:
    """Table 1 as text: what was found, and below it the paper's row."""
    lines = [f"{'set':18}{'':6}{'volume':>6}  natural{'SO':>6}{'STM':>6}{'NS':>6}  class"]
    for name, printed in PAPER.items():
        title = DATASETS[name].title.split(",")[0]
        lines += [_line(title, "here", rows.get(name)), _line("", "paper", printed)]
    return "\n".join(lines)


def _line(title: str, who: str, row: TestSet | None) -> str:
    if row is None:
        return f"{title:18}{who:6}not on disk"
    types = "".join(f"{row.types[word] if row.types else '?':>6}" for word in ImageType)
    return f"{title:18}{who:6}{row.volume:>6}  {'yes' if row.natural else 'no':7}{types}  {row.subject}"
