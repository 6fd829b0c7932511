"""Pictures that crops are read from: files decoded whole, or a cache of plain arrays of which a crop alone is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from aimmat.data.errors import colour_path, read_pair
from aimmat.data.layouts import Entry
from aimmat.data.processes import mapped
from aimmat.data.scenes import _limited, _premultiplied
from aimmat.images import read_image
from aimmat.schema import AimmatError, ImageType

MEND = "run python -m aimmat.prepare cache again"
ROWS = 16  # whose transition pixels are counted together: a pixel is found again by reading no more than these


@dataclass(frozen=True)
class Cutout:
    """A foreground with its matte.

    Args:
        colour: (H, W, 3) uint8, straight; or (H, W, 4), premultiplied and with alpha, as the cache keeps it.
        alpha: (H, W) uint8.
        type: what its transition is.
        running: how many pixels of the transition there are until the end of each `ROWS` rows; None where all count.
    """

    colour: np.ndarray
    alpha: np.ndarray
    type: ImageType
    running: np.ndarray | None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, pixels."""
        height, width = self.alpha.shape
        return height, width

    def crop(self, window: tuple[slice, slice]) -> np.ndarray:
        """Premultiplied colour and alpha of a window, (h, w, 4) uint8."""
        if self.colour.shape[2] == 4:
            return self.colour[window]
        alpha = self.alpha[window]
        return np.asarray(cv2.merge([_premultiplied(self.colour[window], alpha), alpha]))

    def any_pixel(self, rng: np.random.Generator) -> tuple[int, int]:
        """Row and column of a pixel, all of them alike."""
        height, width = self.shape
        return divmod(int(rng.integers(height * width)), width)

    def transition_pixel(self, rng: np.random.Generator) -> tuple[int, int]:
        """Row and column of a pixel of the transition, all of them alike; of any pixel where there is none.

        The transition is that of equation 1 without the few pixels by which a trimap is dilated: what is soft in SO,
        what is visible in STM, everything in NS.
        """
        if self.running is None or not self.running[-1]:
            return self.any_pixel(rng)
        number = int(rng.integers(self.running[-1]))
        block = int(np.searchsorted(self.running, number, side="right"))
        if block:
            number -= int(self.running[block - 1])
        inside = np.flatnonzero(_transition(self.alpha[block * ROWS : (block + 1) * ROWS], self.type))
        row, column = divmod(int(inside[number]), self.shape[1])
        return block * ROWS + row, column


class PictureReader:
    """Foregrounds and backgrounds of a data set, from a cache when one is named, else from their files.

    Args:
        cache: folder that `python -m aimmat.prepare cache` wrote; None decodes the files.

    Raises:
        AimmatError: no such folder.
    """

    def __init__(self, cache: str | Path | None = None) -> None:
        self.cache = None if cache is None else Path(cache).absolute()
        if self.cache and not self.cache.is_dir():
            raise AimmatError(
                f"there is no cache at {self.cache}; make it with python -m aimmat.prepare cache, "
                f"or set data.train.cache=null"
            )

    def cutout(self, entry: Entry) -> Cutout:
        """The foreground of an entry.

        Raises:
            AimmatError: a file is missing, damaged, too small, or not what the cache was made of.
        """
        if self.cache is None:
            colour, alpha = read_pair(entry)
            return Cutout(colour, alpha, entry.type, _running(alpha, entry.type))
        colour, note = _open(CachedPicture.of(entry, self.cache))
        running = None if entry.type is ImageType.NS else np.array(note["transition"][entry.type])
        return Cutout(colour, colour[..., 3], entry.type, running)

    def background(self, entry: Entry) -> np.ndarray:
        """The picture of an entry, (H, W, 3) uint8.

        Raises:
            AimmatError: the file is missing, damaged, or not what the cache was made of.
        """
        if self.cache is None:
            return read_image(entry.path)
        return _open(CachedPicture.of(entry, self.cache))[0]


@dataclass(frozen=True)
class CachedPicture:
    """What one file of a cache is made of, and where it lies.

    Args:
        entry: the background or foreground.
        path: the .npy file; a .json of the same name beside it says what it was made of.
        side: backgrounds are kept at no more than so many pixels a side; None keeps them whole.
    """

    entry: Entry
    path: Path
    side: int | None = None

    @classmethod
    def of(cls, entry: Entry, folder: Path, side: int | None = None) -> CachedPicture:
        """The picture of an entry in the cache `folder`."""
        names = "\n".join(str(source) for source in sources(entry))
        digest = hashlib.sha256(names.encode()).hexdigest()[:16]
        background = entry.role == "background"
        path = folder / ("background" if background else "foreground") / f"{entry.stem}-{digest}.npy"
        return cls(entry, path, side if background else None)


def sources(entry: Entry) -> list[Path]:
    """The files that a picture is decoded from: its colours, and its matte where that is another file.

    Raises:
        AimmatError: one of them is not on a disk.
    """
    found = [colour_path(entry)]
    if entry.role != "background":
        found += [entry.alpha or entry.path]
    for location in found:
        if isinstance(location, str):
            raise AimmatError(f"{location} is not on a disk; a cache is made of files, so copy it first")
    return list(dict.fromkeys(map(Path, found)))


def cached_pictures(entries: Iterable[Entry], folder: str | Path, side: int | None = None) -> list[CachedPicture]:
    """What a cache of these entries holds, each picture once: foregrounds, photos with their colours, backgrounds."""
    root = Path(folder).absolute()
    found = (
        CachedPicture.of(entry, root, side)
        for entry in entries
        if entry.role in ("foreground", "background") or entry.foreground
    )
    return list({picture.path: picture for picture in found}.values())


