"""The layouts of public DIM weights: a flat one and mmagic's.

Source:
    github.com/huochaitiantang/pytorch-deep-image-matting at f5f909d, core/net.py: 42 tensors, with the refiner 50. Its
    weights V1.5 add the encoder's maps to the decoder's and those before do not, under the same names and shapes.
    Those before 9 September 2019 have a 1x1 conv6, and those of them before 22 April 2019 were shown pictures that were
    not normalised, under the same names and shapes again.
    github.com/open-mmlab/mmagic at 0a560bb, mmagic/models/editors/plain and archs/vgg.py: the same network with a 1x1
    conv6 and without such additions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from aimmat.models.vgg import STAGES
from aimmat.schema import AimmatError
from aimmat.weights.files import fit
from aimmat.weights.layout import Imported, Recognised
from aimmat.weights.released import rename

_FLAT, _MMAGIC = "the DIM of pytorch-deep-image-matting", "the DIM of mmagic"
_SKIP = (
    "true for what was trained since September 2020, such as stage1_skip_sad_52.9.pth, false for what is older, such "
    "as stage1_sad_54.4.pth"
)


def _network(mmagic: bool) -> Iterator[tuple[str, str]]:
    number = 0
    for stage, (_, convolutions) in enumerate(STAGES, start=1):
        for k in range(convolutions):
            flat, theirs = f"conv{stage}_{k + 1}", f"backbone.encoder.layer{stage}.{2 * k}"
            yield f"encoder.features.{number}", theirs if mmagic else flat
            number += 2
        number += 1  # the pool
    decoder, refiner = ("backbone.decoder.", "refiner.") if mmagic else ("", "")
    yield "bridge.0", "backbone.encoder.conv6" if mmagic else "conv6_1"
    yield "bridge.1", f"{decoder}deconv6_1"
    for k in range(5):
        yield f"decoder.{k}", f"{decoder}deconv{5 - k}_1"
    yield "head", f"{decoder}deconv1"
    for k in range(3):
        yield f"refiner.convs.{k}", f"{refiner}refine_conv{k + 1}"
    yield "refiner.head", f"{refiner}refine_pred"


# Our modules and theirs, in the order of their state dict.
FLAT, MMAGIC = dict(_network(False)), dict(_network(True))


def recognise(weights: Mapping[str, Tensor]) -> Recognised | None:
    """DIM, by the names of its ends, and by those of the refiner whether it has one.

    Flat files with a 1x1 conv6 are recognised, for `from_dim` to refuse.
    """
    layouts: tuple[tuple[dict[str, str], str, dict[str, Any]], ...] = (
        (FLAT, _FLAT, {"kernel": 3}),
        (MMAGIC, _MMAGIC, {"kernel": 1, "skip": False}),
    )
    for names, title, model in layouts:
        if not {f"{names[module]}.weight" for module in ("encoder.features.0", "bridge.0", "head")} <= weights.keys():
            continue
        refiner = f"{names['refiner.head']}.weight" in weights
        model = {"name": "dim", "refiner": refiner, "trimap": "traditional", "width": 1.0} | model
        unsaid = {} if names is MMAGIC or _is_old(weights) else {"skip": _SKIP}
        # Whole pictures, as both test them.
        return Recognised(title + " with its refiner" * refiner, model, {"name": "resize", "scale": 1.0}, unsaid)
    return None


def from_dim(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Imported:
    """Translate a public checkpoint.

    Args:
        path: where it lies, for the message.
        found: its tensors.
        wanted: the state dict of the network that takes them.

    Raises:
        AimmatError: conv6 is 1x1 in a flat file; or tensors are missing, left over or of another shape, and the
            sentence names them as the file does.
    """
    flat = "conv6_1.weight" in found
    if flat and _is_old(found):
        raise AimmatError(
            f"{path} holds {_FLAT} of before September 2019: its conv6 is 1x1 where today's is 3x3, and whether it was "
            f"shown normalised pictures no tensor tells; take its authors' weights v1.4 or V1.5"
        )
    names = rename(wanted, FLAT if flat else MMAGIC)
    expected = {theirs: wanted[ours] for ours, theirs in names.items()}
    fitting = fit(path, _FLAT if flat else _MMAGIC, expected, found)
    return Imported({ours: fitting[theirs] for ours, theirs in names.items()}, {}, 0)


def _is_old(weights: Mapping[str, Tensor]) -> bool:
    """Whether a flat file's conv6 is 1x1."""
    return "conv6_1.weight" in weights and weights["conv6_1.weight"].shape[-2:] == (1, 1)
