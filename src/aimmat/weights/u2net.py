"""The released U-2-Net layout, of U2NET and of U2NETP: its names for our tensors.

Source:
    github.com/xuebinqin/U-2-Net at ac7e1c8, model/u2net.py: 798 tensors without a wrapper, whose names do not tell the
    two apart; their shapes do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from aimmat.models.u2net import HEIGHTS
from aimmat.weights.files import fit
from aimmat.weights.layout import Imported, Recognised
from aimmat.weights.released import rename


def _block(ours: str, theirs: str, height: int) -> Iterator[tuple[str, str]]:
    units = {"entry": "in"} | {f"down.{k}": f"{k + 1}" for k in range(height)}
    units |= {f"up.{k}": f"{height - 1 - k}d" for k in range(height - 1)}
    for unit, number in units.items():
        yield f"{ours}.{unit}.0", f"{theirs}.rebnconv{number}.conv_s1"
        yield f"{ours}.{unit}.1", f"{theirs}.rebnconv{number}.bn_s1"


def _network() -> Iterator[tuple[str, str]]:
    for k, height in enumerate(HEIGHTS):
        yield from _block(f"encoder.{k}", f"stage{k + 1}", height)
    for k, height in enumerate(HEIGHTS[-2::-1]):
        yield from _block(f"decoder.{k}", f"stage{5 - k}d", height)
    for k in range(len(HEIGHTS)):
        yield f"sides.{k}", f"side{k + 1}"
    yield "fuse", "outconv"


# Our modules and theirs, in the order of their state dict.
U2NET = dict(_network())


def recognise(weights: Mapping[str, Tensor]) -> Recognised | None:
    """U2NET or U2NETP, by the names of the network's two ends and the width of its second unit.

    IS-Net has the same blocks, but no map that is fused from the six.
    """
    second = weights.get("stage1.rebnconv1.conv_s1.weight")
    if second is None or not {"stage1d.rebnconv1d.conv_s1.weight", "outconv.weight"} <= weights.keys():
        return None
    small = second.shape[0] == 16  # channels; U2NET has 32
    model = {"name": "u2net", "small": small, "width": 1.0}
    title = f"the U2NET{'P' * small} of the released U-2-Net code"
    return Recognised(title, model, {"name": "resize", "size": 320})


def from_u2net(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Imported:
    """Translate a released checkpoint.

    Args:
        path: where it lies, for the message.
        found: its tensors.
        wanted: the state dict of the network that takes them.

    Raises:
        AimmatError: tensors are missing, left over or of another shape; the sentence names them as the file does.
    """
    names = rename(wanted, U2NET)
    fitting = fit(path, "the released U-2-Net", {theirs: wanted[ours] for ours, theirs in names.items()}, found)
    return Imported({ours: fitting[theirs] for ours, theirs in names.items()}, {}, 0)
