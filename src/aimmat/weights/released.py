"""The released AIM layout: its names for our tensors, the aliases among them, and the classifier that nothing uses.

Source:
    github.com/JizhiziLi/AIM at 48e3dc8, core/network/AimNet.py and core/network/resnet_mp.py. The encoder's 216
    tensors appear twice, as `resnet.*` and as `encoderK.*`; with the 2 of the classifier `resnet.fc` and the 266 of
    the decoders that makes 700 entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from aimmat.models.aimnet import AimNet
from aimmat.models.encoders import CHANNELS, DEPTHS, ResNet34
from aimmat.schema import AimmatError
from aimmat.weights.files import Weights, fit
from aimmat.weights.layout import Imported, Recognised, translate_aliased

CLASSIFIER = {"fc.weight": (1000, CHANNELS[4]), "fc.bias": (1000,)}  # of ImageNet's classes


def _resnet() -> Iterator[tuple[str, str]]:
    yield "stem.0", "conv1"
    yield "stem.1", "bn1"
    for k, depth in enumerate(DEPTHS, start=1):
        for block in range(depth):
            ours, theirs = f"stages.{k - 1}.{block}", f"layer{k}.{block}"
            yield f"{ours}.first.0", f"{theirs}.conv1"
            yield f"{ours}.first.1", f"{theirs}.bn1"
            yield f"{ours}.second.0", f"{theirs}.conv2"
            yield f"{ours}.second.1", f"{theirs}.bn2"
            if k > 1 and block == 0:
                yield f"{ours}.shortcut.0", f"{theirs}.downsample.0"
                yield f"{ours}.shortcut.1", f"{theirs}.downsample.1"


def _stack(ours: str, theirs: str, convolutions: int = 3) -> Iterator[tuple[str, str]]:
    """A chain of convolution, batch normalisation and ReLU: nested here, flat there."""
    for j in range(convolutions):
        yield f"{ours}.{j}.0", f"{theirs}.{3 * j}"
        yield f"{ours}.{j}.1", f"{theirs}.{3 * j + 1}"


def _decoders() -> Iterator[tuple[str, str]]:
    for i in range(3):
        yield f"semantic.context.scales.{i}", f"psp_module.stages.{i}.1"
    yield "semantic.context.merge", "psp_module.bottleneck"
    for i in range(4):
        yield f"semantic.leads.{i}.0", f"psp{4 - i}.0"
        yield f"semantic.leads.{i}.1", f"psp{4 - i}.1"
    for i in range(5):
        yield from _stack(f"semantic.blocks.{i}", f"decoder{4 - i}_g", 3 if i < 4 else 2)
        if i == 4:
            yield "attention.conv", "decoder0_g_spatial"
        yield f"semantic.excites.{i}.squeeze", f"decoder{4 - i}_g_se.fc.0"
        yield f"semantic.excites.{i}.excite", f"decoder{4 - i}_g_se.fc.2"
    yield "semantic.head", "decoder_final_g"
    yield from _stack("matting.bridge", "bridge_block")
    for i in range(5):
        yield from _stack(f"matting.blocks.{i}", f"decoder{4 - i}_l", 3 if i < 4 else 2)
    yield "matting.head", "decoder_final_l"


# Our modules and theirs, in the order of their state dict. A ResNet-34 has the names that torchvision and timm share.
RESNET = dict(_resnet())
AIM = {f"encoder.{ours}": f"resnet.{theirs}" for ours, theirs in RESNET.items()} | dict(_decoders())


def rename(tensors: Iterable[str], modules: Mapping[str, str]) -> dict[str, str]:
    """Their name of each of our tensors, in their order."""
    order = {module: place for place, module in enumerate(modules)}
    split = sorted((name.rpartition(".") for name in tensors), key=lambda parts: order[parts[0]])
    return {f"{module}.{kind}": f"{modules[module]}.{kind}" for module, _, kind in split}


def recognise(weights: Mapping[str, Tensor]) -> Recognised | None:
    """The paper's network and test, computed as the release does, if the names are the released layout's, or some are.

    GFM calls its focus decoder f where AimNet's matting decoder is l; most other names are the same.
    """
    modules = {name.rpartition(".")[0] for name in weights}
    own = {module for module in AIM.values() if not module.startswith("resnet.")}
    if modules.isdisjoint(own) or any(name.startswith("decoder4_f.") for name in weights):
        return None
    model = {"name": "aimnet", "mp": True, "se": True, "sa": True, "width": 1.0, "protocol": "release"}
    # The scales of the README's best figure, SAD 41.72; the script has 1/4 and 1/2, which gave 44.25.
    inference = {"name": "hybrid", "semantic_scale": 1 / 4, "matting_scale": 1 / 3, "protocol": "release"}
    return Recognised("the AimNet of the released AIM code", model, inference)


def is_resnet(weights: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a bare ResNet."""
    return {"conv1.weight", "layer1.0.conv1.weight"} <= weights.keys()


