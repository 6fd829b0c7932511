"""What the pages of a report are made of: headings, tables, lines of pictures; as Markdown, as HTML and as a sheet."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from PIL import Image, ImageDraw, ImageFont

from aimmat.tables.gallery import CAPTION, FAINT, GAP, INK, PAPER, THUMB, data_uri, page_style, shorten


@dataclass(frozen=True)
class TextTable:
    """A table of texts; the first column names its line."""

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def to_markdown(self) -> str:
        """The table as a pipe table with its title."""
        rule = [":--", *["--:"] * (len(self.header) - 1)]
        rows = [self.header, *self.lines]
        texts = [[markdown(cell) for cell in row] for row in rows]
        lines = [f"| {' | '.join(cells)} |" for cells in (texts[0], rule, *texts[1:])]
        return "\n".join([f"**{markdown(self.title)}**", "", *lines, ""])

    def to_html(self) -> str:
        """The table as an HTML <table>; text is escaped."""
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.header)
        body = ""
        for name, *cells in self.lines:
            numbers = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            body += f'<tr><th scope="row">{html.escape(name)}</th>{numbers}</tr>\n'
        caption = html.escape(self.title)
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">\n<table>\n'
            f"<caption>{caption}</caption>\n<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n"
        )


@dataclass(frozen=True)
class Panel:
    """One picture of a line; an image of None is shown as missing."""

    title: str
    image: Image.Image | None
    note: str = ""  # below the title


@dataclass(frozen=True)
class Line:
    """A test picture: what it is called and its panels, the same titles in every line of a sheet."""

    name: str
    facts: tuple[str, ...]
    panels: tuple[Panel, ...]

    def to_html(self) -> str:
        """The line as an <article> that holds its pictures."""
        name = html.escape(self.name)
        figures = ""
        for panel in self.panels:
            title, shown = html.escape(panel.title), '<span class="none">none</span>'
            if panel.image:
                size = f'width="{panel.image.width}" height="{panel.image.height}"'
                shown = f'<img src="{data_uri(panel.image)}" alt="{title} of {name}" {size}>'
            note = f"<small>{html.escape(panel.note)}</small>" if panel.note else ""
            figures += f"<figure>{shown}<figcaption>{title}{note}</figcaption></figure>"
        facts = "".join(f"<span>{html.escape(fact)}</span>" for fact in self.facts)
        return f'<article><h3>{name}</h3><p class="facts">{facts}</p><div class="strip">{figures}</div></article>\n'


def sheet(lines: Sequence[Line], note: str) -> bytes:
    """A contact sheet, PNG: a line of thumbs for each of the lines, the titles above, the note below."""
    titles = [panel.title for panel in lines[0].panels]
    heights = [max(96, *(panel.image.height + 20 for panel in line.panels if panel.image), 0) for line in lines]
    top, bottom = 36, 32
    size = CAPTION + len(titles) * (THUMB + GAP) + GAP, top + sum(heights) + GAP * len(lines) + bottom
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    strong, small = ImageFont.load_default(size=15), ImageFont.load_default(size=13)
    lefts = [CAPTION + GAP + place * (THUMB + GAP) for place in range(len(titles))]
    for title, left in zip(titles, lefts, strict=True):
        draw.text((left + THUMB / 2, top / 2), shorten(title, strong, THUMB), INK, strong, anchor="mm")
    y = top
    for line, height in zip(lines, heights, strict=True):
        draw.text((GAP, y + 4), shorten(line.name, strong, CAPTION - GAP), INK, strong)
        facts = "\n".join(shorten(fact, small, CAPTION - GAP) for fact in line.facts)
        draw.multiline_text((GAP, y + 26), facts, FAINT, small, spacing=5)
        for panel, left in zip(line.panels, lefts, strict=True):
            if panel.image:
                page.paste(panel.image.convert("RGB"), (left + (THUMB - panel.image.width) // 2, y))
            else:
                draw.text((left + THUMB / 2, y + height / 2 - 10), "none", FAINT, small, anchor="mm")
            draw.text((left + THUMB / 2, y + height - 9), panel.note, FAINT, small, anchor="mm")
        y += height + GAP
    draw.text((GAP, y + bottom / 2), note, FAINT, small, anchor="lm")
    png = io.BytesIO()
    page.save(png, "PNG", optimize=True)
    return png.getvalue()


def page(title: str, body: str) -> str:
    """A page that asks for nothing from elsewhere, in the look of a run's gallery; the body is HTML, the title text."""
    own = files("aimmat.report").joinpath("page.html").read_text(encoding="utf-8")
    return Template(own).substitute(title=html.escape(title), style=page_style(), body=body)


def markdown(text: str) -> str:
    """The text with what Markdown would read as a sign escaped, on one line."""
    return re.sub(r"([\\`*_\[\]<>|&$~])", r"\\\1", " ".join(text.split()))
