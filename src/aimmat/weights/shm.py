"""Checkpoints of the public SHM in PyTorch: its names for our tensors, and the classifier that nothing uses.

Source:
    github.com/tsing90/pytorch_semantic_human_matting at 9cbb85b, model/ and train.py: pictures are read by OpenCV, so
    they are BGR, and divided by 255. With the 4 tensors of the classifier a whole file has 482; those of its first two
    phases hold one of the two networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from aimmat.models.vgg import STAGES
from aimmat.weights.layout import Imported, Recognised, translate_aliased

TITLE = "the SHM of tsing90's public code"
CLASSIFIER = {
    f"t_net.classifier.{name}": shape
    for name, shape in {"0.weight": (256, 1024), "0.bias": (256,), "2.weight": (3, 256), "2.bias": (3,)}.items()
}


def _modules() -> Iterator[tuple[str, str]]:
    yield "semantic.encoder", "t_net.feats"
    for k in range(4):
        yield f"semantic.context.scales.{k}", f"t_net.psp.stages.{k}.1"
    yield "semantic.context.merge", "t_net.psp.bottleneck"
    for k in range(3):
        yield f"semantic.steps.{k}", f"t_net.up_{k + 1}.conv"
    yield "semantic.head", "t_net.final.0"
    place = 0  # among torchvision's layers: convolution, normalisation and ReLU, and a pool behind each stage
    for stage, (_, convolutions) in enumerate(STAGES, start=1):
        for k in range(1, convolutions + 1):
            yield f"matting.encoder.features.{place}", f"m_net.conv_{stage}_{k}.0"
            yield f"matting.encoder.features.{place + 1}", f"m_net.conv_{stage}_{k}.1"
            place += 3
        place += 1
    for k in range(5):
        yield f"matting.blocks.{k}", f"m_net.deconv_{5 - k}"
    yield "matting.head", "m_net.conv_0"


MODULES = dict(_modules())


def rename(tensors: Iterable[str]) -> dict[str, str]:
    """Their name of each of our tensors.

    >>> rename(["matting.encoder.features.7.weight", "semantic.head.bias"])
    {'matting.encoder.features.7.weight': 'm_net.conv_2_1.0.weight', 'semantic.head.bias': 't_net.final.0.bias'}
    """
    names = {}
    for name in tensors:
        ours = max((module for module in MODULES if name.startswith(f"{module}.")), key=len)
        names[name] = MODULES[ours] + name.removeprefix(ours)
    return names


def recognise(weights: Mapping[str, Tensor]) -> Recognised | None:
    """The whole network, or one of its two, if the names are the public code's."""
    parts = [name in weights for name in ("t_net.psp.bottleneck.weight", "m_net.deconv_5.0.weight")]
    if not any(parts):
        return None
    order = (
        "unknown_foreground, as the whole network takes the trimap network's classes, or foreground_unknown, as the "
        "phase in which the matting network learnt alone took them"
    )
    model = {"name": "shm", "trimap": "predicted", "width": 1.0, "colours": "bgr"}
    # The paper's test: the whole picture, its long side at most 1500 pixels.
    inference = {"name": "resize", "scale": 1.0, "max_side": 1500}
    return Recognised(TITLE, model, inference, {"order": order} if all(parts) else {})


def from_shm(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Imported:
    """Translate a checkpoint of the public code.

    Args:
        path: where it lies, for the message.
        found: its tensors.
        wanted: the state dict of the network that takes them.

    Returns:
        The tensors of `wanted` from the file, and the classifier.

    Raises:
        AimmatError: tensors are missing, left over or of another shape; the sentence names them as the file does.
    """
    dead = {name: torch.empty(shape, device="meta") for name, shape in CLASSIFIER.items()}
    return translate_aliased(path, TITLE, rename(wanted), {}, dead, found, wanted)
