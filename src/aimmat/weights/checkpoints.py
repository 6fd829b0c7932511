"""Networks to and from disk: our safetensors files, a run's Lightning checkpoints, and the released AIM files.

A file of ours holds a card beside the weights: JSON under the key "aimmat" of the metadata. Its keys, of which only
`model` must be there:

    model          {"name": ..., **switches}: what `models.build` takes
    inference      {"name": ..., **options}: what `inference.build_strategy` takes, the test the network is meant for
    protocol       "paper" or "release", see schema.Protocol; filled in from the network
    normalisation  {"mean": [R, G, B], "std": [R, G, B], "range": [0, 1]} of what the network does to its input itself;
                   filled in from the network, for readers other than aimmat
    recipe         how the weights were trained: data, stages, seed
    stage, run     the stage that they come from, and its run
    metrics        {test: {figure: value}} that were measured or published
    licence        of the weights, by its SPDX name
    backbone       what the encoder started from: {"kind": "r34_mp" or "resnet34", "source": ...}
    source         the file or address that the weights were read from, if they were not trained here
    format         the version of this list, and
    aimmat         the version of aimmat that wrote the file; both filled in

Other keys are kept. Tensors under "unused." belong to the source and to no network: the released files' classifier.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

import aimmat
from aimmat import models
from aimmat.models.encoders import ResNet34
from aimmat.schema import AimmatError, Protocol, is_release
from aimmat.weights import released
from aimmat.weights.files import Card, Content, Weights, find, fit, plain, read, write
from aimmat.weights.layout import Recognised
from aimmat.weights.layouts import recognise
from aimmat.weights.onnx import load_onnx
from aimmat.weights.releases import Release

FORMAT = 1
UNUSED = "unused."


class Loaded(NamedTuple):
    """A network from a file, and what else the file says."""

    net: nn.Module
    card: Card
    unused: Weights  # what the file carries for others: "resnet.fc.weight" and "resnet.fc.bias"
    tensors: int  # in the file
    aliases: int  # of them are second names


def save_network(
    path: str | PathLike[str], net: nn.Module, card: Card, unused: Mapping[str, Tensor] | None = None
) -> None:
    """Write a network's weights and its card into one safetensors file, whole or not at all.

    Args:
        path: the file to write, by custom `model.safetensors`; its folder is made if missing.
        net: the network; a compiled one is saved as the plain one.
        card: plain JSON values under the keys that the head of this file lists.
        unused: tensors to keep beside the network's.

    Raises:
        AimmatError: the file cannot be written.
        ValueError: the card has no model name or holds something that JSON cannot.
    """
    if not isinstance(card.get("model"), dict) or "name" not in card["model"]:
        raise ValueError(f'card["model"] must be {{"name": ..., **switches}}, got {card.get("model")!r}')
    card = {"protocol": card["model"].get("protocol", "paper")} | card
    card |= _normalisation(net) | {"format": FORMAT, "aimmat": aimmat.__version__}
    try:
        metadata = {"format": "pt", "aimmat": json.dumps(card, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise ValueError(f"a card holds plain JSON values only: {error}") from error
    tensors = {plain(name): value for name, value in net.state_dict().items()}
    tensors |= {f"{UNUSED}{name}": value for name, value in (unused or {}).items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write(Path(path), safetensors.torch.save(tensors, metadata))


def save_release(path: str | PathLike[str], net: nn.Module, unused: Mapping[str, Tensor] | None = None) -> None:
    """Write a network as the released AIM code does, which loads the file with strict=True.

    Args:
        path: the file to write, by custom `.pth`; its folder is made if missing.
        net: an AimNet of width 1 with mp, se and sa on.
        unused: the classifier's "resnet.fc.weight" and "resnet.fc.bias"; zeros where they are not known.

    Raises:
        AimmatError: the layout cannot hold the network, or the file cannot be written.
    """
    _save(path, {"state_dict": released.to_aim(net, unused)})


def save_backbone(path: str | PathLike[str], net: nn.Module, unused: Mapping[str, Tensor] | None = None) -> None:
    """Write a network's encoder as the bare ResNet-34 file without which the released code cannot build its network.

    Args:
        path: the file to write, in the release `r34mp_pretrained_imagenet.pth.tar`.
        net: an AimNet of width 1 with mp, se and sa on.
        unused: as in `save_release`.

    Raises:
        AimmatError: the layout cannot hold the network, or the file cannot be written.
    """
    tensors = released.to_aim(net, unused).items()
    _save(path, {name.removeprefix("resnet."): value for name, value in tensors if name.startswith("resnet.")})


def save_resnet(path: str | PathLike[str], encoder: ResNet34, classifier: nn.Linear) -> None:
    """Write an encoder that was trained as a classifier as a bare ResNet-34, which `load_backbone` reads.

    Args:
        path: the file to write, by custom `.pth`; its folder is made if missing. At width 1 it is what the release's
            `r34mp_pretrained_imagenet.pth.tar` is.
        encoder: of any width.
        classifier: what follows the mean of its last map.

    Raises:
        AimmatError: the file cannot be written.
    """
    _save(path, released.to_resnet(encoder, classifier))


def load_network(
    path_or_name: str | PathLike[str], protocol: Protocol | None = None, **switches: Any
) -> tuple[nn.Module, Card]:
    """Rebuild a trained network from a file, a run's folder or a release's name.

    Args:
        path_or_name: a `.safetensors` file of `save_network`; a Lightning checkpoint of a run, whose hyper-parameters
            hold "model" and whose weights are named "net.*"; a run's folder, which stands for the
            `model.safetensors` in it, else for its newest `<stage>/checkpoints/last.ckpt`; a checkpoint of the
            released AIM code or of another network's public code, see `layouts`; an ONNX file, see `weights.onnx`; or
            a name in RELEASES, unless a file is called so.
        protocol: None keeps what the card says; "paper" or "release" is written into the card's model and inference.
        switches: of the network, those that a file without a card cannot tell. A file with a card says its own.

    Returns:
        The network on the CPU in evaluation mode, and its card (of a checkpoint: its hyper-parameters).

    Raises:
        AimmatError: there is nothing of that name, it is no checkpoint of a network, a switch must be said that is
            not, or its weights do not fit the network that it names.
    """
    path, release = find(path_or_name)
    if path.suffix == ".onnx":
        return load_onnx(path, protocol, switches)
    return assemble(path, read(path), release, protocol, switches)[:2]


def read_network(path_or_name: str | PathLike[str], protocol: Protocol | None = None, **switches: Any) -> Loaded:
    """The same with what the file holds beside the network; see `load_network`."""
    path, release = find(path_or_name)
    return assemble(path, read(path), release, protocol, switches)


def assemble(
    path: Path,
    content: Content,
    release: Release | None = None,
    protocol: Protocol | None = None,
    switches: Mapping[str, Any] = MappingProxyType({}),
) -> Loaded:
    """The network that a file's tensors make; see `load_network`.

    Args:
        path: the file.
        content: what lies in it.
        release: its release, if it was asked for by name.
        protocol: None keeps what the card says.
        switches: that were said of a file without a card.
    """
    found, card = content
    match = recognise(found) if card is None else None
    if card is None:
        if released.is_resnet(found):
            raise AimmatError(
                f"{path} holds a ResNet backbone and no matting network; to start a training from it, set "
                f"backbone.weights={path} and backbone.kind=r34_mp (the release's file) or resnet34 (torchvision's)"
            )
        if match is None:
            raise AimmatError(
                f"cannot load {path}: it has no card that names its network, and the names in it ({next(iter(found))}, "
                f"...) are those of no public code that is known here"
            )
        card = _card_of(path, release, match[1], switches)
    card = _checked(path, card)
    if protocol is not None:
        card = _with_protocol(card, protocol)
    net = models.build(**card["model"])
    wanted = net.state_dict()
    if match is not None:
        weights, unused, aliases = match[0].translate(path, found, wanted)
    else:
        unused = {name.removeprefix(UNUSED): value for name, value in found.items() if name.startswith(UNUSED)}
        own = {name: value for name, value in found.items() if not name.startswith(UNUSED)}
        weights = fit(path, f"the network {card['model']['name']} with the card's switches", wanted, own)
        aliases = 0
    net.load_state_dict(weights)
    return Loaded(net.eval(), card, unused, len(found), aliases)


def _card_of(path: Path, release: Release | None, found: Recognised, switches: Mapping[str, Any]) -> Card:
    """The card of a file that has none.

    Raises:
        AimmatError: a switch that the file cannot tell was not said, or one was said that it contradicts.
    """
    if silent := [switch for switch in found.unsaid if switch not in switches]:
        meanings = "; ".join(f"{switch} is {found.unsaid[switch]}" for switch in silent)
        raise AimmatError(
            f"{path} looks like {found.title}, and its tensors do not tell {' and '.join(silent)}; say which "
            f"({meanings})"
        )
    for switch, value in switches.items():
        if switch not in found.unsaid and found.model.get(switch, value) != value:
            raise AimmatError(f"{path} looks like {found.title}, whose {switch} is {found.model[switch]}, not {value}")
    model = found.model | {switch: switches[switch] for switch in found.unsaid}
    protocol = model.get("protocol", "paper")
    card: Card = {"model": model, "inference": found.inference, "protocol": protocol, "looks_like": found.title}
    card["source"] = f"{path.name}, in the layout of {found.title}"
    if release is not None:
        figures = {test: dict(values) for test, values in release.figures.items()}
        card |= {"source": f"{release.name}: {release.address}", "licence": release.licence, "metrics": figures}
    return card


def _checked(path: Path, card: Card) -> Card:
    model, version, inference = card.get("model"), card.get("format", FORMAT), card.get("inference") or {"name": ""}
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        raise AimmatError(f"{path} does not say which network it holds; it must be written by an aimmat run")
    if version != FORMAT:
        raise AimmatError(
            f"{path} has a card of format {version!r}, this aimmat reads {FORMAT}; install a newer aimmat"
        )
    if not isinstance(inference, dict) or not isinstance(inference.get("name"), str):
        raise AimmatError(f'{path} has a card whose inference is {inference!r}; it must be {{"name": ..., **options}}')
    return card


def _with_protocol(card: Card, protocol: Protocol) -> Card:
    is_release(protocol)
    chosen = {"protocol": protocol}
    model, inference = card["model"], card.get("inference") or {"name": "hybrid"}
    if "protocol" in models.switches_of(model["name"]):
        model = model | chosen
    return card | chosen | {"model": model, "inference": inference | chosen}


def _normalisation(net: nn.Module) -> dict[str, Any]:
    constants = {plain(name): value for name, value in net.named_buffers()}
    if "mean" not in constants or "std" not in constants:
        return {}
    mean, std = ([round(value, 6) for value in constants[name].flatten().tolist()] for name in ("mean", "std"))
    return {"normalisation": {"mean": mean, "std": std, "range": [0, 1]}}


def _save(path: str | PathLike[str], content: dict[str, Any]) -> None:
    file = BytesIO()
    torch.save(content, file)
    write(Path(path), file.getbuffer())
