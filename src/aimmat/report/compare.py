"""Two runs on one page: which is better, on what, through which decoder, and the pictures that moved most."""

from __future__ import annotations

import html
from pathlib import Path
from typing import NamedTuple

from aimmat.report import pictures
from aimmat.report.pages import Line, Panel, TextTable, markdown, page, sheet
from aimmat.schema import Row
from aimmat.tables import write_file
from aimmat.tables.compare import Comparison, Paired, blame, compare, limits, verdict
from aimmat.tables.runs import Run

MOST = 6  # pictures on either side, of the largest gains and the largest losses

_CALLED = {"sad": "SAD", "mse": "MSE", "mad": "MAD", "conn": "Conn", "grad": "Grad"}
_PER_PIXEL = ("mse", "mad")  # four decimals, as the paper prints them
_COLUMNS = ("Pictures", "A", "B", "B − A", "95 % interval", "Wilcoxon p", "B better", "Equal", "A better", "Winner")
_NOTE = (
    "Lower is better, so a difference B − A below 0 speaks for B. SAD and Conn in thousands of pixels, MSE and MAD per "
    "pixel. Interval: of the mean difference, from 10,000 bootstrap samples of the pictures. Wilcoxon: signed-rank "
    "test, two-sided. A winner is named where both agree at the level of 5 % and it is better on most pictures."
)
_PICTURES = (
    "Below a name B − A, in the whole picture, in known foreground and background, in the transition. Errors: |alpha − "
    "truth| of the thumbnails, from dark, 0, to bright, 1; outside its transition: the share of the error where the "
    "predicted trimap says foreground or background, so that the semantic decoder alone decided."
)
_NO_REGIONS = (
    "Which decoder makes the difference cannot be told: the rows hold no SAD of the transition; test with trimaps."
)


def write(a: Run, b: Run, output: Path) -> None:
    """Write compare.md, compare.html and, where there is a picture to show, compare.png.

    Args:
        a: the run to start from.
        b: the run that is held against it.
        output: the folder to write into.

    Raises:
        AimmatError: runs that cannot be compared, pictures that cannot be read, or a file that cannot be written.
    """
    compared = compare(a, b)
    moved = _moved(compared)
    shown = pictures.thumbs((a, b), [pair[0].name for pairs in moved.values() for pair in pairs])
    parts = {title: [_line(pair, shown.get(pair[0].name, {})) for pair in pairs] for title, pairs in moved.items()}
    lines = [line for part in parts.values() for line in part]
    missing = sum(any(panel.image is None for panel in line.panels) for line in lines)
    told = _Told(
        title=f"{a.name} against {b.name}",
        runs={"A": a, "B": b},
        said=[verdict(compared.errors["sad"]), blame(compared.regions["all"]) if compared.regions else _NO_REGIONS],
        tables=_tables(compared),
        limits=limits(compared),
        parts=parts,
        absent=f"{missing} of these {len(lines)} pictures are not whole: {pictures.HOW}." * bool(missing),
    )
    write_file(output / "compare.html", _html(told))
    if shown:
        write_file(
            output / "compare.png",
            sheet(lines, f"Largest gains of B, then its largest losses; below a name B − A. {pictures.UNIT}"),
        )
    write_file(output / "compare.md", _markdown(told, bool(shown)))
    print(*filter(None, told.said), f"{output / 'compare.html'}, {output / 'compare.md'}", sep="\n")


class _Told(NamedTuple):
    """What both pages tell."""

    title: str
    runs: dict[str, Run]  # by letter
    said: list[str]
    tables: list[TextTable]
    limits: list[str]
    parts: dict[str, list[Line]]  # by heading
    absent: str  # why pictures are missing and how to get them; empty where none is


def _markdown(told: _Told, with_sheet: bool) -> str:
    """The page in Markdown; the sheet of pictures stands beside it."""
    text = [f"# {markdown(told.title)}", ""]
    text += [f"- {letter}: {markdown(f'{run.name}, {run.folder}')}" for letter, run in told.runs.items()]
    text += ["", *(f"{markdown(sentence)}\n" for sentence in told.said if sentence)]
    text += [*(table.to_markdown() for table in told.tables), markdown(_NOTE), ""]
    text += ["## What these numbers cannot show", "", *(f"- {markdown(limit)}" for limit in told.limits)]
    text += ["", "## Pictures", "", markdown(_PICTURES)]
    for heading, lines in told.parts.items():
        text += ["", f"### {heading}", ""]
        text += [f"- {markdown(', '.join((line.name, *line.facts)))}" for line in lines] or ["None."]
    text += ["", "![Input, truth, both mattes and both errors](compare.png)"] * with_sheet
    text += ["", told.absent] * bool(told.absent)
    return "\n".join([*text, ""])


