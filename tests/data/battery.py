"""Files as they come: whole ones of every kind, and ones that are damaged, mislabelled or misleading.

Other tests load the maker with `run_path(".../tests/data/battery.py")["make_battery"]`.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from aimmat.data import Entry

SIDE = 96  # pixels


@dataclass(frozen=True)
class Case:
    """One entry, and what is to be said of it."""

    name: str
    entry: Entry
    kind: str | None = None  # of the doctor's finding; None: it has nothing to say
    words: str = ""  # in its sentence
    stops: bool = False  # a training cannot use it
    pixels: np.ndarray | None = None  # what is read of it: of a background its colours, else its alpha


def cutout(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Colour and alpha of a soft-edged blob that is like no other seed's."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    centre = SIDE / 2 + rng.uniform(-8, 8, 2)
    angle = np.arctan2(y - centre[0], x - centre[1])
    radius = 26 + 6 * np.sin(angle * rng.integers(2, 6) + rng.uniform(0, 6))
    alpha = np.clip((radius - np.hypot(y - centre[0], x - centre[1])) / 4 + 0.5, 0, 1)
    colour = rng.integers(120, 230, 3) + rng.normal(0, 12, (SIDE, SIDE, 1))
    return np.clip(colour, 0, 255).astype(np.uint8), np.rint(alpha * 255).astype(np.uint8)


def scene(seed: int) -> np.ndarray:
    """A picture of soft blotches, (H, W, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(90, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def rgba(seed: int = 0) -> Image.Image:
    """A cut-out in one file."""
    return Image.fromarray(np.dstack(cutout(seed)))


def make_battery(root: Path) -> list[Case]:
    """Write the files.

    Args:
        root: an empty folder.
    """
    cases: list[Case] = []
    for make in (_broken, _kinds, _alphas, _names, _repeated):
        folder = root / make.__name__.strip("_")
        folder.mkdir()
        cases += make(folder)
    return cases


def _broken(folder: Path) -> list[Case]:
    """Files that cannot be decoded."""
    cases = []

    def broken(name: str, content: bytes, words: str, role: str = "foreground") -> None:
        (folder / name).write_bytes(content)
        cases.append(Case(name, Entry(folder / name, role, "train"), "unreadable", words, stops=True))

    whole = {}
    for suffix, seed in (("png", 10), ("webp", 11), ("tiff", 12), ("jpg", 13)):
        picture = rgba(seed) if suffix != "jpg" else Image.fromarray(scene(seed))
        picture.save(folder / f"whole.{suffix}")
        whole[suffix] = (folder / f"whole.{suffix}").read_bytes()
    broken("empty.png", b"", "no image")
    for suffix, content in whole.items():
        role = "background" if suffix == "jpg" else "foreground"
        for share in (0.02, 0.5, 0.9):
            broken(f"cut_{share}.{suffix}", content[: int(len(content) * share)], "cannot read", role)
    flipped = bytearray(whole["png"])
    flipped[len(flipped) // 2] ^= 0xFF
    broken("flipped_byte.png", bytes(flipped), "damaged")
    broken("zeroed.jpg", whole["jpg"][:300] + bytes(len(whole["jpg"]) - 300), "damaged", "background")
    broken("text.png", b"a photograph of a cat", "no image")
    broken("page.jpg", b"<!doctype html><html><body>404 Not Found</body></html>", "no image", "background")
    broken("archive.png", b"PK\x03\x04" + bytes(100), "no image")
    start = _chunk(b"IDAT", zlib.compress(bytes(999)))
    broken("bomb.png", _header(60000, 60000) + start, "exceeds limit")
    broken("too_little.png", _header(SIDE, SIDE) + start, "truncated")
    (folder / "folder.png").mkdir()
    cases.append(
        Case("folder.png", Entry(folder / "folder.png", "foreground", "train"), "unreadable", "directory", stops=True)
    )
    (folder / "link.png").symlink_to(folder / "gone.png")
    cases += [
        Case(name, Entry(folder / name, "foreground", "train"), "unreadable", "no such file", stops=True)
        for name in ("link.png", "missing.png")
    ]
    locked = folder / "locked.png"
    rgba(14).save(locked)
    locked.chmod(0)
    try:
        locked.read_bytes()  # root reads everything
    except PermissionError:
        cases.append(
            Case("locked.png", Entry(locked, "foreground", "train"), "unreadable", "Permission denied", stops=True)
        )
    for name, values in (("nan.tiff", np.nan), ("loud.tiff", 255.0)):
        matte = cutout(15)[1].astype(np.float32) / 255
        matte[40, 40] = values
        Image.fromarray(matte).save(folder / name)
        cases.append(Case(name, _paired(folder, name, 15), "unreadable", "must lie in [0, 1]", stops=True))
    Image.fromarray(scene(16)).save(folder / "colour.png")
    cases.append(
        Case(
            "colour.png",
            _paired(folder, "colour.png", 16),
            "unreadable",
            "it is in colour and has no alpha",
            stops=True,
        )
    )
    Image.fromarray(scene(17)).save(folder / "opaque.png")
    cases.append(
        Case(
            "opaque.png",
            Entry(folder / "opaque.png", "foreground", "train"),
            "unreadable",
            "it has no alpha channel",
            stops=True,
        )
    )
    return cases


def _kinds(folder: Path) -> list[Case]:
    """Files that are read right, though they are no 8-bit RGB or RGBA of one frame."""
    cases = []

    def background(name: str, image: Image.Image, kind: str | None, words: str, **options: object) -> None:
        image.save(folder / name, **options)
        pixels = (
            None if name.endswith((".jpg", ".gif")) else np.asarray(image.convert("RGB"))
        )  # the others lose nothing
        cases.append(Case(name, Entry(folder / name, "background", "train"), kind, words, pixels=pixels))

    background("cmyk.jpg", Image.fromarray(scene(30)).convert("CMYK"), "cmyk", "CMYK")
    background("palette.png", Image.fromarray(scene(31)).quantize(64), "palette", "256 colours")
    background("grey.png", Image.fromarray(scene(32)).convert("L"), None, "")
    background("bits.png", Image.fromarray(scene(34)).convert("1"), "depth", "1 bit")
    turned = Image.Exif()
    turned[0x0112] = 6
    background("turned.jpg", Image.fromarray(scene(35)), "orientation", "6", exif=turned)
    frames = [Image.fromarray(scene(seed)) for seed in (36, 37, 38)]
    background("pages.tiff", frames[0], "frames", "2 frames", save_all=True, append_images=frames[1:2])
    background("moving.gif", frames[1], "frames", "2 frames", save_all=True, append_images=frames[2:])
    deep, grey = scene(39), np.repeat(scene(33)[..., :1], 3, axis=2)
    (folder / "deep_rgb.png").write_bytes(_png_16(deep.astype(np.uint16) * 257))
    Image.fromarray(grey[..., 0].astype(np.uint16) * 257).save(folder / "deep_grey.png")
    for name, pixels in (("deep_rgb.png", deep), ("deep_grey.png", grey)):
        cases.append(Case(name, Entry(folder / name, "background", "train"), "depth", "16 bits", pixels=pixels))

    def matte(name: str, image: Image.Image, seed: int, kind: str | None, words: str) -> None:
        image.save(folder / name)
        cases.append(Case(name, _paired(folder, name, seed), kind, words, pixels=cutout(seed)[1]))

    matte("deep_matte.png", Image.fromarray(cutout(40)[1].astype(np.uint16) * 257), 40, "depth", "16 bits")
    matte("float_matte.tiff", Image.fromarray(cutout(41)[1].astype(np.float32) / 255), 41, "depth", "floating-point")
    matte("grey_alpha.png", Image.fromarray(np.dstack([cutout(42)[1]] * 2)), 42, None, "")
    matte("rgb_matte.png", Image.fromarray(np.dstack([cutout(43)[1]] * 3)), 43, None, "")
    key = rgba(44).quantize(256, Image.Quantize.FASTOCTREE)
    key.save(folder / "palette_cutout.png")
    entry = Entry(folder / "palette_cutout.png", "foreground", "train")
    cases.append(Case("palette_cutout.png", entry, "palette", "256 colours"))
    return cases


def _alphas(folder: Path) -> list[Case]:
    """Files that can be decoded, with an alpha or colours that are wrong."""
    cases = []

    def cut(name: str, colour: np.ndarray, alpha: np.ndarray, kind: str, words: str, stops: bool = True) -> None:
        Image.fromarray(np.dstack([colour, alpha])).save(folder / name)
        cases.append(Case(name, Entry(folder / name, "foreground", "train"), kind, words, stops))

    colour, alpha = cutout(50)
    cut("empty_alpha.png", colour, np.zeros_like(alpha), "empty", "is empty")
    cut("nearly_empty_alpha.png", cutout(51)[0], cutout(51)[1] // 40, "empty", "6 at most")
    cut("full_alpha.png", cutout(52)[0], np.full_like(alpha, 255), "full", "is full")
    colour, alpha = cutout(53)
    share = alpha[..., None] / 255
    cut(
        "premultiplied.png", np.rint(colour * share).astype(np.uint8), alpha, "premultiplied", "brighter than its alpha"
    )
    colour, alpha = cutout(54)
    cut("hard.png", colour, np.where(alpha > 127, np.uint8(255), np.uint8(0)), "mask", "hard mask", stops=False)
    for name, seed, ground, words in (
        ("taken_from_white.png", 55, np.full_like(colour, 255), "white"),
        ("taken_from_a_photo.png", 56, scene(57) // 4, "the background"),
    ):
        colour, alpha = cutout(seed)
        share = alpha[..., None] / 255
        mixed = np.rint(colour * share + ground * (1 - share)).astype(np.uint8)
        cut(name, mixed, alpha, "bleed", words, stops=False)
    pixel = np.full((1, 1, 3), 200, np.uint8)
    cut("pixel.png", pixel, np.full((1, 1), 128, np.uint8), "small", "1 x 1 pixels")
    Image.fromarray(cutout(58)[1][:-1]).save(folder / "short.png")
    cases.append(
        Case("short.png", _paired(folder, "short.png", 58), "size", "96 x 96 pixels but its alpha", stops=True)
    )
    upside = Image.Exif()
    upside[0x0112] = 3
    Image.fromarray(cutout(59)[0]).save(folder / "upside.jpg", exif=upside)
    Image.fromarray(cutout(59)[1]).save(folder / "upright.png")
    entry = Entry(folder / "upside.jpg", "foreground", "train", folder / "upright.png")
    cases.append(Case("upside.jpg", entry, "turned", "orientation 3"))
    entry = Entry(_saved(folder / "lonely.png", Image.fromarray(scene(60))), "photo", "train", folder / "lost.png")
    cases.append(Case("lonely.png", entry, "unreadable", "no such file", stops=True))
    return cases


def _names(folder: Path) -> list[Case]:
    """Good files under names that break careless programs."""
    names = (
        "ünï çödé 猫.png",
        "two  spaces.png",
        "LOUD.PNG",
        "a.b.c.png",
        "percent%20.png",
        "quote'\".png",
        "-dash.png",
    )
    return [
        Case(name, Entry(_saved(folder / name, rgba(seed)), "foreground", "train"), pixels=cutout(seed)[1])
        for seed, name in enumerate(names, start=70)
    ]


def _repeated(folder: Path) -> list[Case]:
    """Pictures that come twice."""
    first = rgba(80)
    first.save(folder / "first.png")
    first.save(folder / "copy.png")
    second = Image.fromarray(scene(81))
    second.save(folder / "second.png")
    second.resize((300, 300)).save(folder / "enlarged.jpg", quality=60)
    third = rgba(82)
    third.save(folder / "third.png")
    third.resize((SIDE * 2, SIDE * 2)).save(folder / "third_again.webp", quality=80)
    entries = {
        "first.png": ("foreground", "train", None, ""),
        "copy.png": ("foreground", "train", "duplicate", "is the same file as"),
        "second.png": ("background", "train", None, ""),
        "enlarged.jpg": ("background", "train", "duplicate", "looks like"),
        "third.png": ("foreground", "train", None, ""),
        "third_again.webp": ("foreground", "test", "leak", "looks like"),
    }
    return [
        Case(name, Entry(folder / name, role, split), kind, words)
        for name, (role, split, kind, words) in entries.items()
    ]


def _saved(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


def _paired(folder: Path, matte: str, seed: int) -> Entry:
    """A foreground whose matte is a file of its own."""
    colour = _saved(folder / f"colour_of_{Path(matte).stem}.png", Image.fromarray(cutout(seed)[0]))
    return Entry(colour, "foreground", "train", folder / matte)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _header(width: int, height: int, bits: int = 8) -> bytes:
    """The beginning of a PNG in colour."""
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))


def _png_16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits in colour, which Pillow reads but does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return _header(width, height, 16) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
