"""Tensors out of any file that may hold weights, and into a file that is written whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from io import BytesIO
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from zipfile import ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from aimmat.schema import AimmatError
from aimmat.weights.hub import fetch_from_hub, hub_name
from aimmat.weights.releases import RELEASES, Release, fetch

Card = dict[str, Any]
Weights = dict[str, Tensor]

FEW = 20  # faults of a kind that one message can list and still be read


class Content(NamedTuple):
    """What lies in a file."""

    weights: Weights  # under plain names: without what DataParallel and torch.compile put before and into them
    card: Card | None  # of a file of ours; None: the names must tell


def find(path_or_name: str | PathLike[str]) -> tuple[Path, Release | None]:
    """Find the file that a path, a run's folder or a release's name stands for; what exists here comes first.

    Args:
        path_or_name: a file; a run's folder, which stands for the `model.safetensors` in it, else for its newest
            `<stage>/checkpoints/last.ckpt`; a name in RELEASES, or ORG/NAME on the Hugging Face Hub, which are
            downloaded unless that was done before.

    Returns:
        The file, and the release if it was named.

    Raises:
        AimmatError: there is nothing of that name, nothing to load in the folder, or the download fails.
    """
    path = Path(path_or_name)
    if path.is_dir():
        return _in_folder(path), None
    if path.exists():
        return path, None
    name = str(path_or_name)
    if name in RELEASES:
        return fetch(name), RELEASES[name]
    known = f"no such file or folder, nor a release; releases are {', '.join(RELEASES)}"
    if repo := hub_name(name):
        try:
            return fetch_from_hub(repo), None
        except AimmatError as error:
            raise AimmatError(f"cannot load {path}: {known}; and {error}") from error
    raise AimmatError(f"cannot load {path}: {known}")


def read(path: Path) -> Content:
    """Read tensors without running code.

    Args:
        path: safetensors, ours or anybody's; a Lightning checkpoint of a run; what torch.save wrote, today or before
            its zip format: tensors by name, bare or as "state_dict" or "model" beside other entries; or an archive
            (.zip) with one such file.

    Returns:
        The tensors, on the CPU, and the card of a file of ours.

    Raises:
        AimmatError: the file is none of these, is damaged, or holds pickled objects.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise AimmatError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise AimmatError(f"cannot load {path}: the file is empty (0 bytes); copy or download it again")
    if re.match(rb"[\s\xef\xbb\xbf]*<(!doctype html|html|head)\b", head, re.IGNORECASE):
        raise AimmatError(
            f"cannot load {path}: it is a web page, saved in place of the file (Google Drive sends one when it asks "
            f"back or refuses); download the file itself in a browser"
        )
    if path.suffix == ".safetensors" or head[8:9] == b"{":  # of its JSON, behind eight bytes of length
        return _read_safetensors(path)
    content = _unpickle(path, head)
    if not isinstance(content, dict):
        raise AimmatError(f"cannot load {path}: it holds no tensors by name but a {type(content).__name__}")
    network, card = content.get("state_dict"), content.get("hyper_parameters")
    if isinstance(network, dict) and isinstance(card, dict):  # Lightning's, a run of ours
        return Content(_tensors({name[4:]: value for name, value in network.items() if name.startswith("net.")}), card)
    inner = [content[key] for key in ("state_dict", "model") if isinstance(content.get(key), dict)]
    weights = _tensors(inner[0] if inner else content)
    if not weights:
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise AimmatError(f"cannot load {path}: it holds no tensors by name, there is {keys}")
    return Content(weights, None)


def fit(
    path: Path, holder: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], differing: Iterable[str] = ()
) -> Weights:
    """Hold the tensors of a file against those that are wanted.

    Args:
        path: the file, for the message.
        holder: what wants them, for the message.
        expected: the wanted names, with tensors of the wanted shape and kind of number.
        found: what the file holds. A missing counter of batches counts as 0: old files have none.
        differing: aliases that are not what they stand for, a phrase each.

    Returns:
        `found` with all counters, in the order of `expected`.

    Raises:
        AimmatError: a tensor is missing, left over or of another shape; each is named, or its module if they are many.
    """
    found = dict(found)
    for name in expected:
        module, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked" and f"{module}.running_mean" in found:
            found.setdefault(name, torch.zeros((), dtype=torch.int64))
    missing = [name for name in expected if name not in found]
    left = [name for name in found if name not in expected]
    misshapen = [
        f"{name} {_form(found[name])} instead of {_form(wanted)}"
        for name, wanted in expected.items()
        if name in found and _form(found[name]) != _form(wanted)
    ]
    differing = list(differing)
    faults = {
        "missing": _grouped(missing, expected),
        "not in the network": _grouped(left, found),
        "of another shape": _shortened(misshapen),
        "aliases that differ": _shortened(differing),
    }
    counts = (len(missing), len(left), len(misshapen), len(differing))
    listed = zip(counts, faults.items(), strict=True)
    said = [f"{count} {fault} ({', '.join(keys)})" for count, (fault, keys) in listed if keys]
    if said:
        raise AimmatError(f"the weights in {path} do not fit {holder}: {'; '.join(said)}")
    return {name: found[name] for name in expected}


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file beside its place, then rename it; its folder is made if missing.

    Raises:
        AimmatError: it cannot be written; what was there stays.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise AimmatError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def plain(name: str) -> str:
    """A tensor's name without the marks of DataParallel and torch.compile.

    >>> plain("module._orig_mod.psp_module.bottleneck.bias")
    'psp_module.bottleneck.bias'
    """
    return ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))


