"""The figures that the paper and its supplement print, from paper.csv beside this file."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

SWITCHES = ("uni", "tl", "mp", "se", "sa")  # the columns of Table 3, left to right


@cache
def printed(table: str) -> dict[str, dict[str, str]]:
    """A table as it is printed.

    Args:
        table: "1", "2" or "3"; "s1", the supplement's Table 1; "4.1", the pictures of AIM-500 by category, from the
            text of that section; "cost", from the text of section 4.2 (epochs, training images, days) and of the
            supplement's section 1.1 (millions of parameters, GMac and seconds for a picture of 800 x 800).

    Returns:
        For each row its columns. Table 1 has a data set a row, as `aimmat.data.DATASETS` calls it; the columns of
        Table 2 are named as `summarise` names its values; the rows of Table 3 as conf/ablation does; those of "s1" are
        "without" and "with" SE blocks.

    Source:
        Deep Automatic Natural Image Matting, IJCAI 2021, and its supplementary material.

    >>> printed("3")["uni_tl"]
    {'sad': '52.66', 'mse': '0.0213', 'mad': '0.0313'}
    """
    rows: dict[str, dict[str, str]] = {}
    for line in csv.DictReader((files("aimmat.tables") / "paper.csv").read_text(encoding="utf-8").splitlines()):
        if line["table"] == table:
            rows.setdefault(line["row"], {})[line["column"]] = line["value"]
    return rows


def numbers(table: str) -> dict[str, dict[str, float]]:
    """The same as numbers, of a table that holds nothing else: any but "1"."""
    return {row: {column: float(value) for column, value in of.items()} for row, of in printed(table).items()}


def row_of(switches: dict[str, bool]) -> str:
    """What Table 3's row of these switches is called, also where the table has no such row.

    >>> row_of({"uni": True, "tl": True, "mp": False, "se": False, "sa": False})
    'uni_tl'
    """
    on = [name for name in SWITCHES if switches[name]]
    return {0: "none", len(SWITCHES): "full"}.get(len(on)) or "_".join(on)
