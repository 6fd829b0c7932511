"""Pictures and alpha mattes as files: every format that Pillow reads becomes plain uint8 arrays; mattes become PNG.

Wherever a file is read, a URL or a member of an archive may be named in its place (`aimmat.remote`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import IO, Literal, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from aimmat.remote import opened
from aimmat.schema import AimmatError, Protocol, SemanticClass, is_release

T = TypeVar("T")

_PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"pHYs", b"sRGB", b"iCCP"}  # of PNGs: pixels, no more
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")  # lower case


def read_image(path: str | PathLike[str]) -> np.ndarray:
    """Read a picture as RGB, turned the way its EXIF orientation says.

    Grey, palette, CMYK and 16-bit files become 8-bit RGB. The colour of an RGBA file is returned as it is stored:
    its alpha channel is left out, not composited. Colour profiles are ignored, an animation gives its first frame.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8.

    Raises:
        AimmatError: the file is missing, unreadable, truncated or no image.
    """
    return _decode(path, to_rgb, _plain_png)


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Read a picture as `read_image` does, from memory instead of a file.

    Args:
        content: of the file.
        name: what errors call it.

    Returns:
        (H, W, 3) uint8.

    Raises:
        AimmatError: the content is truncated or no image.
    """
    return _decode(name, to_rgb, _plain_png, content)


def read_alpha(path: str | PathLike[str]) -> np.ndarray:
    """Read an alpha matte: a grey file of 8 or 16 bits, or the alpha channel of a file that has one.

    A file with three equal colour channels counts as grey, also when an opaque alpha channel (255 everywhere)
    comes with it: many tools save grey mattes so.

    Args:
        path: the file.

    Returns:
        (H, W) uint8, 0 transparent to 255 opaque. 16-bit grey is scaled by 255 / 65535 and rounded; of 16-bit
        RGBA, Pillow keeps the upper byte, which is less than one level off.

    Raises:
        AimmatError: the file is missing, unreadable, truncated, no image, or coloured without an alpha channel.
    """
    return _decode(path, _to_alpha)


def read_trimap(path: str | PathLike[str]) -> np.ndarray:
    """Read a trimap: black is background, white foreground, everything between transition.

    Args:
        path: a grey picture.

    Returns:
        (H, W) int64 class index.

    Raises:
        AimmatError: the file cannot be read, or holds class indices instead of grey levels.
    """
    levels = read_alpha(path)
    if 0 < levels.max() <= SemanticClass.FOREGROUND:
        raise AimmatError(f"{path} holds levels from 0 to {levels.max()}; a trimap has 0, 128 and 255: scale it")
    classes = np.full(levels.shape, SemanticClass.TRANSITION)
    classes[levels == 0], classes[levels == 255] = SemanticClass.BACKGROUND, SemanticClass.FOREGROUND
    return classes


