"""`python -m aimmat.convert`: weights from the layout of the released AIM code to ours and back."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from aimmat.console import guarded
from aimmat.schema import AimmatError
from aimmat.weights import read_network, save_backbone, save_network, save_release

RELEASED = (".pth", ".pt", ".tar")  # suffixes of files in the released code's layout


def convert(
    source: str | PathLike[str], path: Path, *, backbone: bool = False, overwrite: bool = False, **switches: Any
) -> str:
    """Read a network and write it in the layout that the suffix names.

    Args:
        source: what `weights.load_network` takes: a file, a run's folder or a release's name.
        path: the file to write; `.safetensors` is our layout, `.pth`, `.pt` or `.tar` the released one.
        backbone: write the encoder alone, as the bare ResNet-34 that the released code builds its network from.
        overwrite: an existing file may be replaced.
        switches: of the network, those that a file of public code cannot tell.

    Returns:
        One line that says what was read and written.

    Raises:
        AimmatError: the file exists or has another suffix, the source cannot be read, or the layout cannot hold it.
    """
    if path.suffix not in RELEASED and (backbone or path.suffix != ".safetensors"):
        ours = "" if backbone else ".safetensors (ours) or "
        raise AimmatError(
            f"{path} must end in {ours}{', '.join(RELEASED)} (the released code's), which says its layout"
        )
    if path.exists() and not overwrite:
        raise AimmatError(f"{path} exists; --overwrite replaces it")
    net, card, unused, tensors, aliases = read_network(source, **switches)
    if backbone:
        save_backbone(path, net, unused)
    elif path.suffix == ".safetensors":
        save_network(path, net, card, unused)
    else:
        save_release(path, net, unused)
    layout = (
        "a bare ResNet-34"
        if backbone
        else "ours"
        if path.suffix == ".safetensors"
        else "the released layout, which has no card"
    )
    return f"{source}: {tensors} tensors, {aliases} of them aliases and {len(unused)} unused -> {path}: {layout}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see `python -m aimmat.convert --help`."""
    parser = argparse.ArgumentParser(prog="python -m aimmat.convert", description=__doc__)
    parser.add_argument("source", metavar="SRC", help="a checkpoint, a run's folder or the name of a release")
    parser.add_argument(
        "path", metavar="DST", type=Path, help=f"the file to write: .safetensors, or {', '.join(RELEASED)} (released)"
    )
    parser.add_argument("--backbone", action="store_true", help="the encoder alone, which the released code asks for")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument(
        "--set",
        metavar="SWITCH=VALUE",
        action="append",
        default=[],
        help="a switch of the network that the file cannot tell, such as skip=true",
    )
    given = parser.parse_args(arguments)

    def run() -> None:
        switches = dict(_switch(text) for text in given.set)
        print(convert(given.source, given.path, backbone=given.backbone, overwrite=given.overwrite, **switches))

    return guarded(run)


def _switch(text: str) -> tuple[str, Any]:
    """A switch and its value, which is JSON or a word.

    >>> _switch("skip=true"), _switch("input=raw")
    (('skip', True), ('input', 'raw'))
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise AimmatError(f"a switch is written SWITCH=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
