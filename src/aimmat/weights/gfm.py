"""The layout of GFM's public code: its names for our tensors, the aliases among them, and what its forward never uses.

Source:
    github.com/JizhiziLi/GFM at 4b15ee0, core/gfm.py. Files are bare state dicts. The encoder's tensors appear twice, as
    `resnet.*` or `densenet.*` and as `encoderK.*`: with r34 216 of 688, r34_2b 210 of 831, d121 720 of 1,708, r101 624
    of 1,504 in mode tt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aimmat.models.gfm import GFM
from aimmat.schema import AimmatError
from aimmat.weights.files import Weights
from aimmat.weights.layout import Imported, Recognised, translate_aliased

TITLE = "GFM"
UNSAID = {
    "normalisation": "raw (pixels from 0 to 255, as the public code feeds its own) or imagenet",
    "mode": "ft (foreground and transition) or bt (background and transition)",
}


def recognise(weights: Mapping[str, Tensor]) -> Recognised | None:
    """The backbone and the mode, and the public code's test, if the names are of its layout.

    Nothing else calls a decoder f. Two classes are those of ft or of bt, and no file tells what the pixels were.
    """
    if not any(name.startswith("decoder4_f.") for name in weights):
        return None
    backbone, mode = _backbone(weights), _mode(weights)
    unsaid = [name for name in UNSAID if name != "mode" or mode is None]
    model: dict[str, Any] = {"name": "gfm", "backbone": backbone, "width": 1.0, "protocol": "release"}
    model |= {"mode": mode} if mode else {}
    inference: dict[str, Any] = {"name": "resize", "scale": 1 / 3 if mode == "rim" else 1 / 2}
    if mode == "tt":
        inference = {"name": "hybrid", "semantic_scale": 1 / 3, "matting_scale": 1 / 2}
    title = f"{TITLE} {backbone} {mode.upper() if mode else 'FT or BT'}"
    return Recognised(title, model, inference | {"protocol": "release"}, {name: UNSAID[name] for name in unsaid})


def from_gfm(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Imported:
    """Translate a checkpoint.

    Args:
        path: where it lies, for the message.
        found: its tensors; the encoder's under either name or both.
        wanted: the state dict of the network that takes them.

    Returns:
        The tensors of `wanted` from the file, and what is left.

    Raises:
        AimmatError: tensors are missing, left over or of another shape, or aliases are not bit for bit what they
            stand for; the sentence names them as the file does.
    """
    backbone = _backbone(found)
    names = _names(wanted, backbone)
    aliases, dead = _aliases(names, backbone), _dead(backbone)
    return translate_aliased(path, f"{TITLE} {backbone}", names, aliases, dead, found, wanted)


def to_gfm(net: nn.Module, unused: Mapping[str, Tensor] | None = None) -> Weights:
    """The entries that the public code loads with strict=True; an alias shares its memory.

    Args:
        net: a GFM of width 1.
        unused: what the public code holds beside the network, if known, else it is zeros.

    Raises:
        AimmatError: the layout cannot hold the network.
    """
    net = getattr(net, "_orig_mod", net)
    if not isinstance(net, GFM):
        raise AimmatError(f"the layout of {TITLE} holds a GFM, got {type(net).__name__}; write .safetensors instead")
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    names = _names(weights, net.backbone)
    theirs = {theirs: weights[ours] for ours, theirs in names.items()}
    dead = {name: torch.zeros_like(shape, device="cpu") for name, shape in _dead(net.backbone).items()}
    aliases = {alias: theirs[name] for alias, name in _aliases(names, net.backbone).items()}
    return theirs | dead | dict(unused or {}) | aliases


def _backbone(weights: Mapping[str, Tensor]) -> str:
    if any(name.startswith("decoder6_f.") for name in weights):
        return "r34_2b"
    if any(name.startswith("densenet.") for name in weights) or "encoder4.1.weight" in weights:
        return "d121"
    wide = any(name.endswith("layer1.0.conv3.weight") or name == "encoder1.1.0.conv3.weight" for name in weights)
    return "r101" if wide else "r34"


def _mode(weights: Mapping[str, Tensor]) -> str | None:
    """None: ft or bt."""
    if any(name.startswith(("rim.", "decoder0_g_tt.")) for name in weights):
        return "rim"
    head = max((name for name in weights if name.startswith("decoder0_g.") and name.endswith("bias")), default=None)
    return "tt" if head is None or len(weights[head]) == 3 else None


def _names(tensors: Iterable[str], backbone: str) -> dict[str, str]:
    """Their name of each of our tensors."""
    names = list(tensors)
    top = 6 if backbone == "r34_2b" else 4
    single = not any(name.startswith("rim.") for name in names)
    split = [name.rpartition(".") for name in names]
    return {f"{module}.{kind}": f"{_module(module, top, single)}.{kind}" for module, _, kind in split}


def _module(module: str, top: int, single: bool) -> str:
    """Their name of one of our modules.

    Args:
        module: ours.
        top: number of the coarsest level.
        single: the network has one branch, which their heads do not name.

    >>> _module("focus.blocks.1.2.0", top=4, single=True), _module("glance.heads.ft.2", top=4, single=False)
    ('decoder3_f.6', 'decoder0_g_ft.6')
    """
    parts = module.split(".")
    letter = parts[0][0]  # of glance and focus
    match parts:
        case ["encoder", "trunk", "features", *rest]:
            return ".".join(("densenet.features", *rest))
        case ["encoder", "neck", k]:
            return f"encoder4.{int(k) + 1}"
        case ["encoder", "stem", k]:
            return f"encoder0.{k}"
        case ["encoder", "more", k, *rest]:
            return ".".join((f"encoder{int(k) + 5}", *rest))
        case ["encoder", "trunk", *rest] | ["encoder", *rest]:
            return ".".join(("resnet", *rest))
        case ["rim", "1", linear]:
            return f"rim.1.fc.{('squeeze', '', 'excite').index(linear)}"
        case ["rim", k]:
            return f"rim.{k}"
        case ["glance", "context", "scales", k]:
            return f"psp_module.stages.{k}.1"
        case ["glance", "context", "merge"]:
            return "psp_module.bottleneck"
        case ["glance", "leads", k, i]:
            return f"psp{top - int(k)}.{i}"
        case ["focus", "bridge", j, i]:
            return f"bridge_block.{_flat(j, i)}"
        case [_, "blocks", k, j, i]:
            return f"decoder{top - int(k)}_{letter}.{_flat(j, i)}"
        case [_, "heads", branch, *rest]:
            return f"decoder0_{letter}{'' if single else f'_{branch}'}.{_flat(*rest)}"
    raise ValueError(f"GFM has no module {module}")


def _flat(outer: str = "0", inner: str = "0") -> int:
    """Place in a chain of convolution, normalisation and ReLU: nested here, flat there."""
    return 3 * int(outer) + int(inner)


def _aliases(names: Mapping[str, str], backbone: str) -> dict[str, str]:
    """The second names of the encoder's tensors, and what they stand for."""
    first = "encoder1." if backbone == "r34_2b" else "encoder1.1."
    places = {"resnet.conv1.": "encoder0.0.", "resnet.bn1.": "encoder0.1.", "resnet.layer1.": first}
    places |= {f"resnet.layer{k}.": f"encoder{k}." for k in (2, 3, 4)}
    places |= {"densenet.features.conv0.": "encoder0.0.", "densenet.features.norm0.": "encoder0.1."}
    for k in (1, 2, 3, 4):
        places |= {f"densenet.features.denseblock{k}.": f"encoder{k}.0."}
        places |= {f"densenet.features.transition{k}.": f"encoder{k}.1."}
    return {
        place + name.removeprefix(start): name
        for name in names.values()
        for start, place in places.items()
        if name.startswith(start)
    }


def _dead(backbone: str) -> Weights:
    """What their network has and never uses: ImageNet's classifier and, of some, layers around it."""
    with torch.device("meta"):
        modules: dict[str, nn.Module]
        match backbone:
            case "d121":
                modules = {
                    "densenet.features.norm5": nn.BatchNorm2d(1024),
                    "densenet.classifier": nn.Linear(1024, 1000),
                }
            case "r34_2b":
                modules = {"resnet.conv1": nn.Conv2d(3, 64, 7, bias=False), "resnet.bn1": nn.BatchNorm2d(64)}
                modules |= {"resnet.fc": nn.Linear(512, 1000)}
                modules |= {"psp1.0": nn.Conv2d(512, 64, 3), "psp1.1": nn.BatchNorm2d(64)}
            case _:
                modules = {"resnet.fc": nn.Linear(2048 if backbone == "r101" else 512, 1000)}
        return {f"{name}.{key}": value for name, part in modules.items() for key, value in part.state_dict().items()}
