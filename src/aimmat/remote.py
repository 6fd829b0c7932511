"""Files that lie elsewhere: URLs of every kind that fsspec knows, and members of tar and zip archives.

A file is fetched when it is first read and kept in a folder of this machine; what lies there is taken as it is. An
archive is fetched whole, and its members are read in place: `tar://cats/1.png::https://example.org/cats.tar`.
"""

from __future__ import annotations

import errno
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from aimmat.schema import AimmatError

CACHE = "AIMMAT_CACHE"  # names the folder of downloaded files
TIMEOUT = 30.0  # seconds without a byte from the server
ARCHIVES = ("tar", "zip")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_remote(location: str | PathLike[str]) -> bool:
    """Whether a location is a URL or a member of an archive, not a file's path."""
    return isinstance(location, str) and "://" in location


@contextmanager
def opened(location: str | PathLike[str]) -> Iterator[BinaryIO]:
    """A file to read from, wherever it lies.

    Args:
        location: a path, a URL, or a member of an archive: `tar://MEMBER::` or `zip://MEMBER::` before either.

    Raises:
        AimmatError: it cannot be fetched, or an archive is damaged or lacks the member.
        OSError: a file on this machine cannot be opened.
    """
    member = _member(location)
    if member is None:
        with local(location).open("rb") as file:
            yield file
    else:
        archive = local(location)
        try:
            content = (_read_zip if str(location).startswith("zip://") else _read_tar)(archive, member)
        except KeyError:
            raise AimmatError(f"cannot read {location}: its archive has no {member}; correct the manifest") from None
        yield BytesIO(content)


def local(location: str | PathLike[str]) -> Path:
    """The file on this machine that holds a location: itself, the copy of a URL, or the archive of a member.

    Raises:
        AimmatError: it cannot be fetched or kept.
    """
    if not is_remote(location):
        return Path(location)
    url = str(location)
    if _member(url) is not None:
        return local(url.partition("::")[2])
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    digest = sha256(url.encode()).hexdigest()
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(url.partition("?")[0]).name)[-80:]
    path = cache_dir() / "files" / digest[:2] / f"{digest[2:18]}-{name}"
    if not path.is_file():
        from filelock import FileLock

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.parent / "lock"):  # who waited here finds the file of who went first
                if not path.is_file():
                    _fetch(url, path)
        except OSError as error:
            raise AimmatError(
                f"cannot keep {url} at {path}: {str(error.strerror or error).lower()}; "
                f"make room, or name another folder in {CACHE}"
            ) from error
    return path


def cache_dir() -> Path:
    """The folder of downloaded files: the environment's AIMMAT_CACHE, else `aimmat` in the user's cache folder."""
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE]).expanduser()
    import pooch

    return Path(pooch.os_cache("aimmat"))


def stem(location: str | PathLike[str]) -> str:
    """A file's name without folder and extension, of a member and not of its archive.

    >>> stem("tar://cats/one.png::https://example.org/cats.tar"), stem("https://example.org/one.two.png?key=1.2")
    ('one', 'one.two')
    """
    return PurePosixPath(str(location).partition("::")[0].partition("?")[0] if is_remote(location) else location).stem


def _member(location: str | PathLike[str]) -> str | None:
    """The name inside an archive; None for what is not inside one."""
    head, mark, archive = str(location).partition("::")
    kind, _, name = head.partition("://")
    if kind not in ARCHIVES or not is_remote(location):
        return None
    if not mark or not archive or not name:
        raise AimmatError(f"{location} names no member of an archive; write {kind}://MEMBER::ARCHIVE")
    return name


def _fetch(url: str, path: Path) -> None:
    """Download a file and only then give it its name."""
    from fsspec.callbacks import Callback
    from fsspec.core import url_to_fs

    part, said = path.with_name(f"{path.name}.part"), Callback()
    try:
        system, address = url_to_fs(url, **_options(url))
        system.get_file(address, str(part), callback=said)
        size = part.stat().st_size
        if said.size not in (None, size):
            raise _BrokenOff(f"the download broke off at {size:,} of {said.size:,} bytes")
        with part.open("rb") as file:
            if re.match(rb"\s*<(!doctype )?html", file.read(64), re.IGNORECASE):
                raise _BrokenOff("a web page came instead of the file, as from a host that asks back first or refuses")
        part.replace(path)
    except Exception as error:  # every file system of fsspec has its own kinds of complaint
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        raise AimmatError(f"cannot fetch {url}: {_reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)


class _BrokenOff(Exception):
    """What came is not the file."""


def _options(url: str) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        return {}
    from aiohttp import ClientTimeout

    headers = {"Accept-Encoding": "identity"}  # a compressed answer has other lengths than the file
    timeout = ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
    return {"client_kwargs": {"headers": headers, "timeout": timeout, "trust_env": True}}


def _reason(error: Exception) -> str:
    """What went wrong, in a few words, and how to mend it."""
    text = " ".join(str(error).split()) or type(error).__name__
    status = getattr(error, "status", None)
    if isinstance(error, _BrokenOff):
        return f"{text}; try again, or download it yourself and name the file"
    if isinstance(error, FileNotFoundError):
        return "there is no such file; correct the manifest"
    if status or isinstance(error, PermissionError):
        return f"the server refuses{f' with {status}' if status else ''}; see that you have access"
    if isinstance(error, ImportError | ValueError):
        return f"{text}; install what is named there, or download the file and name it"
    if type(error).__name__ == "ClientPayloadError":
        return "the download broke off; try again, or download it yourself and name the file"
    if isinstance(error, OSError | TimeoutError):
        return f"the network is closed, or the server is out of reach ({text}); try again, or name a file"
    return f"{text} ({type(error).__name__}); download it yourself and name the file"


def _read_tar(path: Path, member: str) -> bytes:
    offset, size = _tar_index(path, path.stat().st_mtime_ns)[member]
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


@lru_cache(maxsize=64)
def _tar_index(path: Path, modified: int) -> dict[str, tuple[int, int]]:
    """Where the members of a tar begin and how long they are, so that one is read without looking at the others."""
    try:
        with tarfile.open(path, "r:") as tar:
            return {found.name.removeprefix("./"): (found.offset_data, found.size) for found in tar if found.isfile()}
    except tarfile.TarError as error:
        raise AimmatError(
            f"{path} is damaged or no plain tar ({error}); fetch it again, and unpack it if it is compressed"
        ) from error


def _read_zip(path: Path, member: str) -> bytes:
    try:
        return _zip(path, path.stat().st_mtime_ns, os.getpid()).read(member)
    except (zipfile.BadZipFile, RuntimeError, EOFError) as error:  # also a password or an unknown compression
        raise AimmatError(f"{path} is damaged or no plain zip ({error}); fetch it again") from error


@lru_cache(maxsize=64)
def _zip(path: Path, modified: int, process: int) -> zipfile.ZipFile:
    """An open zip; a forked process opens its own, since the place in a file is shared."""
    return zipfile.ZipFile(path)
