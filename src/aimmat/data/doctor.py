"""The data doctor: what is wrong with the files of a data set, before a training meets them."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import groupby, islice
from pathlib import Path
from string import Template
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from aimmat.data.errors import OPAQUE, VISIBLE, colour_path, decode_pair, faults, trimap_of
from aimmat.data.hashing import Fingerprint, alike, fingerprint, over_grey
from aimmat.data.layouts import Entry, Location
from aimmat.data.processes import mapped
from aimmat.data.scenes import _limited
from aimmat.images import read_alpha, read_image
from aimmat.remote import opened
from aimmat.schema import AimmatError, Category, ImageType

SEVERITIES = {
    "error": "spoil a training",
    "warning": "may make a training worse",
    "note": "are read as they should be",
}
KINDS = {  # kind of finding: (severity, heading)
    "layout": ("error", "Files without a partner"),
    "unreadable": ("error", "Files that cannot be used"),
    "size": ("error", "Picture and alpha of different sizes"),
    "trimap": ("error", "Trimaps that cannot be used"),
    "small": ("error", "Too small"),
    "empty": ("error", "Empty alphas"),
    "full": ("error", "Full alphas"),
    "premultiplied": ("error", "Premultiplied colours"),
    "leak": ("error", "Pictures in two splits"),
    "mask": ("warning", "Hard masks"),
    "bleed": ("warning", "Background in the colours of a foreground"),
    "duplicate": ("warning", "Pictures that come twice"),
    "turned": ("warning", "Picture and alpha turned differently"),
    "cmyk": ("warning", "CMYK"),
    "decoder": ("warning", "Remarks of the decoder"),
    "balance": ("warning", "Balance"),
    "bare": ("note", "Photographs without an alpha"),
    "orientation": ("note", "Turned by EXIF orientation"),
    "depth": ("note", "Not 8 bits"),
    "palette": ("note", "Palettes"),
    "frames": ("note", "Several frames"),
}
SHOWN = 24  # findings of a kind that the page shows with pictures

_SIDE = 256  # pixels, the longer side at which colours are looked at
_THUMB = 160  # pixels, the longer side of a picture in the page


class Finding(NamedTuple):
    """One thing that the doctor has to say."""

    kind: str  # one of KINDS
    sentence: str
    entries: tuple[Entry, ...] = ()  # the pictures it is about

    @property
    def severity(self) -> str:
        """One of SEVERITIES."""
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class Examined:
    """What one picture showed; small, so that those of a large data set fit into memory."""

    findings: tuple[Finding, ...]
    digest: bytes = b""  # of the bytes of its files
    prints: tuple[Fingerprint | None, ...] = ()  # of the picture and of its cut-out, where it has them


@dataclass(frozen=True)
class Report:
    """What the doctor has to say of a data set."""

    entries: Sequence[Entry]
    findings: Sequence[Finding]
    seconds: float

    def of(self, severity: str) -> list[Finding]:
        """The findings of a severity, by kind in the order of `KINDS`."""
        order = list(KINDS)
        found = [finding for finding in self.findings if finding.severity == severity]
        return sorted(found, key=lambda finding: order.index(finding.kind))

    @property
    def summary(self) -> str:
        """The counts in one line."""
        counts = ", ".join(f"{n:,} {name}{'s' * (n != 1)}" for name in SEVERITIES for n in [len(self.of(name))])
        speed = len(self.entries) / max(self.seconds, 1e-9)
        return f"{len(self.entries):,} pictures in {self.seconds:.1f} s ({speed:.0f} a second): {counts}"


def check(
    entries: Sequence[Entry],
    jobs: int = 1,
    defects: Iterable[str] = (),
    shown: Callable[[Iterator[Examined]], Iterable[Examined]] = iter,
) -> Report:
    """Examine every picture of a data set, then all of them together.

    Args:
        entries: the pictures, of any role.
        jobs: processes; each holds one picture at a time.
        defects: what is known to be wrong with the layout, a sentence each.
        shown: wraps the pictures as they are examined, for a progress bar.
    """
    start = time.perf_counter()
    examined = list(shown(mapped(examine, entries, jobs)))
    findings = [Finding("layout", sentence) for sentence in defects]
    findings += [finding for one in examined for finding in one.findings]
    findings += _repeated(entries, examined)
    findings += _balance(entries)
    findings = [finding._replace(sentence=_printable(finding.sentence)) for finding in findings]
    return Report(entries, findings, time.perf_counter() - start)


def examine(entry: Entry) -> Examined:
    """What the files of one entry show by themselves."""
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        try:
            examined = _examine(entry)
        except Exception as error:  # one bad file costs its own line, not the report
            sentence = str(error) if isinstance(error, AimmatError) else f"{entry.path} cannot be used: {error!r}"
            examined = Examined((Finding("unreadable", sentence, (entry,)),))
    texts = dict.fromkeys(str(remark.message) for remark in remarks)
    said = _findings(entry, (("decoder", f"{entry.path}: {text}") for text in texts))
    return replace(examined, findings=examined.findings + said)


def _examine(entry: Entry) -> Examined:
    colour, alpha = _decode(entry)
    headers = [(path, _header(path)) for path in _paths(entry)]
    found = [finding for path, header in headers for finding in header.findings(path)]
    if alpha is None:
        if entry.role not in ("background", "class"):
            found.append(("bare", f"{entry.path} has no alpha: it is there to be looked at, not to train or test on"))
        return _examined(entry, found, colour, colour, None)
    if headers[-1][1].turn != headers[0][1].turn:
        found.append(
            (
                "turned",
                f"{entry.path} has the EXIF orientation {headers[0][1].turn} and its alpha {entry.alpha} "
                f"{headers[-1][1].turn}; see whether they fit, and save both upright",
            )
        )
    wrong = list(faults(entry, colour, alpha))
    picture = colour
    if entry.foreground is not None:
        picture = read_image(entry.path)
        wrong += [fault for fault in faults(entry, picture, alpha, photo=True) if fault not in wrong]
    if entry.trimap is not None:
        try:
            trimap_of(entry, alpha)
        except AimmatError as error:
            wrong.append(("trimap", str(error)))
    found += wrong
    if any(kind == "size" for kind, _ in wrong):
        return Examined(_findings(entry, found))
    if not wrong and entry.role != "saliency" and is_mask(alpha):
        found.append(("mask", f"{entry.alpha or entry.path} is a hard mask: it has no soft edge to learn from"))
    coloured = entry.role == "foreground" or entry.foreground is not None
    if not wrong and coloured and (ground := bleeding(colour, alpha, picture)):
        found.append(
            (
                "bleed",
                f"{colour_path(entry)} has {ground} in the colours of its soft pixels, which draws a halo; save it "
                f"with straight colours, or as a photo with its alpha for python -m aimmat.prepare foregrounds",
            )
        )
    return _examined(entry, found, picture, colour, alpha)


def _printable(text: str) -> str:
    """The text with what is no character, as file names of another encoding have it, written as escapes."""
    return text.encode(errors="backslashreplace").decode()


def is_mask(alpha: np.ndarray) -> bool:
    """Whether an alpha has edges and no soft pixels on them.

    Args:
        alpha: (H, W) uint8.

    Source:
        Soft pixels are 8 to 247. For each pixel on an edge, the sample set's mattes have 0.32 and more of them, but for
        one with straight sides; cut at 128 they have none, and 0.10 at most when that is kept as JPEG of quality 90.
    """
    kernel = np.ones((3, 3), np.uint8)
    edges = np.count_nonzero(cv2.absdiff(cv2.dilate(alpha, kernel), cv2.erode(alpha, kernel)) > 127)
    return bool(np.count_nonzero((alpha >= VISIBLE) & (alpha <= OPAQUE)) < 0.15 * edges)


def bleeding(colour: np.ndarray, alpha: np.ndarray, behind: np.ndarray) -> str:
    """What shines through the colours of soft pixels: "the background", "black", "white" or nothing, "".

    A soft pixel of a clean foreground has the colour of the opaque pixels around it, F. One that was taken from a
    composite lies between F and the background there, B: nearer to B the smaller its alpha. So C - F is fitted by
    (1 - alpha) (B - F), over all soft pixels.

    Args:
        colour: (H, W, 3) uint8.
        alpha: (H, W) uint8.
        behind: (H, W, 3) uint8; where alpha is 0, what the colours were taken from.
    """
    step = -(-max(alpha.shape) // _SIDE)
    colour, alpha, behind = colour[::step, ::step], alpha[::step, ::step], behind[::step, ::step]
    soft = (alpha > 12) & (alpha < 242)
    near, foreground = _around(colour, alpha > OPAQUE)
    far, background = _around(behind, alpha == 0)
    weight = 1 - alpha[soft, None].astype(np.float32) / 255
    excess = colour[soft].astype(np.float32) - foreground[soft]
    for ground, other, known in (
        ("black", np.zeros_like(excess), near[soft]),
        ("white", np.full_like(excess, 255), near[soft]),
        ("the background", background[soft], near[soft] & far[soft]),
    ):
        pull = other - foreground[soft]
        clear = known & ((pull**2).sum(axis=1) > 40**2)  # where B and F are far enough apart to be told apart
        if np.count_nonzero(clear) < 50:
            continue
        expected, seen = (weight * pull)[clear], excess[clear]
        slope = (seen * expected).sum() / (expected**2).sum()
        left = ((seen - expected) ** 2).sum() / max((seen**2).sum(), 1e-6)
        if 0.85 < slope < 1.15 and left < 0.2:
            return ground
    return ""


def _around(colour: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where there are pixels of a mask nearby, and the mean colour of these, (H, W, 3) float32."""
    weight = where.astype(np.float32)
    sigma = max(2.0, 0.013 * max(where.shape))
    total = cv2.GaussianBlur(colour * weight[..., None], (0, 0), sigma)
    share = cv2.GaussianBlur(weight, (0, 0), sigma)
    return share > 0.02, total / np.maximum(share, 1e-6)[..., None]


