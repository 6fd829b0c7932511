"""Foreground colours of photographs with an alpha, estimated once and kept as files."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from aimmat.data.errors import read_pair
from aimmat.data.layouts import Entry
from aimmat.remote import local
from aimmat.schema import AimmatError

MISSING = "foregrounds are estimated by pymatting, which is not installed; pip install 'aimmat[fg]' adds it"


def estimate_foreground(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The foreground's colours, free of the background that shines through soft pixels.

    Args:
        image: (H, W, 3) uint8, a photograph.
        alpha: (H, W) uint8.

    Returns:
        (H, W, 3) uint8, straight; beyond the alpha it goes on smoothly.

    Raises:
        AimmatError: pymatting is not installed.

    Source:
        Germer, Uelwer, Conrad, Harmeling. Fast Multi-Level Foreground Estimation. ICPR 2020.
    """
    try:
        from pymatting import estimate_foreground_ml
    except ImportError:
        raise AimmatError(MISSING) from None
    estimated: np.ndarray = estimate_foreground_ml(image / 255.0, alpha / 255.0)
    return np.asarray(np.rint(np.clip(estimated, 0, 1) * 255).astype(np.uint8))


def foreground_path(entry: Entry, folder: Path) -> Path:
    """Where the estimated foreground of an entry is kept: another file when one of its sources changes."""
    digest = hashlib.sha256()
    for path in (entry.path, entry.alpha or entry.path):
        try:
            stat = local(path).stat()
        except OSError as error:
            raise AimmatError(f"cannot read {path}: {error.strerror}") from error
        digest.update(f"{path}\n{stat.st_size}\n{stat.st_mtime_ns}\n".encode())
    return folder / f"{entry.stem}-{digest.hexdigest()[:12]}.png"


def with_foreground(entry: Entry, folder: Path) -> Entry:
    """An entry that has the colours of its foreground, estimated now unless they are there; whole files or none.

    Args:
        entry: a photo with its alpha.
        folder: where the colours are kept, as PNG.

    Raises:
        AimmatError: a file cannot be read or written, is not fit to train on, or pymatting is not installed.
    """
    path = foreground_path(entry, folder)
    if not path.exists():
        image, alpha = read_pair(entry, photo=True)
        foreground = Image.fromarray(estimate_foreground(image, alpha))
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            foreground.save(partial, "PNG", compress_level=3)
            partial.replace(path)
        except OSError as error:
            raise AimmatError(
                f"cannot write {path}: {error.strerror or error}; make room or choose another folder"
            ) from error
        finally:
            with suppress(OSError):
                partial.unlink()
    return replace(entry, foreground=path)
