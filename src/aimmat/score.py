"""`python -m aimmat.score`: the errors of predicted mattes in files, whichever model made them."""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from aimmat.console import guarded, keep_memory, sentence
from aimmat.images import IMAGE_SUFFIXES, read_alpha, read_trimap
from aimmat.schema import AimmatError, Category, ImageType, Row
from aimmat.tables import results_table, write_file, write_rows

if TYPE_CHECKING:
    from aimmat.functional.metrics import MetricProtocol

Kind = tuple[ImageType | None, Category | None]
Outcome = dict[str, float] | str  # the scores of a pair, or the sentence that says why it has none

DESCRIPTION = """\
Scores predicted alpha mattes against the true ones: SAD, MSE, MAD, gradient and connectivity error of each image, and
their averages. PREDICTIONS and TRUTH are two folders whose files have the same names before the suffix, or two files.
A matte is a grey picture of 8 or 16 bits or the alpha channel of a cut-out."""

EPILOG = """\
Without --trimaps the errors count the whole image only: which pixels are transition is the data set's to say, and a
region made from the truth would give other figures than its trimaps do. With them rows.csv also has every error over
the transition, the foreground and the background of the trimap. Benchmarks that use the MATLAB code count the
transition alone.

A pair that cannot be scored is named, the others are scored, and the exit code is 1."""


class Pair(NamedTuple):
    """The files of one image."""

    name: str
    pred: Path
    truth: Path
    trimap: Path | None


def find_pairs(predictions: Path, truth: Path, trimaps: Path | None = None) -> tuple[list[Pair], list[str]]:
    """Match files by their names before the suffix.

    Args:
        predictions: a folder of predicted mattes, or one file.
        truth: the folder of the true mattes, or one file, whatever its name.
        trimaps: the folder of the trimaps, or one file; None for none.

    Returns:
        The pairs in the order of their names, and a sentence for each side on which files have no partner.

    Raises:
        AimmatError: a path that does not exist, a folder against a file, an empty folder, two files of one name,
            no name on both sides, or a pair without a trimap.
    """
    given = [predictions, truth, *([trimaps] if trimaps else [])]
    for path in given:
        if not path.exists():
            raise AimmatError(f"there is no file or folder {path}; name one that exists")
    for path in given:
        if path.is_dir() != truth.is_dir():
            raise AimmatError(f"{path} and {truth} must be both folders or both files; name two of one kind")
    if predictions.resolve() == truth.resolve():
        raise AimmatError(f"PREDICTIONS and TRUTH are both {truth}; name the predicted mattes, then the true ones")
    if truth.is_file():
        return [Pair(predictions.stem, predictions, truth, trimaps)], []
    found, true = _files(predictions), _files(truth)
    names = sorted(found.keys() & true.keys())
    if not names:
        raise AimmatError(
            f"no file in {predictions} ({_listed(sorted(found), 3)}) is named as one in {truth} "
            f"({_listed(sorted(true), 3)}); name each prediction as its truth"
        )
    known = _files(trimaps) if trimaps else {}
    if trimaps and (missing := [name for name in names if name not in known]):
        raise AimmatError(f"{trimaps} has no trimap for {_listed(missing)}; add what is missing or leave --trimaps out")
    sides = ((found, true, "predictions have no truth"), (true, found, "truths have no prediction"))
    lonely = [
        f"{len(left)} of {len(side)} {words}: {_listed(sorted(left))}"
        for side, other, words in sides
        if (left := side.keys() - other.keys())
    ]
    return [Pair(name, found[name], true[name], known.get(name)) for name in names], lonely


