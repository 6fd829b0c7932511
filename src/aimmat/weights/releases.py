"""Released weights: what there is, what it should measure, and its download into a cache."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aimmat.remote import CACHE, cache_dir
from aimmat.schema import AimmatError

if TYPE_CHECKING:
    from rich.progress import Progress

TIMEOUT = 30.0  # seconds without a byte from the server

_AIM = "github.com/JizhiziLi/AIM at 48e3dc8, README.md, core/README.md and core/config.py"
_DRIVE = "https://drive.google.com/uc?export=download&id="
_COLUMNS = (  # Table 2 of the paper, left to right, as tables.summarise names its values
    *("sad", "mse", "mad", "conn", "grad", "sad_transition"),
    *("sad/type/SO", "sad/type/STM", "sad/type/NS", "sad/type/avg"),
    *("sad/cat/animal", "sad/cat/portrait", "sad/cat/transparent", "sad/cat/plant"),
    *("sad/cat/furniture", "sad/cat/toy", "sad/cat/fruit", "sad/cat/avg"),
)


@dataclass(frozen=True)
class Release:
    """Weights that somebody published."""

    name: str
    kind: Literal["matting", "saliency", "backbone"]
    address: str  # as published
    file: str  # its name in the cache
    licence: str
    source: str  # where these facts were read
    note: str = ""
    sha256: str | None = None  # None: not known
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # test -> figure -> value, as published
    verified: bool = False  # True once the address was seen to answer with a file that gives the figures


def _table_2(*values: float) -> dict[str, float]:
    return dict(zip(_COLUMNS, values, strict=True))


RELEASES: dict[str, Release] = {
    release.name: release
    for release in (
        Release(
            name="aim-matting",
            kind="matting",
            address=f"{_DRIVE}16dd1FGMcsMTqR6EfD2T9mtRmPwxnY0zs",
            file="aimnet_pretrained_matting.pth",
            licence="MIT",
            source=_AIM,
            note="AimNet, trained again by its authors: the model of the paper's figures (SAD 43.92) was lost. "
            "The release's own script tests with 1/4 + 1/2; the average over types printed for that, 86.27, is not the "
            "mean of the three, 85.93. Also at https://pan.baidu.com/s/1-twrRBtVqNq3uunadJuIaw, password evik.",
            figures={
                "AIM-500, hybrid 1/4 + 1/3": _table_2(
                    *(41.72, 0.0153, 0.0248, 41.23, 33.97, 28.47, 30.57, 86.94, 125.97, 81.16),
                    *(24.97, 24.11, 131.20, 52.11, 65.09, 50.11, 35.26, 54.69),
                ),
                "AIM-500, hybrid 1/4 + 1/2": _table_2(
                    *(44.25, 0.0165, 0.0263, 43.78, 34.66, 28.89, 32.48, 91.86, 133.46, 86.27),
                    *(26.05, 25.09, 137.31, 57.75, 68.88, 53.81, 36.87, 57.97),
                ),
            },
        ),
        Release(
            name="aim-duts",
            kind="saliency",
            address=f"{_DRIVE}1EKkKNHvOvUwjFYs_a3iSNn5TpBlGbp1s",
            file="aimnet_pretrained_duts.pth",
            licence="MIT",
            source=_AIM,
            note="AimNet after its saliency stage on DUTS, before matting. "
            "Also at https://pan.baidu.com/s/1jb89x41GU9YS0Stac_GdSw, password ud73.",
        ),
        Release(
            name="aim-r34mp",
            kind="backbone",
            address=f"{_DRIVE}18Pt-klsbkiyonMdGi6dytExQEjzBnHwY",
            file="r34mp_pretrained_imagenet.pth.tar",
            licence="MIT",
            source=_AIM,
            note="ResNet-34 with max-pooling (mp), trained on ImageNet. "
            "Also at https://pan.baidu.com/s/1vdMQwtu8lnhtLRPjYFG8rA, password 2v1t.",
        ),
        Release(
            name="resnet34",
            kind="backbone",
            # A commit, not a branch: the hash is not known, so the file at least must not change under its address.
            address="https://huggingface.co/timm/resnet34.tv_in1k/resolve/c983eba7f5e69bc3548a626d1b0b0b914e5de3a6/model.safetensors",
            file="resnet34.tv_in1k.safetensors",
            licence="BSD-3-Clause",
            source="huggingface.co/timm/resnet34.tv_in1k; figures: torchvision's ResNet34_Weights.IMAGENET1K_V1",
            note="Plain ResNet-34 of torchvision as timm keeps it, 87.3 MB. Its tensors fit the mp encoder by name and "
            "shape, but that encoder has other strides than they were trained for.",
            figures={"ImageNet-1K": {"accuracy top-1": 73.314, "accuracy top-5": 91.42}},
        ),
    )
}


def fetch(name: str, cache: str | PathLike[str] | None = None) -> Path:
    """Find a release's file in the cache, or download it there.

    A file that lies in the cache is taken as it is, whoever put it there, and the network is left alone. A download
    that broke off goes on where it stopped, if the server can do that and still has the same file. The sha256 of a
    file is compared where it is known, else printed.

    Args:
        name: one of `RELEASES`.
        cache: the folder; None takes `cache_dir()`.

    Returns:
        The path of the file.

    Raises:
        AimmatError: no such release, it cannot be downloaded, another file came, or the cache cannot be written.
    """
    if name not in RELEASES:
        raise AimmatError(f"expected the name of a release ({', '.join(RELEASES)}), got {name!r}")
    release = RELEASES[name]
    folder = Path(cache) if cache is not None else cache_dir()
    path = folder / release.file
    if path.is_file():
        return path

    import requests
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # who waited here finds the file of who went first
            _retrieve(release, path)
    except (requests.RequestException, ValueError) as error:
        raise AimmatError(
            f"cannot download {name} from {release.address}: {_reason(error)}; open that address in a browser, "
            f"then give the file by its path or put it at {path}"
        ) from error
    except OSError as error:
        raise AimmatError(
            f"cannot keep {name} at {path}: {str(error.strerror or error).lower()}; "
            f"make room, or name another folder in {CACHE}"
        ) from error
    return path


def to_markdown() -> str:
    """The releases as a Markdown table, and the figures that they should give as a list."""
    lines = [
        "| name | kind | file | licence | sha256 | seen to work | |",
        "| :-- | :-- | :-- | :-- | :-- | :-- | :-- |",
    ]
    for release in RELEASES.values():
        cells = (
            *(f"`{release.name}`", release.kind, f"[{release.file}]({release.address})", release.licence),
            *(release.sha256 or "not known", "yes" if release.verified else "no, untried here"),
            f"{release.note} Source: {release.source}.",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Published figures:", ""]
    for release in RELEASES.values():
        for test, figures in release.figures.items():
            lines.append(f"- `{release.name}`, {test}: {', '.join(f'{key} {value}' for key, value in figures.items())}")
    return "\n".join([*lines, ""])


def _retrieve(release: Release, path: Path) -> None:
    """Download a file, check its hash, and only then give it its name."""
    import pooch

    part = path.with_name(f"{path.name}.part")

    def download(address: str, output_file: str, _: object) -> None:
        _stream(address, part, release.name)
        part.replace(output_file)

    pooch.get_logger().setLevel("WARNING")  # its notes speak of the arguments of its own functions
    pooch.retrieve(_endpoint(release.address), release.sha256, path.name, path.parent, downloader=download)
    if release.sha256 is None:
        print(f"{path}: sha256 {pooch.file_hash(str(path))}, with nothing known to compare it with", file=sys.stderr)


def _endpoint(address: str) -> str:
    """The address that is asked: for a file shared on Google Drive, the one behind its question about large files.

    Source:
        What users of that host write into their scripts; untried here.
    """
    if not address.startswith(_DRIVE):
        return address
    return f"https://drive.usercontent.google.com/download?{address.partition('?')[2]}&confirm=t"


def _stream(address: str, part: Path, title: str) -> None:
    """Download into a partial file, from where it ends if the server still has the version that its tag names."""
    import requests

    tag = part.with_name(f"{part.name}.tag")
    start = part.stat().st_size if part.is_file() and tag.is_file() else 0
    headers = {"Accept-Encoding": "identity"}  # a compressed answer has other bytes and lengths than the file
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": tag.read_text("latin-1")}
    with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        goes_on = (
            start > 0
            and version == headers["If-Range"]
            and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        )
        if start and not goes_on and answer.status_code in (206, 416):
            tag.unlink()  # another version, or more bytes than the server has: begin anew
            _stream(address, part, title)
            return
        answer.raise_for_status()
        chunks = answer.iter_content(1 << 16)
        first = next(chunks, b"")
        if not first:
            raise ValueError("the server sent nothing")
        if "text/html" in answer.headers.get("Content-Type", "") or re.match(rb"\s*<(!doctype )?html", first, re.I):
            raise ValueError("a web page came instead of the file, as from a host that asks back first or refuses")
        if not goes_on:
            tag.unlink(missing_ok=True)
            start = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with part.open("ab" if goes_on else "wb") as file, _progress() as progress:
            if version and not goes_on:
                tag.write_text(version, "latin-1")  # only now: a kill before must not leave old bytes under it
            task = progress.add_task(title, total=total, completed=start)
            whole = False
            with suppress(requests.RequestException):
                for chunk in chain([first], chunks):
                    file.write(chunk)
                    progress.update(task, advance=len(chunk))
                whole = total in (None, file.tell())
            size = file.tell()
    if not whole:
        again = ", ask again to go on from there" if tag.is_file() else ""
        raise ValueError(f"the connection broke off at {size / 1e6:.1f} MB{again}")
    tag.unlink(missing_ok=True)


def _progress() -> Progress:
    """Bytes, speed and time left, on a terminal only."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console, disable=not console.is_terminal)


def _reason(error: Exception) -> str:
    """What went wrong between here and the server, in a few words."""
    import requests
    from requests import exceptions

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    said = {
        exceptions.ProxyError: "the proxy does not let it through",
        exceptions.SSLError: "the server's certificate is not trusted here",
        exceptions.Timeout: f"the server does not answer within {TIMEOUT:g} seconds",
        exceptions.ConnectionError: "the network is closed, or the server is out of reach or silent",
        exceptions.ChunkedEncodingError: "the connection broke off",
    }
    known = [words for kind, words in said.items() if isinstance(error, kind)]
    return known[0] if known else str(error).partition(". ")[0]  # what follows is pooch's advice to programmers