def _in_folder(path: Path) -> Path:
    if (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    names = ("last.ckpt", "previous.ckpt")  # the second alone where a run was killed between two renames
    last = [file for below in ("", "*/") for name in names for file in path.glob(f"{below}checkpoints/{name}")]
    if last:
        return max(last, key=lambda file: file.stat().st_mtime)
    there = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    found = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "") if there else "nothing"
    raise AimmatError(
        f"cannot load {path}: a run's folder holds model.safetensors or <stage>/checkpoints/last.ckpt, "
        f"here lies {found}; give the path of a checkpoint file"
    )


def _read_safetensors(path: Path) -> Content:
    try:
        with safe_open(path, "pt") as file:
            card = (file.metadata() or {}).get("aimmat")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        card = None if card is None else json.loads(card)
    except (SafetensorError, OSError) as error:
        raise AimmatError(f"cannot load {path}: it is truncated or no safetensors file ({error})") from error
    except ValueError as error:
        raise AimmatError(f"cannot load {path}: its aimmat card is no JSON object ({error})") from error
    if not isinstance(card, dict | None):
        raise AimmatError(f"cannot load {path}: its aimmat card is no JSON object but a {type(card).__name__}")
    if not weights:
        raise AimmatError(f"cannot load {path}: it holds no tensors; copy or download it again")
    return Content(_tensors(weights), card)


def _unpickle(path: Path, head: bytes) -> Any:
    """What torch.save wrote, alone or in an archive."""
    source: BytesIO | str = str(path)
    mapped = is_zipfile(path)  # not read: two thirds of a run's checkpoint are the optimiser's and never touched
    if not mapped and head.startswith(b"PK"):
        raise AimmatError(f"cannot load {path}: it is truncated, the end of the archive is missing; copy it again")
    if not mapped and not head.startswith(b"\x80"):  # the first byte of a binary pickle
        raise AimmatError(f"cannot load {path}: it is no checkpoint, neither safetensors nor what torch.save writes")
    try:
        if mapped and (member := _member(path)) is not None:
            source, mapped = member, False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's version; what matters is said below
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except AimmatError:
        raise
    except Exception as error:  # whatever a damaged file leads torch to
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            if "Unsupported operand" not in reason:
                named = re.search(r"GLOBAL (\S+)", reason)
                raise AimmatError(
                    f"cannot load {path}: it holds pickled Python objects{f' ({named[1]})' if named else ''}, which "
                    f"are not executed; give a checkpoint that holds tensors and plain values only"
                ) from error
            reason = "no pickle that torch.save writes"
        raise AimmatError(f"cannot load {path}: it is damaged or no checkpoint ({reason[:120]})") from error


def _member(path: Path) -> BytesIO | None:
    """The checkpoint inside an archive; None when the archive itself is torch's."""
    with ZipFile(path) as archive:
        names = archive.namelist()
        if any(PurePosixPath(name).name == "data.pkl" for name in names):
            return None
        members = [
            name for name in names if name.endswith((".pth", ".pt", ".pth.tar")) and not name.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            found = ", ".join(names[:5]) + ", ..." * (len(names) > 5) or "nothing"
            raise AimmatError(
                f"cannot load {path}: an archive must hold exactly one .pth, .pth.tar or .pt file, this one holds "
                f"{found}; unpack it and give the file"
            )
        return BytesIO(archive.read(members[0]))


def _tensors(found: Mapping[Any, Any]) -> Weights:
    """The tensors among the values, without those that have a name but no plain array of numbers."""
    return {
        plain(str(name)): value.detach()
        for name, value in found.items()
        if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
    }


def _form(tensor: Tensor) -> str:
    """What must agree of two tensors: the shape, and that neither holds integers alone."""
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else ' of integers'}"


def _grouped(names: Collection[str], among: Collection[str]) -> list[str]:
    """Names of tensors; where all of a module are there, the module's with their number.

    >>> _grouped(["a.b.weight", "a.b.bias", "c.bias"], ["a.b.weight", "a.b.bias", "c.weight", "c.bias"])
    ['a (all 2)', 'c.bias']
    """
    gone, there = (Counter(module for name in some for module in _modules(name)) for some in (names, among))
    return list(
        dict.fromkeys(
            next(
                (f"{module} (all {gone[module]})" for module in _modules(name) if gone[module] == there[module] > 1),
                name,
            )
            for name in names
        )
    )


def _shortened(phrases: list[str]) -> list[str]:
    """Phrases that begin with a tensor's name; of many, the first of each outermost module and how many more it has.

    >>> _shortened(["head.bias (2,) instead of (3,)"] + [f"body.{i}.bias (2,) instead of (3,)" for i in range(20)])
    ['head.bias (2,) instead of (3,)', 'body.0.bias (2,) instead of (3,) and 19 more in body']
    """
    if len(phrases) <= FEW:
        return phrases
    modules = Counter(phrase.split(".")[0] for phrase in phrases)
    firsts = {phrase.split(".")[0]: phrase for phrase in reversed(phrases)}
    return [
        f"{firsts[module]} and {count - 1} more in {module}" if count > 1 else firsts[module]
        for module, count in modules.items()
    ]


def _modules(name: str) -> list[str]:
    """The modules around a tensor, the outermost first."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]