def from_aim(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Imported:
    """Translate a released checkpoint.

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
    names = rename(wanted, AIM)
    aliases = {_alias(name): name for name in names.values() if name.startswith("resnet.")}
    classifier = {name: torch.empty(shape, device="meta") for name, shape in _classifier("resnet.").items()}
    return translate_aliased(path, "the AimNet of the released AIM code", names, aliases, classifier, found, wanted)


def from_resnet(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Weights:
    """Translate a bare ResNet-34; its classifier is left out, whatever it tells apart.

    Args:
        path: where it lies, for the message.
        found: its tensors.
        wanted: the state dict of the encoder that takes them.

    Raises:
        AimmatError: tensors are missing, left over or of another shape.
    """
    names = rename(wanted, RESNET)
    features = {name: value for name, value in found.items() if name not in CLASSIFIER}
    fitting = fit(path, "a ResNet-34", {theirs: wanted[ours] for ours, theirs in names.items()}, features)
    return {ours: fitting[theirs] for ours, theirs in names.items()}


def to_resnet(encoder: ResNet34, classifier: nn.Linear) -> Weights:
    """The names that torchvision and timm share, in their order.

    Args:
        encoder: of any width.
        classifier: what follows the mean of its last map.
    """
    weights = encoder.state_dict()
    named = {theirs: weights[ours] for ours, theirs in rename(weights, RESNET).items()}
    named |= {f"fc.{name}": value for name, value in classifier.state_dict().items()}
    return {name: value.detach().cpu().contiguous() for name, value in named.items()}


def to_aim(net: nn.Module, unused: Mapping[str, Tensor] | None = None) -> Weights:
    """The 700 entries that the released code loads with strict=True, in its order; an alias shares its memory.

    Args:
        net: the network.
        unused: "resnet.fc.weight" and "resnet.fc.bias" if known, else they are zeros.

    Raises:
        AimmatError: the released layout cannot hold the network.
    """
    net = _check(net)
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    theirs = {theirs: weights[ours] for ours, theirs in rename(weights, AIM).items()}
    resnet = {name: value for name, value in theirs.items() if name.startswith("resnet.")}
    fc = {name: (unused or {}).get(name, torch.zeros(shape)) for name, shape in _classifier("resnet.").items()}
    return resnet | fc | {_alias(name): value for name, value in resnet.items()} | theirs


def _check(net: nn.Module) -> AimNet:
    """The network without torch.compile's shell, if the released layout can hold it."""
    net = getattr(net, "_orig_mod", net)
    if not isinstance(net, AimNet):
        raise AimmatError(f"the released layout holds an AimNet, got {type(net).__name__}; write .safetensors instead")
    width = net.encoder.channels[0] / CHANNELS[0]
    switches = {
        "mp": net.matting.mp,
        "se": "semantic.excites.0.squeeze.weight" in net.state_dict(),
        "sa": net.attention,
    }
    off = [f"{name}=false" for name, on in switches.items() if not on] + [f"width={width:g}"] * (width != 1)
    if off:
        raise AimmatError(
            f"the released layout holds the AimNet of width 1 with mp, se and sa on, this one has {', '.join(off)}; "
            f"write .safetensors instead"
        )
    return net


def _alias(name: str) -> str:
    """The second name of a tensor of the encoder.

    >>> _alias("resnet.bn1.bias"), _alias("resnet.layer1.0.bn1.bias"), _alias("resnet.layer2.0.bn1.bias")
    ('encoder0.1.bias', 'encoder1.0.0.bn1.bias', 'encoder2.0.bn1.bias')
    """
    _, module, rest = name.split(".", 2)
    first = {"conv1": "encoder0.0", "bn1": "encoder0.1", "layer1": "encoder1.0"}
    return f"{first.get(module, module.replace('layer', 'encoder'))}.{rest}"


def _classifier(prefix: str) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}{name}": shape for name, shape in CLASSIFIER.items()}
