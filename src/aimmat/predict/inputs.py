"""Which pictures are meant, how they are read, and which of a folder that fills are whole."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from aimmat.images import IMAGE_SUFFIXES, read_image
from aimmat.schema import AimmatError

SUFFIXES = (*IMAGE_SUFFIXES, ".gif")  # lower case; a GIF is refused by its name, not overlooked


class Photo(NamedTuple):
    """A picture as it is predicted."""

    path: Path
    colours: np.ndarray  # (H, W, 3) uint8, upright
    profile: bytes | None  # ICC, of RGB colours


def find(inputs: Sequence[str], may_be_empty: bool = False) -> tuple[list[Path], list[Path]]:
    """Find the pictures that files, folders and patterns stand for.

    A folder stands for the pictures directly in it, by their suffixes; hidden files do not count. What exists under
    its name is no pattern, whatever characters it has. A file that is named twice counts once.

    Args:
        inputs: as they were given.
        may_be_empty: folders and patterns may have no picture yet.

    Returns:
        The pictures, in the order given and sorted in folders and patterns, and the files of other kinds beside them.

    Raises:
        AimmatError: nothing is called so, or a folder or pattern has no picture.
    """
    found: dict[str, Path] = {}
    others: list[Path] = []
    for given in inputs:
        path = Path(given)
        if path.is_file():
            pictures = [path]
        elif path.is_dir() or glob.has_magic(given):
            entries = path.iterdir() if path.is_dir() else map(Path, glob.glob(given, recursive=True))
            files = sorted(entry for entry in entries if not entry.name.startswith(".") and entry.is_file())
            pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
            others += [file for file in files if file.suffix.lower() not in SUFFIXES]
            if not (pictures or may_be_empty):
                there = (
                    f"{_counted(len(files), 'file')} of other kinds, such as {files[0].name}" if files else "no file"
                )
                raise AimmatError(
                    f"there is no picture in {given}, but {there}; "
                    f"name pictures, their folder, or a pattern such as '{path.parent / path.name}/**/*.jpg'"
                    if path.is_dir()
                    else f"the pattern {given} fits no picture, but {there}; name pictures, a folder or another pattern"
                )
        else:
            raise AimmatError(f"there is no file or folder {given}; name one that exists")
        for picture in pictures:
            found.setdefault(os.path.abspath(picture), picture)
    return list(found.values()), others


def read_photo(path: Path) -> Photo:
    """Read a picture: its colours, turned the way its EXIF orientation says, and what they mean.

    Args:
        path: the file. A photograph with a preview behind it (MPO, in files of phones called .jpg) is that photograph.

    Returns:
        The picture. Its profile is None if it has none, or one of CMYK or grey, which its RGB colours no longer have.

    Raises:
        AimmatError: it cannot be read, or is a GIF or another file of several frames or pages.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, but not refused
        colours = read_image(path)
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if image.format == "GIF" or (frames > 1 and image.format != "MPO"):
                what = "a GIF" if image.format == "GIF" else f"a file of {frames} frames or pages"
                raise AimmatError(f"cannot use {path}: it is {what}; save the one that is meant as PNG or JPEG")
            profile = image.info.get("icc_profile")
    return Photo(path, colours, profile if profile and profile[16:20] == b"RGB " else None)


class Settled:
    """Tells which files are whole: those whose size and time have not changed between two looks."""

    def __init__(self) -> None:
        self._waiting: dict[Path, tuple[int, int]] = {}
        self._done: dict[Path, tuple[int, int]] = {}

    def __call__(self, paths: Iterable[Path]) -> list[Path]:
        """Look at them again.

        Args:
            paths: all files that are there now.

        Returns:
            Those that are whole since the last look; one that changes later comes again.
        """
        whole = []
        for path in paths:
            try:
                status = path.stat()
            except OSError:  # gone since it was listed
                continue
            stamp = (status.st_size, status.st_mtime_ns)
            if self._done.get(path) == stamp:
                continue
            if self._waiting.get(path) == stamp:
                self._done[path] = self._waiting.pop(path)
                whole.append(path)
            else:
                self._waiting[path] = stamp
        return whole


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"