def is_done(picture: CachedPicture, verify: bool = False) -> bool:
    """Whether the cache holds a picture as its sources are now.

    Args:
        picture: one of `cached_pictures`.
        verify: also compare checksums of the sources and of the array, instead of sizes and times of change alone.
    """
    try:
        note = _note(picture)
        size = picture.path.stat().st_size
        same = note["side"] == picture.side and note["bytes"] == size and not _changed(picture.entry, note)
        if same and verify:
            same = note["sha256"] == _sha256(picture.path) and note["sources"] == _identify(picture.entry)
    except (OSError, ValueError, KeyError):
        return False
    return bool(same)


def bytes_needed(picture: CachedPicture) -> int:
    """Size of a picture in the cache, from the header of its file; 0 if that cannot be read."""
    try:
        with Image.open(sources(picture.entry)[0]) as image:
            width, height = image.size
    except OSError:
        return 0  # what is wrong with it is said when it is decoded
    if picture.entry.role != "background":
        return 4 * height * width
    zoom = min(1, picture.side / max(height, width)) if picture.side else 1
    return 3 * max(1, round(height * zoom)) * max(1, round(width * zoom))


def write_cache(pictures: Sequence[CachedPicture], jobs: int = 1) -> Iterator[str]:
    """Decode pictures into the cache, each one whole or not at all.

    Args:
        pictures: those to write.
        jobs: processes.

    Yields:
        For each picture "" when its files are in place, else the sentence that says what is wrong with its source.

    Raises:
        AimmatError: the disk is full or cannot be written.
    """
    return mapped(_write, pictures, jobs)


def free_bytes(folder: str | Path) -> int:
    """What is free on the disk on which a folder lies or will lie."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _write(picture: CachedPicture) -> str:
    entry = picture.entry
    transition = {}
    try:
        identity = _identify(entry)
        if entry.role == "background":
            pixels = read_image(entry.path)
            pixels = _limited(pixels, picture.side) if picture.side else pixels
        else:
            colour, alpha = read_pair(entry)
            pixels = np.asarray(cv2.merge([_premultiplied(colour, alpha), alpha]))
            transition = {kind: _running(alpha, kind).tolist() for kind in (ImageType.SO, ImageType.STM)}  # type: ignore[union-attr]
    except AimmatError as error:
        return str(error)
    note: dict[str, Any] = {"sources": identity, "side": picture.side, "transition": transition}
    try:
        picture.path.parent.mkdir(parents=True, exist_ok=True)
        partial = picture.path.with_name(f"{picture.path.name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as file:
                np.save(file, pixels)
            note |= {"bytes": partial.stat().st_size, "sha256": _sha256(partial)}
            partial.replace(picture.path)
            partial.write_text(json.dumps(note), encoding="utf-8")
            partial.replace(_note_path(picture))
        finally:
            with suppress(OSError):
                partial.unlink()
    except OSError as error:
        raise AimmatError(
            f"cannot write {picture.path}: {error.strerror or error}; make room or choose another folder"
        ) from error
    return ""


def _open(picture: CachedPicture) -> tuple[np.ndarray, dict[str, Any]]:
    """The array, mapped and not read, and the note beside it; refused when a source is no longer the one noted."""
    path, cache = sources(picture.entry)[0], picture.path.parent.parent
    try:
        note = _note(picture)
        if changed := _changed(picture.entry, note):
            raise AimmatError(f"{changed} is not the file that the cache {cache} was made of; {MEND}")
        return np.load(picture.path, mmap_mode="r"), note
    except FileNotFoundError:
        raise AimmatError(f"{path} is not in the cache {cache}; {MEND}, or set data.train.cache=null") from None
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise AimmatError(f"{picture.path} is damaged ({error}); {MEND} with --verify") from None


def _note_path(picture: CachedPicture) -> Path:
    return picture.path.with_suffix(".json")


def _note(picture: CachedPicture) -> dict[str, Any]:
    return json.loads(_note_path(picture).read_bytes())  # type: ignore[no-any-return]


def _changed(entry: Entry, note: dict[str, Any]) -> Path | None:
    """The first source whose size or time of change is not the one noted; a missing one counts."""
    for path, was in zip(sources(entry), note["sources"], strict=True):
        try:
            now = path.stat()
        except OSError:
            return path
        if (now.st_size, now.st_mtime_ns) != (was["bytes"], was["modified"]):
            return path
    return None


def _identify(entry: Entry) -> list[dict[str, Any]]:
    found = []
    for path in sources(entry):
        try:
            stat = path.stat()
            found.append(
                {"path": str(path), "bytes": stat.st_size, "modified": stat.st_mtime_ns, "sha256": _sha256(path)}
            )
        except OSError as error:
            raise AimmatError(f"cannot read {path}: {error.strerror}; the cache needs every picture") from error
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _transition(alpha: np.ndarray, image_type: ImageType) -> np.ndarray:
    return alpha > 0 if image_type is ImageType.STM else (alpha > 0) & (alpha < 255)


def _running(alpha: np.ndarray, image_type: ImageType) -> np.ndarray | None:
    if image_type is ImageType.NS:
        return None
    starts = range(0, len(alpha), ROWS)
    return np.cumsum([np.count_nonzero(_transition(alpha[row : row + ROWS], image_type)) for row in starts])