class _Header(NamedTuple):
    """What a file says of itself before it is decoded."""

    mode: str
    deep: bool
    turn: int  # EXIF orientation
    frames: int

    def findings(self, path: Location) -> Iterator[tuple[str, str]]:
        """A word and a sentence for each thing that is out of the ordinary."""
        if self.mode == "CMYK":
            yield (
                "cmyk",
                f"{path} is CMYK: its colours are converted without their profile; look at them or save it as RGB",
            )
        if self.mode in ("P", "PA"):
            yield "palette", f"{path} has a palette: 256 colours at most"
        if self.deep or self.mode == "1":
            kind = {"1": "1 bit a channel", "F": "floating-point numbers"}.get(self.mode, "16 bits a channel")
            yield "depth", f"{path} has {kind}; it is read as 8 bits"
        if self.turn != 1:
            yield "orientation", f"{path} is turned as its EXIF orientation, {self.turn}, says"
        if self.frames > 1:
            yield "frames", f"{path} has {self.frames} frames; the first is used"


def _header(path: Location) -> _Header:
    with opened(path) as file, Image.open(file) as image:
        stored = str(image.tile[0].args) if image.tile else ""  # "RGBA;16B": Pillow keeps a byte of each value
        deep = image.mode.startswith(("I", "F")) or ";16" in stored
        return _Header(image.mode, deep, image.getexif().get(0x0112, 1), getattr(image, "n_frames", 1))


