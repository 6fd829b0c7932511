"""Results laid out as Table 2 of the paper: whole image, transition region, SAD by type and by category."""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from aimmat.schema import AimmatError, Category, ImageType, Row

_ABSENT = "–"
_PAPER_ORDER = [  # Table 2's, then what AIM-500 does not have
    Category.ANIMAL,
    Category.PORTRAIT,
    Category.TRANSPARENT,
    Category.PLANT,
    Category.FURNITURE,
    Category.TOY,
    Category.FRUIT,
    Category.OTHER,
]
_ERRORS = (("SAD", "sad", 2), ("MSE", "mse", 4), ("MAD", "mad", 4), ("Conn", "conn", 2), ("Grad", "grad", 2))
_GRAD = {  # by metric protocol
    "aim": "Grad as the AIM release prints it",
    "matlab": "Grad in thousands, as the MATLAB code of Deep Image Matting counts it",
}
_SHORT = {Category.TRANSPARENT.value: "Transp.", Category.FURNITURE.value: "Furni."}  # as the paper prints them
_LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "–": "--"}
)


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """Means over images, overall and by group, with both kinds of average that Table 2 prints.

    Args:
        rows: the results of a test, one or more images.

    Returns:
        For each metric m of the rows, such as "sad": "m", the mean over all images; "m/type/SO" or "m/cat/animal",
        the mean over the images of that group, for each group present; "m/type/avg" and "m/cat/avg", the unweighted
        mean of those group means, where there are groups. A score that is nan (a mean over an empty transition) is left
        out of its averages.

    Raises:
        ValueError: no row, or rows that differ in their metrics.

    >>> rows = [Row("a", ImageType.SO, Category.TOY, {"sad": 1.0}), Row("b", ImageType.SO, Category.TOY, {"sad": 3.0}),
    ...         Row("c", ImageType.NS, Category.OTHER, {"sad": 8.0})]
    >>> summary = summarise(rows)
    >>> summary["sad"], summary["sad/type/SO"], summary["sad/type/avg"]
    (4.0, 2.0, 5.0)
    """
    if not rows:
        raise ValueError("rows must hold the result of at least one image, got none; test on one image or more")
    if any(row.scores.keys() != rows[0].scores.keys() for row in rows):
        raise ValueError("all rows must hold the same metrics, got rows that differ; measure every image alike")
    summary = {}
    for metric in rows[0].scores:
        known = [row for row in rows if not math.isnan(row.scores[metric])]
        if not known:
            continue
        summary[metric] = fmean(row.scores[metric] for row in known)
        for kind, groups in (("type", ImageType), ("cat", Category)):
            members = {group: [row for row in known if group in (row.type, row.category)] for group in groups}
            means = {group: fmean(row.scores[metric] for row in of) for group, of in members.items() if of}
            if means:
                summary |= {f"{metric}/{kind}/{group}": mean for group, mean in means.items()}
                summary[f"{metric}/{kind}/avg"] = fmean(means.values())
    return summary


@dataclass(frozen=True)
class Column:
    """A column of a results table."""

    part: str  # the heading it shares with its neighbours
    title: str
    key: str  # as `summarise` names its values
    decimals: int = 2
    count: str = ""  # the number of images in brackets, where the column is a group that has any


