"""`python -m aimmat.prepare sheet`: a contact sheet of composites with their alphas."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from aimmat.data import CutoutScenes, SceneSource, SyntheticScenes, read_folder, read_manifest
from aimmat.schema import AimmatError, Scene


def register(verbs: argparse._SubParsersAction) -> None:
    """Add the verb to the command."""
    verb = verbs.add_parser("sheet", help="a contact sheet of composites with their alphas, as a PNG")
    verb.add_argument("data", help="sample, synthetic, a manifest (CSV) or a folder")
    verb.add_argument("-o", "--output", type=Path, default=Path("sheet.png"), help="the PNG to write (%(default)s)")
    verb.add_argument("--split", choices=("train", "val", "test"), default="train")
    verb.add_argument("--count", type=int, default=36, help="how many scenes (%(default)s)")
    verb.add_argument("--size", type=int, default=384, help="side of a scene, pixels (%(default)s)")
    verb.add_argument("--seed", type=int, default=0)
    verb.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Write the sheet."""
    if given.count < 1 or given.size < 32:
        raise AimmatError(f"--count must be 1 or more and --size 32 or more, got {given.count} and {given.size}")
    source = _source(given.data, given.split, given.size, given.count, given.seed)
    page = sheet(source, min(given.count, len(source)), given.seed)
    page.save(given.output)
    print(f"{given.output}: {page.width} x {page.height} pixels")


def sheet(source: SceneSource, count: int, seed: int = 0, columns: int = 6, tile: int = 192) -> Image.Image:
    """A contact sheet: each scene as a composite beside its alpha, its type and category below.

    Args:
        source: where the scenes come from.
        count: how many, evenly spread over a pass.
        seed: of their free choices.
        columns: scenes in a row.
        tile: side of a picture, pixels.

    Returns:
        RGB, `columns` pairs of pictures wide.
    """
    font = ImageFont.load_default(size=12)
    rows = -(-count // columns)
    width, height = 2 * tile + 6, tile + 18
    page = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(page)
    for place, index in enumerate(track(np.linspace(0, len(source) - 1, count).round().astype(int), "drawing scenes")):
        scene = source.draw(int(index), np.random.default_rng([seed, int(index)]))
        left, top = place % columns * width, place // columns * height
        for part, picture in enumerate((_composite(scene), scene.alpha)):
            page.paste(Image.fromarray(picture).resize((tile, tile)), (left + part * tile, top))
        draw.text((left + 2, top + tile + 1), f"{scene.type} {scene.category}: {scene.name}"[:60], "black", font)
    return page


def _composite(scene: Scene) -> np.ndarray:
    alpha = scene.alpha[..., None] / 255.0
    return np.asarray(np.rint(alpha * scene.foreground + (1 - alpha) * scene.background).astype(np.uint8))


def _source(data: str, split: str, size: int, count: int, seed: int) -> SceneSource:
    if data == "synthetic":
        return SyntheticScenes(size, count, first_seed=seed * count, fixed=True)
    entries = (
        read_manifest() if data == "sample" else read_manifest(data) if data.endswith(".csv") else read_folder(data)
    )
    return CutoutScenes(entries, split, size)