def _decode(entry: Entry) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour and alpha as a training reads them; no alpha for pictures that need none, or have none."""
    if entry.role in ("background", "class"):
        return read_image(entry.path), None
    if entry.role == "photo" and entry.alpha is None:
        picture = read_image(entry.path)
        with opened(entry.path) as file, Image.open(file) as image:
            return picture, read_alpha(entry.path) if image.has_transparency_data else None
    return decode_pair(entry)


def _paths(entry: Entry) -> list[Location]:
    """The files of an entry, each once: the picture first, the alpha last."""
    return list(dict.fromkeys(path for path in (entry.path, entry.foreground, entry.alpha) if path is not None))


def _examined(
    entry: Entry, found: list[tuple[str, str]], picture: np.ndarray, colour: np.ndarray, alpha: np.ndarray | None
) -> Examined:
    prints = [] if entry.role == "foreground" else [fingerprint(picture)]
    if alpha is not None and entry.role != "saliency":
        prints.append(fingerprint(over_grey(colour, alpha)))
    with opened(entry.path) as file:
        digest = hashlib.sha256(file.read()).digest()
    return Examined(_findings(entry, found), digest, tuple(prints))


def _findings(entry: Entry, found: Iterable[tuple[str, str]]) -> tuple[Finding, ...]:
    return tuple(Finding(kind, sentence, (entry,)) for kind, sentence in found)


def _repeated(entries: Sequence[Entry], examined: Sequence[Examined]) -> Iterator[Finding]:
    """Files and pictures that come more than once; each is named once, with the worst of its likes."""
    first: dict[bytes, int] = {}
    pairs: dict[tuple[int, int], str] = {}
    for j, (entry, seen) in enumerate(zip(entries, examined, strict=True)):
        if seen.digest and (i := first.setdefault(seen.digest, j)) != j:
            pairs[i, j] = "is listed again, as" if entries[i].path == entry.path else "is the same file as"
    owners = [index for index, seen in enumerate(examined) for _ in seen.prints]
    for i, j in alike([one for seen in examined for one in seen.prints]):
        if owners[i] != owners[j]:
            pairs.setdefault((owners[i], owners[j]), "looks like")
    worst: dict[int, Finding] = {}
    for (i, j), relation in pairs.items():
        one, other = entries[i], entries[j]
        splits = one.split != other.split
        leak = splits and not one.role == other.role == "background"
        sentence = f"{other.path} ({other.split}) {relation} {one.path} ({one.split}); " + (
            "keep it in one split" if splits else "keep one of them"
        )
        if j not in worst or (leak and worst[j].kind != "leak"):
            worst[j] = Finding("leak" if leak else "duplicate", sentence, (one, other))
    yield from worst.values()


def _balance(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Types that the training does not show."""
    train = [entry for entry in entries if entry.split == "train" and _is_typed(entry)]
    missing = [kind for kind in ImageType if all(entry.type != kind for entry in train)]
    if train and missing:
        yield Finding(
            "balance",
            f"none of {len(train):,} pictures to train on is {' or '.join(missing)}; add some, or tell their types: "
            f"python -m aimmat.prepare types proposes them",
        )


