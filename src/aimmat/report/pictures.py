"""The pictures that runs left of their test, at thumbnail size."""

from __future__ import annotations

import base64
import binascii
import html
import io
import re
from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from aimmat.images import read_alpha
from aimmat.schema import AimmatError
from aimmat.tables.gallery import INFERNO, THUMB
from aimmat.tables.runs import Run

Images = dict[str | int, Image.Image]  # of a picture, as `thumbs` gives them

UNIT = "SAD in thousands of pixels; lower is better."
HOW = "a run's gallery.html holds a choice of its test; with mattes=true it keeps the matte of every picture"

_NAMED = re.compile(r"<article\b[^>]*><h3>(.*?)</h3>(.*?)</article>", re.DOTALL)
_EMBEDDED = re.compile(r'<img src="data:image/webp;base64,([^"]+)" alt="(Input|Predicted trimap|Alpha|Truth) of ')


def thumbs(runs: Sequence[Run], names: Collection[str]) -> dict[str, Images]:
    """What there is to show of pictures that several runs were tested on.

    Input and truth come from the first gallery.html that shows the picture; the mattes from a run's mattes/, else from
    its gallery.html, which shows a choice of the test only.

    Args:
        runs: runs tested on the same pictures.
        names: of the pictures.

    Returns:
        For each name that anything is left of: "Input" and "Truth", the matte of a run under its place in `runs`, and
        the trimaps that `error` reads; what nobody left is not there. Of one size each, the longer side THUMB pixels;
        inputs RGB, the others grey.

    Raises:
        AimmatError: a gallery or a matte that cannot be read.
    """
    found: dict[str, Images] = {}
    for place, run in enumerate(runs):
        own: dict[str, str | int] = {"Alpha": place, "Predicted trimap": _trimap(place)}
        for name, kinds in _embedded(run, names).items():
            here = found.setdefault(name, {})
            for kind, image in kinds.items():
                here.setdefault(own.get(kind, kind), image)
        for name in names:
            matte = run.folder / "mattes" / f"{name}.png"
            if matte.is_file():
                found.setdefault(name, {})[place] = Image.fromarray(read_alpha(matte))
    return {name: _alike(kinds) for name, kinds in found.items()}


def named(runs: Sequence[Run]) -> set[str]:
    """The pictures of which the runs' galleries hold input and truth."""
    return {name for run in runs for name, _ in _articles(run)}


def error(images: Images, place: int) -> tuple[Image.Image | None, float | None]:
    """Where the matte of a run is wrong, and how far its semantic decoder alone decided that.

    Args:
        images: of a picture, as `thumbs` gives them.
        place: of the run.

    Returns:
        |alpha - truth| in the gallery's colours, dark 0 to bright 1, and the share of it where the predicted trimap
        calls a pixel foreground or background; None for what cannot be told.
    """
    if place not in images or "Truth" not in images:
        return None, None
    wrong = np.abs(np.asarray(images[place], np.int16) - np.asarray(images["Truth"], np.int16))
    picture, trimap = Image.fromarray(INFERNO[wrong]), images.get(_trimap(place))
    if trimap is None or not wrong.any():
        return picture, None
    known = np.abs(np.asarray(trimap, np.int16) - 128) > 64  # nearer to 0 or 255 than to 128
    return picture, float(wrong[known].sum() / wrong.sum())


def _trimap(place: int) -> str:
    return f"Predicted trimap {place}"


def _embedded(run: Run, names: Collection[str]) -> dict[str, dict[str, Image.Image]]:
    """Input, trimap, Alpha and Truth by picture, as the run's gallery.html holds them."""
    try:
        return {
            name: {
                kind: Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB" if kind == "Input" else "L")
                for data, kind in _EMBEDDED.findall(body)
            }
            for name, body in _articles(run)
            if name in names
        }
    except (OSError, binascii.Error) as error:
        raise AimmatError(
            f"the thumbnails in {run.folder / 'gallery.html'} cannot be read ({error}); remove the file or test again"
        ) from None


def _articles(run: Run) -> list[tuple[str, str]]:
    """Name and HTML of the pictures in the run's gallery.html; none where there is no such file."""
    path = run.folder / "gallery.html"
    if not path.exists():
        return []
    try:
        found = _NAMED.findall(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise AimmatError(f"{path} cannot be read ({error}); remove the file or test again") from None
    return [(html.unescape(name), body) for name, body in found]


def _alike(kinds: Images) -> Images:
    """The images in one size: the input's shape, or that of any, its longer side THUMB pixels."""
    first = kinds.get("Input") or next(iter(kinds.values()))
    scale = THUMB / max(first.size)
    size = max(1, round(first.width * scale)), max(1, round(first.height * scale))
    return {kind: image.resize(size, Image.Resampling.LANCZOS) for kind, image in kinds.items()}
