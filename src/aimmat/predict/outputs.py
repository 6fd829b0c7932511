"""Where results go, and how they get there: whole, under their final name, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from aimmat.schema import AimmatError

if TYPE_CHECKING:
    from aimmat.inference.cutout import Foreground

FORMATS = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}  # suffix -> Pillow's name
EXTRAS = {"matte": ("matte",), "trimap": ("trimap",), "parts": ("semantic", "matting")}  # option -> folders in OUT

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class Job(NamedTuple):
    """A picture, and the files that are made of it."""

    path: Path
    targets: dict[str, Path]  # "main" or a folder of EXTRAS -> file


@dataclass(frozen=True)
class Look:
    """What the files hold: a cut-out, unless `matte` or `background` says otherwise."""

    matte: bool = False
    background: np.ndarray | None = None  # (3,) a colour, (H, W, 3) a picture; uint8
    premultiplied: bool = False
    fg: Foreground = "ml"
    bits: Literal[8, 16] = 8  # of mattes
    quality: int = 90  # of WebP and JPEG


class Plan:
    """Gives each picture its files, and no file to two pictures.

    Args:
        out: the folder of all results.
        suffix: of the main file, a word of FORMATS.
        extras: what else is written, words of EXTRAS.
        overwrite: also give files that exist already.
    """

    def __init__(self, out: Path, suffix: str, extras: Iterable[str] = (), overwrite: bool = False) -> None:
        self.out = out
        self.suffix = suffix
        self.folders = [folder for extra in extras for folder in EXTRAS[extra]]
        self.overwrite = overwrite
        self._owners: dict[Path, Path] = {}  # main file -> its picture

    def main(self, path: Path) -> Path:
        """The main file of a picture: its own name with another suffix."""
        return self.out / f"{path.stem}.{self.suffix}"

    def job(self, path: Path) -> Job:
        """Name the files of a picture: the main one in `out`, what is extra in folders there.

        Args:
            path: the picture.

        Returns:
            The picture with its files, without those that exist and stay.

        Raises:
            AimmatError: a file would take the place of another picture's, or of the picture itself.
        """
        main = self.main(path)
        owner = self._owners.setdefault(main, path)
        if owner != path:
            raise AimmatError(f"{owner} and {path} would both become {main}; rename one of them or leave it out")
        targets = {"main": main} | {folder: self.out / folder / f"{path.stem}.png" for folder in self.folders}
        if path.resolve() in [target.resolve() for target in targets.values()]:
            raise AimmatError(f"{path} would be replaced by its own result; choose another folder with -o")
        return Job(path, {kind: file for kind, file in targets.items() if self.overwrite or not file.exists()})

    def jobs(self, paths: Sequence[Path]) -> list[Job]:
        """The same for several pictures.

        Raises:
            AimmatError: as above, or a picture would be replaced by the result of another.
        """
        jobs = [self.job(path) for path in paths]
        pictures = {path.resolve(): path for path in paths}
        for path, targets in jobs:
            for target in targets.values():
                if lost := pictures.get(target.resolve()):
                    raise AimmatError(
                        f"{lost} would be replaced by the result of {path}; choose another folder with -o"
                    )
        return jobs


def check_place(out: Path) -> None:
    """Refuse a folder that cannot be written, before any time is spent.

    Raises:
        AimmatError: it is a file, is named as one, or may not be written.
    """
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not place.is_dir():
        raise AimmatError(f"{place} is a file; choose a folder for the results with -o")
    if place != out and out.suffix.lower().removeprefix(".") in FORMATS:
        raise AimmatError(f"-o names a folder, and {out} looks like a file; its pictures keep their own names")
    if not os.access(place, os.W_OK | os.X_OK):
        raise AimmatError(f"{place} cannot be written; choose another folder for the results with -o")


def write_picture(path: Path, levels: np.ndarray, profile: bytes | None = None, quality: int = 90) -> None:
    """Write a picture, whole or not at all; its folder is made if missing, a file that exists is replaced.

    Args:
        path: the file; its suffix says the format, see FORMATS.
        levels: (H, W), (H, W, 3) or (H, W, 4) uint8.
        profile: ICC profile of the colours.
        quality: of WebP and JPEG; a WebP of 100 is lossless. The alpha channel of a WebP always is.

    Raises:
        AimmatError: it cannot be written, or the format cannot hold it.
    """
    options: dict[str, Any] = {
        "png": {"compress_level": 4},  # half the time of Pillow's 6 for 8 % more bytes, of photographs
        "webp": {"quality": quality} if quality < 100 else {"lossless": True},
        "jpg": {"quality": quality, "subsampling": 0 if quality >= 90 else 2},
    }[path.suffix[1:]]
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(partial, format=FORMATS[path.suffix[1:]], icc_profile=profile, **options)
        partial.replace(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise AimmatError(f"cannot write {path}: {reason}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def is_hopeless(error: BaseException) -> bool:
    """Whether nothing else can be written either: a full disk, a folder that may not be written."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _HOPELESS
