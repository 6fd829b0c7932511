"""Figure 5's layout for any number of runs: input, truth, then each run's matte, a row a picture."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from aimmat.report import pictures
from aimmat.report.pages import Line, Panel, page, sheet
from aimmat.schema import AimmatError, Category, ImageType, Row
from aimmat.tables import GalleryItem, write_file
from aimmat.tables.compare import same_test
from aimmat.tables.gallery import choose
from aimmat.tables.runs import Run

MOST = 12  # pictures


def write(runs: Sequence[Run], output: Path) -> None:
    """Write gallery.png and gallery.html.

    Args:
        runs: one or more, tested on the same pictures. Of the pictures that have a matte of every run, good, median and
            bad ones of every type are taken; SAD is that of the runs on average.
        output: the folder to write into.

    Raises:
        AimmatError: no run, runs tested on other pictures, no picture to show, files that cannot be read or written, or
            the folder of a run as output.
    """
    if not runs:
        raise AimmatError("a gallery shows one run or more, got none; name the folder of a run")
    for run in runs[1:]:
        same_test(runs[0], run)
    if any(output.resolve() == run.folder.resolve() for run in runs):
        raise AimmatError(f"{output} holds the gallery of that run alone; write this one into another folder")
    rows = [{row.name: row for row in run.rows} for run in runs]
    wanted = {"Input", "Truth", *range(len(runs))}
    shown = pictures.thumbs(runs, rows[0].keys() & pictures.named(runs))
    whole = {name: images for name, images in shown.items() if images.keys() >= wanted}
    if not whole:
        raise AimmatError(f"no picture has input, truth and the mattes of all {len(runs)} runs: {pictures.HOW}")
    chosen = choose([_item(name, [of[name] for of in rows], images) for name, images in whole.items()], MOST)
    titles = _titles(runs)
    lines = [_line(item, whole[item.name], titles, [of[item.name] for of in rows]) for item in chosen]
    left = f", out of the {len(whole)} that every run shows" * (len(whole) < len(rows[0]))
    note = f"{len(lines)} of {len(rows[0])} test pictures, good to bad within a type{left}. {pictures.UNIT}"
    write_file(output / "gallery.png", sheet(lines, note))
    folders = "".join(
        f"<dt>{html.escape(title)}</dt><dd><code>{html.escape(str(run.folder))}</code></dd>"
        for title, run in zip(titles, runs, strict=True)
    )
    body = f'<dl>{folders}</dl>\n<p class="note">{note}</p>\n' + "".join(line.to_html() for line in lines)
    write_file(output / "gallery.html", page(f"{len(runs)} run{'s' * (len(runs) != 1)} on the same pictures", body))
    print(f"{output / 'gallery.html'}, {output / 'gallery.png'}")


def _titles(runs: Sequence[Run]) -> list[str]:
    """The runs' names, numbered where several have one."""
    count = Counter(run.name for run in runs)
    return [run.name if count[run.name] == 1 else f"{place}: {run.name}" for place, run in enumerate(runs, 1)]


def _item(name: str, rows: Sequence[Row], images: pictures.Images) -> GalleryItem:
    """What `choose` goes by; without a type, all count as one."""
    image, truth = np.asarray(images["Input"]), np.asarray(images["Truth"])
    sad = fmean(row.scores["sad"] for row in rows)
    kind = rows[0].type or ImageType.SO, rows[0].category or Category.OTHER
    return GalleryItem(name, *kind, image, None, None, truth, truth, {"sad": sad})


def _line(item: GalleryItem, images: pictures.Images, titles: Sequence[str], rows: Sequence[Row]) -> Line:
    """A picture with the mattes of all runs."""
    mattes = [
        Panel(title, images[place], f"SAD {row.scores['sad']:.2f}")
        for place, (title, row) in enumerate(zip(titles, rows, strict=True))
    ]
    said = ", ".join(word for word in (rows[0].type, rows[0].category) if word)
    return Line(
        item.name, (said,) * bool(said), (Panel("Input", images["Input"]), Panel("Truth", images["Truth"]), *mattes)
    )