@dataclass(frozen=True)
class Table:
    """Methods by columns; lower is better in every column."""

    columns: tuple[Column, ...]
    methods: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]  # one tuple a method, one value a column; None where there is none
    num_images: int
    grad: str  # what Grad counts, for the note
    remark: str = ""  # what else ends the note

    @property
    def note(self) -> str:
        """What the columns mean, with units and direction."""
        grouped = any(column.title == "Avg." for column in self.columns)
        return (
            f"{self.num_images} image{'s' * (self.num_images != 1)}{', in brackets those of a group' * grouped}. "
            f"Lower is better. SAD and Conn in thousands of pixels, MSE and MAD per pixel, {self.grad}. "
            f"Tran.: transition region. {'Avg.: mean of the group means. ' * grouped}"
            f"{'Bold: best of its column. ' * (len(self.methods) > 1)}{self.remark}"
        ).rstrip()

    def to_markdown(self) -> str:
        """The table as two pipe tables, since Markdown knows one line of headings only, and the note."""
        lines = []
        for title, places in self._halves():
            columns = [self.columns[place] for place in places]
            lines += [f"**{title}**", ""]
            lines += [_pipes("Method", *(f"{_alone(column)} {column.count}".strip() for column in columns))]
            lines += [_pipes(":--", *["--:"] * len(columns))]
            for method, cells in zip(self.methods, self._cells(), strict=True):
                numbers = [f"**{text}**" if best else text for text, best in (cells[place] for place in places)]
                lines += [_pipes(re.sub(r"([\\`*_\[\]<>|&$~])", r"\\\1", _one_line(method)), *numbers)]
            lines += [""]
        return "\n".join([*lines, self.note, ""])

    def to_latex(self) -> str:
        """The table as a LaTeX table* for the packages booktabs and graphicx."""
        parts, rules, start = [], [], 2
        for part, width in self._parts():
            parts += [rf"\multicolumn{{{width}}}{{c}}{{{part}}}"]
            rules += [rf"\cmidrule(lr){{{start}-{start + width - 1}}}"]
            start += width
        lines = [
            r"% \usepackage{booktabs,graphicx}",
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{self.note.translate(_LATEX)}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}",
            r"\toprule",
            _ampersands("", *parts),
            "".join(rules),
            _ampersands("", *(column.title for column in self.columns)),
            _ampersands("Method", *(column.count for column in self.columns)),
            r"\midrule",
        ]
        for method, cells in zip(self.methods, self._cells(), strict=True):
            numbers = [rf"\textbf{{{text}}}" if best else text.translate(_LATEX) for text, best in cells]
            lines += [_ampersands(_one_line(method).translate(_LATEX), *numbers)]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table*}", ""])

    def to_html(self) -> str:
        """The table as an HTML <table>, without the note; text is escaped."""
        parts = "".join(f'<th colspan="{width}" scope="colgroup">{part}</th>' for part, width in self._parts())
        titles = "".join(f'<th scope="col">{c.title}<br><small>{c.count}</small></th>' for c in self.columns)
        body = ""
        for method, cells in zip(self.methods, self._cells(), strict=True):
            numbers = "".join(f"<td><b>{text}</b></td>" if best else f"<td>{text}</td>" for text, best in cells)
            body += f'<tr><th scope="row">{html.escape(method)}</th>{numbers}</tr>\n'
        return (
            f"<table>\n<caption>Errors by method, lower is better</caption>\n<thead>\n"
            f'<tr><th rowspan="2" scope="col">Method</th>{parts}</tr>\n<tr>{titles}</tr>\n</thead>\n'
            f"<tbody>\n{body}</tbody>\n</table>\n"
        )

    def to_console(self) -> Group:
        """The table for a terminal, as two tables and a note; 80 columns do for names of 12 letters."""
        tables: list[RichTable | str] = []
        for title, places in self._halves():
            look = {"box": box.SIMPLE_HEAD, "padding": 0, "show_edge": False}
            table = RichTable(title=title, title_justify="left", title_style="bold", **look)  # type: ignore[arg-type]
            table.add_column("Method", no_wrap=True, overflow="ellipsis", min_width=12, max_width=20)
            for column in (self.columns[place] for place in places):
                heading = _alone(column).replace(" ", "\n")
                table.add_column(f"{heading}\n{column.count}".strip(), justify="right", no_wrap=True)
            for method, cells in zip(self.methods, self._cells(), strict=True):
                numbers = [Text(text, "bold underline" if best else "") for text, best in (cells[p] for p in places)]
                table.add_row(Text(_one_line(method)), *numbers)
            tables += [table, ""]
        return Group(*tables, Text(self.note, "dim"))

    def _cells(self) -> list[list[tuple[str, bool]]]:
        """A list a method of (number as printed, is it the best of its column); equal in print is equally good."""
        texts = [
            [_ABSENT if v is None else f"{v:.{c.decimals}f}" for v, c in zip(values, self.columns, strict=True)]
            for values in self.values
        ]
        best = []
        for column in zip(*texts, strict=True):
            numbers = [float(text) for text in column if text != _ABSENT]
            best += [min(numbers) if numbers and len(self.methods) > 1 else math.nan]
        return [
            [(text, text != _ABSENT and float(text) == low) for text, low in zip(row, best, strict=True)]
            for row in texts
        ]

    def _parts(self) -> list[tuple[str, int]]:
        """(shared heading, number of its columns), left to right."""
        return [(part, len(list(columns))) for part, columns in groupby(self.columns, lambda column: column.part)]

    def _halves(self) -> list[tuple[str, list[int]]]:
        """(title, places of its columns) of the two tables that fit where one is too wide."""
        by_category = [place for place, column in enumerate(self.columns) if column.part == "SAD-Category"]
        others = [place for place in range(len(self.columns)) if place not in by_category]
        by_type = ", SAD by type" * any(column.part == "SAD-Type" for column in self.columns)
        halves = [(f"Whole image, transition region{by_type}", others), ("SAD by category", by_category)]
        return [(title, places) for title, places in halves if places]