def _is_typed(entry: Entry) -> bool:
    return entry.role == "foreground" or (entry.role == "photo" and entry.alpha is not None)


def page(report: Report, title: str, jobs: int = 1) -> str:
    """One HTML page that holds all it shows: counts, the balance of types and categories, findings with thumbnails.

    Args:
        report: of `check`.
        title: heading of the page.
        jobs: processes that make the thumbnails.
    """
    template = Template(files("aimmat.data").joinpath("doctor.html").read_text(encoding="utf-8"))
    groups = {
        kind: list(group)
        for severity in SEVERITIES
        for kind, group in groupby(report.of(severity), key=lambda finding: finding.kind)
    }
    shown = [finding for group in groups.values() for finding in group[:SHOWN]]
    cards = mapped(_card, shown, max(1, min(jobs, len(shown))))
    parts = []
    for severity, meaning in SEVERITIES.items():
        count = len(report.of(severity))
        parts.append(f'<h2 class="{severity}">{severity.capitalize()}s: {count:,} <small>{meaning}</small></h2>')
        for kind in (kind for kind in groups if KINDS[kind][0] == severity):
            group, shut = groups[kind], "" if severity == "note" else " open"
            parts.append(f"<details{shut}><summary>{KINDS[kind][1]} <small>{len(group):,}</small></summary>")
            parts += islice(cards, len(group[:SHOWN]))
            parts += [f"<p>{html.escape(finding.sentence)}</p>" for finding in group[SHOWN:]]
            parts.append("</details>")
    return _printable(
        template.substitute(
            title=html.escape(title),
            summary=html.escape(report.summary),
            balance=_table(report.entries),
            findings="\n".join(parts),
        )
    )


def _card(finding: Finding) -> str:
    pictures = "".join(_thumbs(entry) for entry in finding.entries)
    return f'<article><p>{html.escape(finding.sentence)}</p><div class="strip">{pictures}</div></article>'


def _thumbs(entry: Entry) -> str:
    """The pictures of an entry that can be read, small."""
    shown = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            colour, alpha = _decode(entry)
            shown["colours"] = colour
            if alpha is not None:
                shown["alpha"] = alpha
        except Exception:  # its sentence says why
            with suppress(AimmatError):
                shown["picture"] = read_image(entry.path)
    name = html.escape(Path(str(entry.path)).name)
    return "".join(
        f'<figure><img src="{_data_uri(_limited(image, _THUMB))}" alt="{what} of {name}"><figcaption>{name}: '
        f"{what}</figcaption></figure>"
        for what, image in shown.items()
    )


def _data_uri(image: np.ndarray) -> str:
    webp = io.BytesIO()
    Image.fromarray(image).save(webp, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(webp.getvalue()).decode()}"


def _table(entries: Sequence[Entry]) -> str:
    """How many pictures of each role a split has, and how many of these are of each type and category."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for entry in entries:
        words = [entry.type, entry.category] if _is_typed(entry) else []
        counts[entry.split, entry.role].update(["pictures", *words])
    columns = ["pictures", *ImageType, *Category]
    head = "".join(f"<th scope=col>{column}</th>" for column in ("split", "role", *columns))
    rows = "".join(
        f"<tr><th scope=row>{split}</th><th scope=row>{role}</th>"
        + "".join(f"<td>{count[column] or ''}</td>" for column in columns)
        + "</tr>"
        for (split, role), count in counts.items()
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
