"""What a layout is: whose names a file's tensors have, and how they become ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor

from aimmat.weights.files import Weights


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
