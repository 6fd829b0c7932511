"""Galleries: what went in, what came out and where it is wrong, as a contact sheet and as one HTML page."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from aimmat.schema import Category, ImageType
from aimmat.tables.rows import write_file
from aimmat.tables.tables import Table

THUMB = 192  # pixels, the longer side in the contact sheet
PAGE_THUMBS = (256, 192, 128)  # pixels, the longer side in the page: the first that keeps it below PAGE_BYTES
PAGE_BYTES = 6_000_000

CAPTION, GAP = 180, 8  # pixels: width of the captions, space between thumbs
INK, FAINT, PAPER = (28, 28, 30), (110, 110, 115), (255, 255, 255)
_UNITS = {  # score: (as it is called, decimals)
    "sad": ("SAD", 2),
    "mse": ("MSE", 4),
    "mad": ("MAD", 4),
    "conn": ("Conn", 2),
    "grad": ("Grad", 2),
    "sad_transition": ("Tran. SAD", 2),
}
# (256, 3) RGB, dark to bright: its lightness rises evenly with the error.
INFERNO = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]


@dataclass(frozen=True)
class GalleryItem:
    """One picture with what a network made of it.

    Maps are (H, W): mattes uint8 from 0 to 255 or float in [0, 1], the trimap uint8 of 0, 128 and 255.
    """

    name: str
    type: ImageType
    category: Category
    image: np.ndarray  # (H, W, 3) uint8 RGB
    trimap: np.ndarray | None  # predicted; None for a network without semantic output
    matting: np.ndarray | None  # output of the matting decoder; None for a network without one
    alpha: np.ndarray
    truth: np.ndarray
    scores: dict[str, float]  # as Row.scores; "sad" sorts the galleries

    def __post_init__(self) -> None:
        """Raises ValueError where a map does not fit the image."""
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"image must be (H, W, 3) uint8, got {self.image.shape} {self.image.dtype} for {self.name!r}; "
                f"a float image in [0, 1] becomes one with (255 * image).round().astype('uint8')"
            )
        for what in ("trimap", "matting", "alpha", "truth"):
            matte = getattr(self, what)
            if matte is not None and matte.shape != self.image.shape[:2]:
                raise ValueError(
                    f"{what} must be (H, W) of its image, {self.image.shape[:2]}, got {matte.shape} for {self.name!r}; "
                    f"resize it, and drop axes of length one"
                )


def choose(items: Sequence[GalleryItem], most: int) -> list[GalleryItem]:
    """At most `most` items, evenly over types and, within a type, over SAD from best to worst.

    Returns:
        Sorted by type, then SAD; all items where they are no more than `most`.

    Raises:
        ValueError: no item, or most < 1.
    """
    if not items or most < 1:
        raise ValueError(f"a gallery must show one item or more, got {len(items)} items and most={most}; give both")
    by_type = [sorted((item for item in items if item.type == type_), key=_sad) for type_ in ImageType]
    shares = [0] * len(by_type)
    for _ in range(min(most, len(items))):  # each place goes to the type that has fewest yet
        open_ = [place for place, group in enumerate(by_type) if shares[place] < len(group)]
        shares[min(open_, key=shares.__getitem__)] += 1
    return [
        group[round(place)]
        for group, share in zip(by_type, shares, strict=True)
        for place in (np.linspace(0, len(group) - 1, share) if share > 1 else [(len(group) - 1) // 2] * share)
    ]


def gallery_png(path: str | Path, items: Sequence[GalleryItem], most: int = 12, num_tested: int | None = None) -> None:
    """Writes a contact sheet: a line an item with input, trimap, matting output, alpha, truth, error and cut-out.

    Args:
        path: the PNG to write.
        items: the pictures of a test.
        most: the number of lines; of more items, good, median and bad ones of every type are taken.
        num_tested: how many pictures the test had, where the items are not all of them.

    Raises:
        ValueError: no item, or most < 1.
        AimmatError: the file cannot be written.
    """
    chosen = choose(items, most)
    lines = [(item, _panels(item, THUMB)) for item in chosen]
    titles = list(lines[0][1])
    heights = [max(90, *(panel.height for panel in panels.values() if panel)) for _, panels in lines]
    width = CAPTION + len(titles) * (THUMB + GAP) + GAP
    top, bottom = 36, 44
    sheet = Image.new("RGB", (width, top + sum(heights) + GAP * len(lines) + bottom), PAPER)
    draw = ImageDraw.Draw(sheet)
    strong, small = ImageFont.load_default(size=15), ImageFont.load_default(size=13)
    lefts = [CAPTION + GAP + place * (THUMB + GAP) for place in range(len(titles))]
    for title, left in zip(titles, lefts, strict=True):
        draw.text((left + THUMB / 2, top / 2), title, INK, strong, anchor="mm")
    y = top
    for (item, panels), height in zip(lines, heights, strict=True):
        draw.text((GAP, y + 4), shorten(item.name, strong, CAPTION - GAP), INK, strong)
        captions = [f"{item.type}, {item.category}", *_captions(item)[:2]]
        draw.multiline_text((GAP, y + 26), "\n".join(captions), FAINT, small, spacing=5)
        for panel, left in zip(panels.values(), lefts, strict=True):
            if panel:
                place = (left + (THUMB - panel.width) // 2, y + (height - panel.height) // 2)
                sheet.paste(_on_checkerboard(panel), place)
            else:
                draw.text((left + THUMB / 2, y + height / 2), "none", FAINT, small, anchor="mm")
        y += height + GAP
    legend = Image.fromarray(INFERNO[None]).resize((THUMB - 40, 12))
    left = lefts[titles.index("Error")]
    sheet.paste(legend, (left + 20, y + 8))
    draw.text((left + 10, y + 14), "0", FAINT, small, anchor="mm")
    draw.text((left + THUMB - 10, y + 14), "1", FAINT, small, anchor="mm")
    draw.text((left + THUMB / 2, y + 31), "|alpha - truth|", FAINT, small, anchor="mm")
    note = f"{_shown(chosen, items, num_tested or len(items))} SAD in thousands of pixels; lower is better."
    draw.text((GAP, y + 14), note, FAINT, small, anchor="lm")
    png = io.BytesIO()
    sheet.save(png, "PNG", optimize=True)
    write_file(path, png.getvalue())


def gallery_html(
    path: str | Path,
    items: Sequence[GalleryItem],
    *,
    title: str,
    summary: Table,
    config: str,
    command: str,
    most: int = 60,
) -> None:
    """Writes one page that holds all it shows: the table of the methods, then the pictures.

    The page asks for nothing from elsewhere; its script filters, sorts and changes the ground under the cut-outs.

    Args:
        path: the HTML file to write.
        items: the pictures of a test, all or some.
        title: heading of the page.
        summary: the table on top, of all pictures.
        config: name of the run's config.
        command: the command line of the run.
        most: the number of pictures; of more items, good, median and bad ones of every type are taken.

    Raises:
        ValueError: no item, or most < 1.
        AimmatError: the file cannot be written.
    """
    chosen = choose(items, most)
    template = Template(files("aimmat.tables").joinpath("gallery.html").read_text(encoding="utf-8"))
    for size in PAGE_THUMBS:
        page = template.substitute(
            title=html.escape(title),
            style=page_style(),
            config=html.escape(config),
            command=html.escape(command),
            summary=summary.to_html(),
            note=summary.note,
            shown=_shown(chosen, items, summary.num_images),
            types=_options([t for t in ImageType if any(item.type == t for item in chosen)]),
            categories=_options([c for c in Category if any(item.category == c for item in chosen)]),
            legend=data_uri(Image.fromarray(INFERNO[None])),
            pictures="\n".join(_picture(item, size) for item in chosen),
        )
        if len(page) <= PAGE_BYTES:
            break
    write_file(path, page)


def page_style() -> str:
    """The stylesheet of every page about pictures."""
    return files("aimmat.tables").joinpath("page.css").read_text(encoding="utf-8").strip()


def _shown(chosen: Sequence[GalleryItem], items: Sequence[GalleryItem], num_tested: int) -> str:
    """How many pictures are shown, of how many, and which."""
    if len(chosen) == num_tested:
        return f"{num_tested} picture{'s' * (num_tested != 1)}."
    kept = f", out of the {len(items)} whose pictures were kept" * (len(items) < num_tested)
    return f"{len(chosen)} of {num_tested} test pictures, good to bad within a type{kept}."


def _sad(item: GalleryItem) -> float:
    """The SAD to sort by; what has none comes last."""
    sad = item.scores.get("sad", math.nan)
    return math.inf if math.isnan(sad) else sad


def _captions(item: GalleryItem) -> list[str]:
    """The scores in words, those that have a name in the field."""
    return [f"{name} {item.scores[key]:.{decimals}f}" for key, (name, decimals) in _UNITS.items() if key in item.scores]


def _panels(item: GalleryItem, size: int) -> dict[str, Image.Image | None]:
    """The pictures of a line by title, no side longer than size; the cut-out has an alpha channel."""
    alpha, truth = _levels(item.alpha), _levels(item.truth)
    error = np.abs(alpha.astype(np.int16) - truth)
    maps = {
        "Input": item.image,
        "Predicted trimap": item.trimap,
        "Matting output": None if item.matting is None else _levels(item.matting),
        "Alpha": alpha,
        "Truth": truth,
        "Error": INFERNO[error],
        "Cut-out": np.dstack([item.image, alpha]),
    }
    scale = size / max(alpha.shape)
    thumb = tuple(max(1, round(side * scale)) for side in alpha.shape[::-1])
    panels: dict[str, Image.Image | None] = {}
    for name, array in maps.items():
        nearest = name == "Predicted trimap" and scale > 1
        panels[name] = (
            array
            if array is None
            else Image.fromarray(array).resize(thumb, Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS)
        )
    return panels


def _levels(matte: np.ndarray) -> np.ndarray:
    """A matte as uint8; what is not a number counts as 0."""
    if matte.dtype == np.uint8:
        return matte
    levels: np.ndarray = np.rint(255 * np.clip(np.nan_to_num(matte.astype(np.float64)), 0, 1)).astype(np.uint8)
    return levels


def _on_checkerboard(panel: Image.Image) -> Image.Image:
    """The panel; a cut-out is laid over light grey squares of 12 pixels."""
    if panel.mode != "RGBA":
        return panel
    y, x = np.indices((panel.height, panel.width)) // 12
    ground = Image.fromarray(np.where((x + y) % 2, 255, 208).astype(np.uint8)).convert("RGBA")
    return Image.alpha_composite(ground, panel)


def shorten(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float) -> str:
    """The text, with its middle left out where it is wider than width."""
    kept, short = len(text), text
    while font.getlength(short) > width:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def data_uri(image: Image.Image) -> str:
    """The image as a data URI."""
    webp = io.BytesIO()
    image.save(webp, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(webp.getvalue()).decode()}"


def _options(values: Sequence[str]) -> str:
    """The values as options of a <select>."""
    return "".join(f"<option>{value}</option>" for value in values)


def _picture(item: GalleryItem, size: int) -> str:
    """One picture of the page."""
    name = html.escape(item.name)
    figures = ""
    for title, panel in _panels(item, size).items():
        shown = '<span class="none">none</span>'
        if panel:
            shown = (
                f'<img src="{data_uri(panel)}" alt="{title} of {name}" width="{panel.width}" height="{panel.height}">'
            )
        kind = ' class="cutout"' if title == "Cut-out" else ""
        figures += f"<figure{kind}>{shown}<figcaption>{title}</figcaption></figure>"
    scores = "".join(f"<span>{caption}</span>" for caption in _captions(item))
    return (
        f'<article data-type="{item.type}" data-category="{item.category}" data-sad="{_sad(item)}">'
        f"<h3>{name}</h3>"
        f'<p class="facts"><span class="tag">{item.type}</span><span class="tag">{item.category}</span>{scores}</p>'
        f'<div class="strip">{figures}</div></article>'
    )
