"""`python -m aimmat.predict INPUT... -o OUT`: cut-outs and mattes of pictures in files."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageColor
from rich.console import Console
from rich.progress import Progress

from aimmat.console import guarded, keep_memory, sentence
from aimmat.predict.inputs import Settled, find, read_photo
from aimmat.predict.outputs import EXTRAS, FORMATS, Job, Look, Plan, check_place
from aimmat.schema import AimmatError

if TYPE_CHECKING:
    from aimmat.inference import Predictor

POLL = 1.0  # seconds between two looks of --watch

DECODERS = ("semantic_scale", "matting_scale")
SCALES = {"hybrid": DECODERS, "resize": ("scale",), "tile": DECODERS}  # strategy -> what --scales sets

DESCRIPTION = """\
Cuts the foreground out of pictures: one file for each, under the picture's own name, in the folder OUT. It is a cut-out
with an alpha channel unless --matte or --background asks for something else. Colour profiles are kept, orientation is
applied, other metadata is left out."""

EPILOG = """\
A picture that cannot be predicted is named at the end, the others are predicted, and the exit code is 1. What is in OUT
already is left as it is and not predicted again, so the same command goes on after an interruption.

Two pictures that would have one name in OUT, such as a.jpg and a.png, are refused. Folders are not searched for
folders: '**/*.jpg' in quotes is. An alpha channel that a picture brings along is not used."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see `python -m aimmat.predict --help`."""
    given = _parser().parse_args(arguments)
    return guarded(lambda: _run(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aimmat.predict",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="pictures, folders of pictures, or patterns")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder to write into")
    parser.add_argument(
        "-w", "--weights", metavar="PATH_OR_NAME", help="a run's folder, a file of weights or the name of a release"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in OUT already")
    parser.add_argument("--watch", action="store_true", help="wait for more pictures; Ctrl-C ends it")

    what = parser.add_argument_group("what is written")
    kind = what.add_mutually_exclusive_group()
    kind.add_argument("--matte", action="store_true", help="the alpha matte as a grey PNG, not a cut-out")
    kind.add_argument(
        "--background",
        metavar="COLOUR|PICTURE",
        help="the foreground on a colour (white, '#20c0ff') or on a picture, which is fitted and cropped",
    )
    kind.add_argument("--premultiplied", action="store_true", help="cut-outs whose colours are multiplied by alpha")
    what.add_argument("--format", choices=FORMATS, default="png", help="of cut-outs and --background (%(default)s)")
    what.add_argument(
        "--quality",
        type=int,
        default=90,
        metavar="Q",
        help="of webp and jpg, 1 to 100; webp is exact at 100 (%(default)s)",
    )
    what.add_argument("--bits", type=int, choices=(8, 16), default=8, help="of a pixel of mattes (%(default)s)")
    what.add_argument(
        "--fg",
        choices=("ml", "blend", "none"),
        default="ml",
        help="colours of the half-transparent: solved for on many levels, blurred outwards, or the picture's own, "
        "which keep a halo (%(default)s)",
    )
    what.add_argument("--save-matte", action="store_true", help="also the matte, in OUT/matte")
    what.add_argument(
        "--save-trimap", action="store_true", help="also the predicted trimap, 0, 128 and 255, in OUT/trimap"
    )
    what.add_argument(
        "--save-parts",
        action="store_true",
        help="also what each decoder said: OUT/matting, and OUT/semantic, whose red, green and blue are the "
        "probabilities of background, transition and foreground",
    )

    how = parser.add_argument_group("how it is predicted")
    how.add_argument("--strategy", choices=SCALES, help="how the network sees a picture (as the weights were tested)")
    how.add_argument(
        "--scales",
        metavar="S[,S]",
        help="sides that the network sees over the picture's; hybrid takes two, for semantics and matting: 0.25,0.5",
    )
    how.add_argument("--max-side", type=int, metavar="PIXELS", help="longest side that the network sees")
    how.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one")
    how.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the network (%(default)s)")
    how.add_argument(
        "--max-memory", type=float, metavar="MIB", help="of an AimNet's largest maps at once; more bands, same mattes"
    )
    how.add_argument(
        "--batch", type=int, default=1, metavar="N", help="pictures at once, if one size follows itself (%(default)s)"
    )
    return parser


def _run(given: argparse.Namespace) -> int:
    _check(given)
    look = Look(
        matte=given.matte,
        background=None if given.background is None else _background(given.background),
        premultiplied=given.premultiplied,
        fg=given.fg,
        bits=given.bits,
        quality=given.quality,
    )
    extras = [extra for extra in EXTRAS if getattr(given, f"save_{extra}")]
    plan = Plan(given.output, "png" if given.matte else given.format, extras, given.overwrite)
    paths, others = find(given.inputs, may_be_empty=given.watch)
    if others:
        names = ", ".join(path.name for path in others[:3]) + ", ..." * (len(others) > 3)
        print(f"left out, no pictures by their suffixes: {names} ({len(others)} in all)", file=sys.stderr)
    return _watch(given, plan, look) if given.watch else _predict(given, plan.jobs(paths), look)


def _check(given: argparse.Namespace) -> None:
    """Refuse what cannot be meant, before any time is spent."""
    if given.weights is None:
        raise AimmatError(
            "no weights are given; --weights takes a run's folder (`python -m aimmat.train` trains a small network in "
            "minutes), a file of weights, or aim-matting, which downloads those of the authors of AIM"
        )
    if given.format == "jpg" and given.background is None and not given.matte:
        raise AimmatError("a JPEG has no alpha channel; give --background, or --format png or webp")
    if given.matte and given.save_matte:
        raise AimmatError("--matte writes the matte already; leave --save-matte out")
    for name, highest in (("quality", 100), ("batch", None), ("max_side", None)):
        value = getattr(given, name)
        if value is not None and not 1 <= value <= (highest or value):
            limit = "1 or more" if highest is None else f"from 1 to {highest}"
            raise AimmatError(f"--{name.replace('_', '-')} must be {limit}, got {value}")
    _scales(given.scales)
    check_place(given.output)


def _scales(text: str | None) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise AimmatError(
            f"--scales must be a number or two with a comma between, as in 0.25,0.5, got {text!r}"
        ) from None


def _background(given: str) -> np.ndarray:
    """A colour (3,), or a picture (H, W, 3); a file of that name comes first."""
    if Path(given).exists():
        return read_photo(Path(given)).colours
    try:
        return np.array(ImageColor.getrgb(given)[:3], np.uint8)
    except ValueError:
        raise AimmatError(
            f"--background must be a colour such as white or '#20c0ff', or a picture; {given} is neither"
        ) from None


def _load(given: argparse.Namespace) -> Predictor:
    import aimmat
    from aimmat.predict.work import strategy_of

    keep_memory()
    predictor = aimmat.load(given.weights, given.device, dtype=given.dtype, max_memory=given.max_memory)
    if getattr(predictor.net, "input_channels", 3) == 4:
        name = type(predictor.net).__name__
        raise AimmatError(
            f"{name} mattes by a trimap, which this command has none of; use aimmat.load(...)(picture, trimap)"
        )
    name = given.strategy or type(predictor.strategy).__name__.lower()
    scales, names = _scales(given.scales), SCALES.get(name, ())
    if len(scales) > len(names):
        raise AimmatError(f"--scales of {name} must be {len(names)} at most ({', '.join(names)}), got {len(scales)}")
    options = dict(zip(names, scales, strict=False)) | ({} if given.max_side is None else {"max_side": given.max_side})
    predictor.strategy = strategy_of(predictor.strategy, name, options)
    return predictor


def _predict(given: argparse.Namespace, jobs: list[Job], look: Look) -> int:
    waiting = [job for job in jobs if job.targets]
    if there := len(jobs) - len(waiting):
        print(f"{there} of {len(jobs)} were in {given.output} already; --overwrite replaces them", file=sys.stderr)
    if not waiting:
        return 0
    from aimmat.predict.work import predict_files  # not above: it takes seconds, and what is refused needs no torch

    predictor = _load(given)
    console = Console(stderr=True)
    done, failures = 0, []
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("predicting", total=len(waiting))
            for _, failure in predict_files(predictor, waiting, look, given.batch):
                progress.advance(task)
                if failure is None:
                    done += 1
                else:
                    failures.append(failure)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{done} of {len(waiting)} pictures done; the same command goes on with the others"
        ) from None
    except AimmatError as error:
        raise AimmatError(f"{error}; {done} of {len(waiting)} pictures done") from None
    finally:
        for failure in failures:
            print(f"error: {failure}", file=sys.stderr)
    print(f"{given.output}: {done} of {len(waiting)} pictures done")
    return 1 if failures else 0


def _watch(given: argparse.Namespace, plan: Plan, look: Look) -> int:
    """Predict what settles in folders, until Ctrl-C."""
    out = given.output.resolve()
    if out in [Path(path).resolve() for path in given.inputs]:
        raise AimmatError(
            f"{given.output} is watched and would fill with its own results; choose another folder with -o"
        )
    from aimmat.predict.work import predict_files

    predictor = _load(given)
    print("watching; Ctrl-C ends it", file=sys.stderr)
    settled, done, failed = Settled(), 0, 0
    try:
        while True:
            paths, _ = find(given.inputs, may_be_empty=True)
            jobs = []
            for path in settled(path for path in paths if not path.resolve().is_relative_to(out)):
                try:
                    jobs.append(plan.job(path))
                except AimmatError as error:
                    failed += 1
                    print(f"error: {sentence(error)}", file=sys.stderr)
            for job, failure in predict_files(predictor, [job for job in jobs if job.targets], look, given.batch):
                if failure is None:
                    done += 1
                    print(f"{job.path} -> {plan.main(job.path)}", flush=True)
                else:
                    failed += 1
                    print(f"error: {failure}", file=sys.stderr)
            time.sleep(POLL)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{done} of {done + failed} pictures done") from None
