"""`python -m aimmat.prepare types`: types for alphas that have none, with a contact sheet to correct them by hand."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from aimmat.data import Entry, synthetic
from aimmat.data.errors import decode_pair
from aimmat.data.hashing import over_grey
from aimmat.data.layouts import SPLITS, stem_of
from aimmat.data.processes import mapped
from aimmat.data.proposals import Proposal, propose, propose_entry, shares
from aimmat.data.scenes import _limited
from aimmat.prepare.check import add_data, processes, progress, read_data
from aimmat.schema import AimmatError, ImageType
from aimmat.tables import write_file

COLUMNS, ROWS, TILE = 6, 10, 144  # of a contact sheet; a tile in pixels
SHEETS = 5
SCENES = 600  # procedural ones, the seeds from 0 on


def register(verbs: argparse._SubParsersAction) -> None:
    """Add the verb to the command."""
    verb = verbs.add_parser("types", help="propose SO, STM or NS from alphas, with contact sheets to correct by hand")
    add_data(verb)
    verb.add_argument("-o", "--output", type=Path, default=Path("types"), help="folder to write (%(default)s)")
    verb.add_argument("--split", choices=SPLITS, help="one split instead of all")
    verb.add_argument("--jobs", type=int, metavar="N", help="processes (as many as CPUs, fewer for few pictures)")
    verb.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Write types.csv and the sheets, the least certain first; 1 if an alpha cannot be read."""
    if given.data == ["synthetic"]:
        scenes = [synthetic.scene(seed, 256) for seed in range(SCENES)]
        print(agreement((scene.type, propose(shares(scene.alpha)).type) for scene in scenes))
        return 0
    entries = [
        entry
        for entry in read_data(given.data, given.root)[0]
        if (entry.role == "foreground" or (entry.role == "photo" and entry.alpha))
        and given.split in (None, entry.split)
    ]
    if not entries:
        raise AimmatError(f"{' '.join(given.data)} has no picture with an alpha; name one that has, or another --split")
    table = given.output / "types.csv"
    if table.exists():
        raise AimmatError(f"{table} exists and may have been corrected by hand; name another folder with -o")
    jobs = processes(given.jobs, len(entries))
    proposed: list[tuple[Entry, Proposal]] = []
    failed = 0
    for entry, outcome in zip(entries, progress(mapped(_outcome, entries, jobs), len(entries), "looking"), strict=True):
        if isinstance(outcome, str):
            print(f"error: {outcome}", file=sys.stderr)
            failed += 1
        else:
            proposed.append((entry, outcome))
    proposed.sort(key=lambda one: one[1].confidence)
    write_file(table, _csv(proposed))
    sheets = [proposed[start : start + COLUMNS * ROWS] for start in range(0, len(proposed), COLUMNS * ROWS)][:SHEETS]
    for number, part in enumerate(progress(iter(sheets), len(sheets), "drawing"), 1):
        png = io.BytesIO()
        sheet(part, jobs).save(png, "PNG")
        write_file(given.output / f"sheet_{number}.png", png.getvalue())
    counts = Counter(proposal.type for _, proposal in proposed)
    print(f"{len(proposed):,} alphas: " + ", ".join(f"{counts[kind]:,} {kind}" for kind in ImageType))
    if len({entry.type for entry in entries}) > 1:
        print(agreement((entry.type, proposal.type) for entry, proposal in proposed))
    if shared := [name for name, count in Counter(stem_of(str(entry.path)) for entry in entries).items() if count > 1]:
        print(
            f"{len(shared)} names are those of several pictures ({shared[0]}); propose for one set or split at a time"
        )
    shown = sum(map(len, sheets))
    print(f"{table}: correct it, the least certain first; {given.output}/sheet_*.png show {shown:,} of them")
    return int(failed > 0)


def agreement(pairs: Iterable[tuple[ImageType, ImageType]]) -> str:
    """How often proposals are the types that were told, in one line.

    Args:
        pairs: (told, proposed).
    """
    counts = Counter(pairs)
    parts = []
    for kind in ImageType:
        row = {other: counts[kind, other] for other in ImageType}
        wrong = ", ".join(f"{count} as {other}" for other, count in row.items() if other != kind and count)
        parts.append(f"{kind} {row[kind]} of {sum(row.values())}" + (f" ({wrong})" if wrong else ""))
    right = sum(counts[kind, kind] for kind in ImageType)
    return f"{right} of {sum(counts.values())} as told: {', '.join(parts)}"


def sheet(proposed: Sequence[tuple[Entry, Proposal]], jobs: int = 1) -> Image.Image:
    """A contact sheet: each cut-out beside its alpha, its proposed type, confidence and name below."""
    font = ImageFont.load_default(size=12)
    width, height = 2 * TILE + 6, TILE + 18
    page = Image.new("RGB", (COLUMNS * width, -(-len(proposed) // COLUMNS) * height), "white")
    draw = ImageDraw.Draw(page)
    tiles = mapped(tile, [entry for entry, _ in proposed], min(jobs, len(proposed)))
    for place, ((entry, proposal), pictures) in enumerate(zip(proposed, tiles, strict=True)):
        left, top = place % COLUMNS * width, place // COLUMNS * height
        for part, picture in enumerate(pictures):
            page.paste(Image.fromarray(picture), (left + part * TILE, top))
        draw.text(
            (left + 2, top + TILE + 1), f"{proposal.type} {proposal.confidence:.2f} {entry.stem}"[:40], "black", font
        )
    return page


def tile(entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    """The picture of an entry over grey, and its alpha, small."""
    colour, alpha = decode_pair(entry, photo=True)
    picture = colour if entry.role == "photo" else over_grey(colour, alpha)
    return _limited(picture, TILE), _limited(alpha, TILE)


def _outcome(entry: Entry) -> Proposal | str:
    try:
        return propose_entry(entry)
    except AimmatError as error:  # one bad file costs its own line
        return str(error)


def _csv(proposed: Iterable[tuple[Entry, Proposal]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", "type", "category", "confidence"))
    for entry, (kind, confidence) in proposed:
        writer.writerow((entry.stem, kind, entry.category, f"{confidence:.2f}"))
    return text.getvalue()