def read_matte(path: Path) -> np.ndarray:
    """Read a matte in full depth: 8 bits over 255, 16 bits over 65535, in float64.

    Args:
        path: the file; which of its channels is the matte is `aimmat.images.read_alpha`'s rule.

    Returns:
        (H, W) float64 in [0, 1].

    Raises:
        AimmatError: as `read_alpha`.
    """
    levels = read_alpha(path)
    with Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            values = np.asarray(ImageOps.exif_transpose(image))
            return values.astype(np.float64) / (65535 if values.dtype.kind in "iu" else 1)
        deep = image.tile and re.search(r";16[BLN]\b", str(image.tile[0].args))
    if deep:  # "RGBA;16B": Pillow keeps the upper byte of each value, OpenCV both, but turned as they are stored
        found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        for channel in () if found is None else (found[..., -1], found[..., 0]):
            if np.array_equal(channel // 256, levels):
                return channel.astype(np.float64) / 65535
    return levels / 255


def score_pair(pair: Pair, protocol: MetricProtocol = "aim", fit: bool = False) -> dict[str, float]:
    """Measure one image.

    Args:
        pair: its files.
        protocol: "aim" or "matlab", as `aimmat.metrics.measure` takes it.
        fit: resize a prediction of another size to the truth's, bilinearly, instead of refusing it.

    Returns:
        What `measure` returns, as numbers: ten more regions with a trimap than without.

    Raises:
        AimmatError: a file cannot be read, or sizes differ.
    """
    import torch  # here, not above: a process that hands the work to others starts without it

    from aimmat.functional.metrics import measure
    from aimmat.functional.resize import resize

    alpha, pred = read_matte(pair.truth), read_matte(pair.pred)
    trimap = None if pair.trimap is None else read_trimap(pair.trimap)
    if pred.shape != alpha.shape and not fit:
        raise AimmatError(
            f"{pair.pred} is {_size(pred)} pixels and {pair.truth} {_size(alpha)}; predict at the size of the truth, "
            f"or give --resize"
        )
    if trimap is not None and trimap.shape != alpha.shape:
        raise AimmatError(
            f"{pair.trimap} is {_size(trimap)} pixels and {pair.truth} {_size(alpha)}; give the trimap of this image"
        )
    fitted = resize(torch.from_numpy(pred)[None, None], (alpha.shape[0], alpha.shape[1])).clamp(0, 1)
    regions = None if trimap is None else torch.from_numpy(trimap)[None, None]
    scores = measure(fitted, torch.from_numpy(alpha)[None, None], regions, protocol)
    return {name: score.item() for name, score in scores.items()}


def score_pairs(pairs: Sequence[Pair], score: Callable[[Pair], dict[str, float]], jobs: int = 1) -> list[Outcome]:
    """Measure images, in several processes if asked to, with a progress bar on stderr.

    Args:
        pairs: the files of each image.
        score: measures one; a function of a module, or `functools.partial` of one.
        jobs: processes; 1 stays in this one.

    Returns:
        For each pair its scores, or the sentence that says why there are none.

    Raises:
        AimmatError: a process was ended from outside.
    """
    outcome = partial(_outcome, score)
    if jobs == 1:
        _prepare()
        return list(_shown(map(outcome, pairs), len(pairs)))
    with _pool(jobs) as pool:
        try:
            with _uninterrupted():
                outcomes = pool.map(outcome, pairs)
            return list(_shown(outcomes, len(pairs)))
        except BrokenProcessPool:
            raise AimmatError(
                "a process that scored was ended from outside, most often for want of memory; give a smaller --jobs"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def read_types(path: Path) -> dict[str, Kind]:
    """Read the type and category of each image.

    Args:
        path: JSON, {name: {"type": "SO", "category": "animal"}}, as AIM-500 has it, or CSV with the columns name, type
            and category (a rows.csv is one). The category may be left out.

    Returns:
        Name of an image to its type and category.

    Raises:
        AimmatError: the file cannot be read or is neither, or a word is unknown.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            entries = {name: (entry["type"], entry.get("category")) for name, entry in json.loads(text).items()}
        else:
            lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            entries = {line["name"]: (line["type"], line.get("category")) for line in lines}
    except OSError as error:
        raise AimmatError(f"cannot read the types in {path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise AimmatError(
            f"{path} is no file of types ({type(error).__name__}: {error}); give JSON, "
            f'{{"name": {{"type": "SO", "category": "animal"}}}}, or CSV with the columns name, type and category'
        ) from None
    kinds: dict[str, Kind] = {}
    for name, (type_, category) in entries.items():
        try:
            kinds[name] = ImageType(type_), Category(category) if category else None
        except ValueError as error:
            raise AimmatError(
                f"{path}, {name}: {error}; the types are {', '.join(ImageType)}, the categories {', '.join(Category)}"
            ) from None
    return kinds


def _files(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their names before the suffix."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            if path.stem in files:
                raise AimmatError(f"{folder} holds {files[path.stem].name} and {path.name}; keep one of them")
            files[path.stem] = path
    if not files:
        raise AimmatError(f"there is no picture in {folder}; it must hold PNGs or other pictures, not only folders")
    return files


def _listed(names: Sequence[str], most: int = 10) -> str:
    """'a, b, c and 4 more'."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _size(matte: np.ndarray) -> str:
    return f"{matte.shape[1]} x {matte.shape[0]}"


def _outcome(score: Callable[[Pair], dict[str, float]], pair: Pair) -> Outcome:
    try:
        return score(pair)
    except Exception as error:  # one bad file costs its own line, not the run
        return sentence(error)


def _shown(outcomes: Iterable[Outcome], total: int) -> Iterable[Outcome]:
    console = Console(stderr=True)
    return track(outcomes, "scoring", total, console=console, transient=True, disable=not console.is_terminal)


def _prepare() -> None:
    """One thread a process: processes share the work, and sums come out the same with any number of them."""
    import torch

    keep_memory()
    torch.set_num_threads(1)


def _prepare_child() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _prepare()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Answer Ctrl-C at the end: a process whose parent is interrupted while it starts it would complain."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def _pool(jobs: int) -> ProcessPoolExecutor:
    """Processes that are forked, where the system can, from one that has imported torch once for all of them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _prepare_child)
    from multiprocessing import forkserver  # Windows cannot import it

    forkserver.set_forkserver_preload(["aimmat.functional.metrics", "aimmat.functional.resize", "aimmat.tables"])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C must not interrupt its imports
    forkserver.ensure_running()
    signal.signal(signal.SIGINT, before)
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("forkserver"), _prepare_child)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aimmat.score",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="predicted mattes: a folder or a file")
    parser.add_argument("truth", type=Path, metavar="TRUTH", help="true mattes: a folder or a file")
    parser.add_argument("--trimaps", type=Path, metavar="DIR", help="trimaps: 0, 255, what is between is transition")
    parser.add_argument("--types", type=Path, metavar="FILE", help="type and category of each image, JSON or CSV")
    parser.add_argument(
        "--protocol",
        choices=("aim", "matlab"),
        default="aim",
        help="errors as the AIM release counts them, or Deep Image Matting's MATLAB code (%(default)s)",
    )
    parser.add_argument("--resize", action="store_true", help="bring predictions of another size to the truth's")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (as many as CPUs, fewer for few images)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="folder for rows.csv and tables (PREDICTIONS_scores)"
    )
    return parser


def _run(given: argparse.Namespace) -> int:
    predictions: Path = given.predictions
    name = predictions.resolve().stem if predictions.is_file() else predictions.resolve().name
    output: Path = given.output or predictions.resolve().with_name(f"{name}_scores")
    pairs, lonely = find_pairs(predictions, given.truth, given.trimaps)
    if given.truth.is_dir() and output.resolve().is_relative_to(given.truth.resolve()):
        raise AimmatError(f"{output} lies in the folder of the truth; choose another place for the results with -o")
    place = next(path for path in (output, *output.parents) if path.exists())
    if not place.is_dir():  # said now, not when hours of scoring have nowhere to go
        raise AimmatError(f"{place} is a file; choose a folder for the results with -o")
    if not os.access(place, os.W_OK):
        raise AimmatError(f"{place} cannot be written; choose another folder for the results with -o")
    kinds: dict[str, Kind] = {}
    if given.types is not None:
        kinds = read_types(given.types)
        if missing := [pair.name for pair in pairs if pair.name not in kinds]:
            raise AimmatError(
                f"{given.types} says nothing of {_listed(missing)}; add what is missing "
                f"(it names {_listed(sorted(kinds), 3) or 'no image'}; names are without .png)"
            )
    jobs = min(os.cpu_count() or 1, 1 + len(pairs) // 16) if given.jobs is None else given.jobs
    if jobs < 1:
        raise AimmatError(f"--jobs must be 1 or more, got {jobs}")
    for line in lonely:
        print(line, file=sys.stderr)

    score = partial(score_pair, protocol=given.protocol, fit=given.resize)
    outcomes = score_pairs(pairs, score, min(jobs, len(pairs)))
    rows, failed = [], 0
    for pair, outcome in zip(pairs, outcomes, strict=True):
        if isinstance(outcome, str):
            print(f"error: {pair.name}: {outcome}", file=sys.stderr)
            failed += 1
        else:
            rows.append(Row(pair.name, *kinds.get(pair.name, (None, None)), outcome))
    if not rows:
        raise AimmatError("no pair could be scored, so nothing was written")
    usual = ", where benchmarks of this protocol count the transition" * (given.protocol == "matlab")
    remarks = [
        f"Regions: those of the trimaps in {given.trimaps}."
        if given.trimaps
        else f"No trimaps were given: errors count the whole image{usual}.",
        "Predictions of another size were resized to the truth's." * given.resize,
        f"{failed} of {len(pairs)} pairs could not be scored." * (failed > 0),
        *(f"{line.partition(':')[0]}." for line in lonely),
    ]
    table = results_table({name: rows}, given.protocol, " ".join(remark for remark in remarks if remark))
    write_rows(output / "rows.csv", rows, method=name, protocol=given.protocol)
    write_file(output / "tables.md", table.to_markdown())
    write_file(output / "tables.tex", table.to_latex())
    console = Console()
    console.print(table.to_console())
    console.print(f"  {output}: rows.csv (a line an image), tables.md, tables.tex", soft_wrap=True, markup=False)
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see `python -m aimmat.score --help`."""
    given = _parser().parse_args(arguments)
    return guarded(lambda: _run(given))


if __name__ == "__main__":
    sys.exit(main())