def _html(told: _Told) -> str:
    """The page in HTML, with its pictures inside."""
    runs = "".join(
        f"<dt>{letter}</dt><dd>{html.escape(run.name)}, <code>{html.escape(str(run.folder))}</code></dd>"
        for letter, run in told.runs.items()
    )
    body = f"<dl>{runs}</dl>\n<h2>Result</h2>\n"
    body += "".join(f"<p>{html.escape(sentence)}</p>\n" for sentence in told.said if sentence)
    body += "".join(table.to_html() for table in told.tables) + f'<p class="note">{_NOTE}</p>\n'
    points = "".join(f"<li>{html.escape(limit)}</li>\n" for limit in told.limits)
    body += f"<h2>What these numbers cannot show</h2>\n<ul>\n{points}</ul>\n"
    body += f'<h2>Pictures</h2>\n<p class="note">{_PICTURES}</p>\n'
    for heading, lines in told.parts.items():
        body += f"<h2>{heading}</h2>\n" + ("".join(line.to_html() for line in lines) or "<p>None.</p>\n")
    body += f'<p class="note">{html.escape(told.absent)}</p>\n' * bool(told.absent)
    return page(told.title, body)


def _tables(compared: Comparison) -> list[TextTable]:
    """The tables of the page."""
    errors = [(_CALLED[name], *_cells(pair, 4 if name in _PER_PIXEL else 2)) for name, pair in compared.errors.items()]
    groups = [(str(group), *_cells(pair, 2)) for group, pair in compared.groups.items()]
    tables = [TextTable("Whole image", ("Error", *_COLUMNS), tuple(errors))]
    if groups:
        tables.append(TextTable("SAD by type and category", ("Group", *_COLUMNS), tuple(groups)))
    if compared.regions:
        called = {
            "known": "known (semantic decoder)",
            "foreground": "… of it foreground",
            "background": "… of it background",
            "transition": "transition (matting decoder)",
        }
        regions = tuple(
            (f"{place}, {title}", *_cells(parts[part], 2))
            for place, parts in compared.regions.items()
            for part, title in called.items()
            if part in parts
        )
        tables.append(TextTable("SAD by region: which decoder it is", ("Region", *_COLUMNS), regions))
    return tables


def _cells(pair: Paired, decimals: int) -> tuple[str, ...]:
    """A line of a table, after its name."""
    if not pair.num_images:
        return ("0", *["–"] * (len(_COLUMNS) - 1))
    interval = f"{pair.low:+.{decimals}f} to {pair.high:+.{decimals}f}"
    means = f"{pair.a:.{decimals}f}", f"{pair.b:.{decimals}f}", f"{pair.difference:+.{decimals}f}"
    p = "<0.0001" if pair.p < 1e-4 else f"{pair.p:.4f}"
    return (
        str(pair.num_images),
        *means,
        interval,
        p,
        str(pair.wins),
        str(pair.ties),
        str(pair.losses),
        pair.winner or "–",
    )


def _moved(compared: Comparison) -> dict[str, list[tuple[Row, Row]]]:
    """By heading, the pictures with B's largest gains in SAD and those with its largest losses, the largest first."""
    ordered = compared.pictures
    return {
        "Largest gains of B": [(a, b) for a, b in ordered[:MOST] if b.scores["sad"] < a.scores["sad"]],
        "Largest losses of B": [(a, b) for a, b in ordered[::-1][:MOST] if b.scores["sad"] > a.scores["sad"]],
    }


def _line(pair: tuple[Row, Row], images: pictures.Images) -> Line:
    """A picture that moved, with its errors in both runs."""
    a, b = pair
    change = b.scores["sad"] - a.scores["sad"]
    facts = [", ".join(word for word in (a.type, a.category) if word), f"SAD {change:+.2f}"]
    if "sad_transition" in a.scores:
        transition = b.scores["sad_transition"] - a.scores["sad_transition"]
        facts += [f"known {change - transition:+.2f}", f"transition {transition:+.2f}"]
    mattes, errors = [], []
    for place, (letter, row) in enumerate(zip("AB", pair, strict=True)):
        wrong, share = pictures.error(images, place)
        unknown = "share not known" if wrong and row.scores["sad"] else ""  # without a trimap
        mattes.append(Panel(f"Alpha of {letter}", images.get(place), f"SAD {row.scores['sad']:.2f}"))
        errors.append(
            Panel(f"Error of {letter}", wrong, unknown if share is None else f"{share:.0%} outside its transition")
        )
    known = Panel("Input", images.get("Input")), Panel("Truth", images.get("Truth"))
    return Line(a.name, tuple(fact for fact in facts if fact), (*known, *mattes, *errors))