def read_cutout(path: str | PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read a cut-out: the foreground's colour and its alpha channel from one file, colour not premultiplied.

    Args:
        path: the file, for example an RGBA PNG or WebP.

    Returns:
        Colour (H, W, 3) uint8 and alpha (H, W) uint8.

    Raises:
        AimmatError: the file is missing, unreadable, truncated, no image, or has no alpha channel.
    """
    return _decode(path, _to_cutout)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Convert an opened picture to RGB, turned the way its EXIF orientation says; alpha is left out.

    Args:
        image: a Pillow image of any mode.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the picture's values have no known range, or Pillow cannot convert its mode.
    """
    image = _upright(image)
    if _is_deep(image):
        return np.repeat(_to_8_bit(image)[..., None], 3, axis=2)
    if "transparency" in image.info:  # Pillow warns when it drops a palette's transparency on the way to RGB
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def to_uint8(alpha: np.ndarray, protocol: Protocol = "paper") -> np.ndarray:
    """Alpha values as the bytes that a file holds.

    Args:
        alpha: any shape, floating-point values in [0, 1].
        protocol: "paper" rounds to the nearest of the 256 levels; "release" rounds down, as the released code saves.

    Returns:
        The same shape, uint8.

    Raises:
        AimmatError: an unknown protocol.
        ValueError: the values are no floating-point numbers in [0, 1].

    >>> to_uint8(np.array([0.0, 0.5, 0.999, 1.0])), to_uint8(np.array([0.0, 0.5, 0.999, 1.0]), "release")
    (array([  0, 128, 255, 255], dtype=uint8), array([  0, 127, 254, 255], dtype=uint8))
    """
    return _levels(alpha, 8, protocol)


def write_alpha(
    path: str | PathLike[str], alpha: np.ndarray, protocol: Protocol = "paper", bits: Literal[8, 16] = 8
) -> None:
    """Write an alpha matte as a grey PNG file, whole or not at all.

    Args:
        path: the file, named *.png; its folder is made if missing, a file that exists is replaced.
        alpha: (H, W), floating-point values in [0, 1].
        protocol: as for `to_uint8`.
        bits: levels of a pixel, 2 ** bits.

    Raises:
        AimmatError: the file cannot be written or has another suffix, or an unknown protocol.
        ValueError: alpha is no (H, W) of floating-point numbers in [0, 1], or bits is neither 8 nor 16.
    """
    if alpha.ndim != 2 or bits not in (8, 16):
        raise ValueError(f"alpha must be (H, W) and bits 8 or 16, got {alpha.shape} and {bits!r}")
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise AimmatError(f"cannot write {path}: a matte is saved as PNG, which loses nothing; name the file *.png")
    image = Image.fromarray(_levels(alpha, bits, protocol))
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(partial, format="PNG")
        partial.replace(path)
    except OSError as error:
        raise AimmatError(f"cannot write {path}: {error.strerror or _one_line(error)}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _levels(alpha: np.ndarray, bits: int, protocol: Protocol) -> np.ndarray:
    """Values in [0, 1] as whole levels, 0 to 2 ** bits - 1."""
    if not np.issubdtype(alpha.dtype, np.floating) or not ((alpha >= 0) & (alpha <= 1)).all():
        raise ValueError(f"alpha must hold floating-point values in [0, 1], got {_what(alpha)}; divide 0..255 by 255")
    levels: np.ndarray = alpha.astype(np.float64) * (2**bits - 1)
    if not is_release(protocol):
        np.rint(levels, out=levels)
    return levels.astype(f"uint{bits}")


def _what(values: np.ndarray) -> str:
    return f"{values.dtype}" + (f", {values.min():g} to {values.max():g}" if values.size else "")


def _to_alpha(image: Image.Image) -> np.ndarray:
    if _is_deep(image):
        return _to_8_bit(ImageOps.exif_transpose(image))
    if image.mode == "L":
        return np.array(_upright(image))
    colour, grey = to_rgb(image), image.mode == "1"
    alpha = None if grey or not image.has_transparency_data else _to_cutout(image)[1]
    if alpha is not None and alpha.min() < 255:
        return alpha
    if grey or (colour == colour[..., :1]).all():
        return colour[..., 0]
    if alpha is not None:
        return alpha
    raise ValueError("it is in colour and has no alpha channel; give a grey matte or a file with an alpha channel")


def _to_cutout(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    if not image.has_transparency_data:
        raise ValueError(f"it has no alpha channel (its mode is {image.mode}); save the cut-out as an RGBA PNG")
    rgba = np.array(ImageOps.exif_transpose(image).convert("RGBA"))
    return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; `exif_transpose` copies also what it need not turn."""
    return image if image.getexif().get(ExifTags.Base.Orientation, 1) == 1 else ImageOps.exif_transpose(image)


def _is_deep(image: Image.Image) -> bool:
    """Whether a pixel is one number of more than 8 bits; Pillow would clip it, not scale it."""
    return image.mode == "F" or image.mode.startswith("I")


def _to_8_bit(image: Image.Image) -> np.ndarray:
    """Scale 16-bit integers (also those that Pillow holds in 32 bits) or floats in [0, 1] to 0..255, rounded."""
    values = np.asarray(image).astype(np.float64)
    highest, name = (1.0, "floating-point numbers") if image.mode == "F" else (65535.0, "integers")
    if not (values.min() >= 0 and values.max() <= highest):  # so written, NaN is refused too
        raise ValueError(
            f"its {name} must lie in [0, {highest:g}], got {values.min():g} to {values.max():g}; "
            f"save it with 8 or 16 bits"
        )
    return np.rint(values * (255 / highest)).astype(np.uint8)


def _plain_png(file: IO[bytes], image: Image.Image) -> np.ndarray | None:
    """An 8-bit RGB PNG by OpenCV, which takes a tenth less time; None for all else, and for what OpenCV refuses.

    It must be whole and have nothing but pixels: no transparent colour, frames, or text that may turn it. JPEGs stay
    with Pillow, since OpenCV reads damaged ones without a word.
    """
    tile = getattr(image, "tile", [])
    if image.format != "PNG" or not tile or tile[0].args != "RGB":
        return None
    import cv2  # here, since not everybody who writes a matte waits for it

    file.seek(0)
    content = file.read()
    chunks, place = set(), 8
    while place < len(content):
        chunks.add(content[place + 4 : place + 8])
        place += 12 + int.from_bytes(content[place : place + 4], "big")
    if place > len(content) or b"IEND" not in chunks or not chunks <= _PLAIN_CHUNKS:
        return None
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None


def _decode(
    path: str | PathLike[str],
    convert: Callable[[Image.Image], T],
    quick: Callable[[IO[bytes], Image.Image], T | None] = lambda file, image: None,
    content: bytes | None = None,
) -> T:
    """Open, decode and convert a file, or take what `quick` makes of it; every failure becomes one sentence."""
    try:
        with opened(path) if content is None else BytesIO(content) as file, Image.open(file) as image:
            if (result := quick(file, image)) is not None:
                return result
            try:
                image.load()
            except Exception as error:  # each of Pillow's decoders has its own kinds of complaint
                raise AimmatError(
                    f"cannot read {path}: the file is truncated or damaged ({_one_line(error)}); "
                    f"copy or download it again"
                ) from error
            return convert(image)
    except FileNotFoundError as error:
        raise AimmatError(f"cannot read {path}: no such file") from error
    except UnidentifiedImageError as error:
        raise AimmatError(
            f"cannot read {path}: its content is no image in a format that Pillow knows; give a PNG, JPEG, WebP or TIFF"
        ) from error
    except Image.DecompressionBombError as error:
        raise AimmatError(f"cannot read {path}: {_one_line(error)}; shrink the picture first") from error
    except OSError as error:
        raise AimmatError(f"cannot read {path}: {error.strerror or _one_line(error)}") from error
    except ValueError as error:
        raise AimmatError(f"cannot use {path}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
