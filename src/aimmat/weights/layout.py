"""What a layout is: whose names a file's tensors have, and how they become ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimmat.weights.files import Weights, fit


class Recognised(NamedTuple):
    """What a file without a card looks like."""

    title: str  # "GFM r34 TT", for messages
    model: dict[str, Any]  # name and switches, as models.build takes them
    inference: dict[str, Any]  # the test it is meant for, as inference.build_strategy takes it
    unsaid: Mapping[str, str] = MappingProxyType({})  # switches that no file tells: what their values mean, a phrase


class Imported(NamedTuple):
    """A file's tensors under our names."""

    weights: Weights
    unused: Weights  # what belongs to no part of the network, under its own name
    aliases: int  # second names, how many there were


class Layout(NamedTuple):
    """One layout of somebody's checkpoints."""

    recognise: Callable[[Mapping[str, Tensor]], Recognised | None]  # by names and shapes; None: it is another
    translate: Callable[[Path, Mapping[str, Tensor], Mapping[str, Tensor]], Imported]  # file, its tensors, wanted ones


def translate_aliased(
    path: Path,
    holder: str,
    names: Mapping[str, str],
    aliases: Mapping[str, str],
    dead: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
) -> Imported:
    """Translate a file in which some tensors stand under two names.

    Args:
        path: where it lies, for the message.
        holder: what the file is, for the message.
        names: their name of each of our tensors.
        aliases: second names, and the name of theirs that each stands for. A file may have either or both.
        dead: what the file may hold beside the network; tensors of the shapes.
        found: the file's tensors.
        wanted: the state dict of the network that takes them.

    Returns:
        The tensors of `wanted` from the file, and what is left.

    Raises:
        AimmatError: tensors are missing, left over or of another shape, or aliases are not bit for bit what they
            stand for; the sentence names them as the file does.
    """
    originals = {aliases[name]: value for name, value in found.items() if name in aliases}
    originals |= {name: value for name, value in found.items() if name not in aliases}
    differing = [
        f"{alias} from {name}"
        for alias, name in aliases.items()
        if alias in found and name in found and not _same(found[alias], found[name])
    ]
    expected = {theirs: wanted[ours] for ours, theirs in names.items()}
    expected |= {name: shape for name, shape in dead.items() if name in originals}
    fitting = fit(path, holder, expected, originals, differing)
    return Imported(
        {ours: fitting[theirs] for ours, theirs in names.items()},
        {name: fitting[name] for name in dead if name in fitting},
        len(aliases.keys() & found.keys()),
    )


def _same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, NaN included."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(tensor.contiguous().view(-1).view(torch.uint8) for tensor in (one, other)))