def results_table(named: Mapping[str, Sequence[Row]], protocol: str = "aim", remark: str = "") -> Table:
    """Lays results out as Table 2 of the paper, one line a method.

    Args:
        named: for each method, the rows of its test. All methods must have been tested on the same images.
        protocol: by which `aimmat.metrics.measure` took the scores. "matlab" shows every error of the transition
            region, which is what benchmarks that use that code print.
        remark: one sentence or more that end the note below the table.

    Returns:
        The table, without the columns of types or of categories where no row names one.

    Raises:
        ValueError: no method, a method without rows, or rows that differ in their metrics.
        AimmatError: methods tested on different images.
    """
    if not named:
        raise ValueError("named must hold the rows of one method or more, got none; give {'AimNet': rows}")
    summaries = [summarise(rows) for rows in named.values()]
    (first, rows), *rest = named.items()
    images = Counter((row.name, row.type, row.category) for row in rows)
    for method, others in rest:
        if Counter((row.name, row.type, row.category) for row in others) != images:
            raise AimmatError(
                f"the methods of a table must be tested on the same images, got {len(rows)} of {first!r} and "
                f"{len(others)} of {method!r} that are not the same; test both on one set, or make two tables"
            )
    groups = Counter(group for row in rows for group in (row.type, row.category) if group)
    whole = [Column("Whole image", title, key, decimals) for title, key, decimals in _ERRORS]
    transition = [replace(column, part="Tran.", key=f"{column.key}_transition") for column in whole]
    columns = [*whole, *(transition if protocol == "matlab" else transition[:1])]
    categories = sorted(Category, key=_PAPER_ORDER.index)
    kinds: tuple[tuple[str, str, Sequence[ImageType | Category]], ...]
    kinds = (("SAD-Type", "type", list(ImageType)), ("SAD-Category", "cat", categories))
    for part, kind, words in kinds:
        if groups.keys() & set(words):
            for word in words:
                title = _SHORT.get(word, word if kind == "type" else word.capitalize())
                count = f"({groups[word]})" if word in groups else ""
                columns.append(Column(part, title, f"sad/{kind}/{word}", count=count))
            columns.append(Column(part, "Avg.", f"sad/{kind}/avg"))
    values = tuple(tuple(summary.get(column.key) for column in columns) for summary in summaries)
    return Table(tuple(columns), tuple(named), values, len(rows), _GRAD[protocol], remark)


def _alone(column: Column) -> str:
    """The title of a column that has no line of shared headings above it."""
    return f"{column.part} {column.title}" if column.part == "Tran." else column.title


def _one_line(text: str) -> str:
    """The text with line breaks made spaces."""
    return " ".join(text.split())


def _pipes(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _ampersands(*cells: str) -> str:
    """A line of a LaTeX table."""
    return f"{' & '.join(cells)} \\\\"
