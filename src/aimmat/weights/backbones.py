"""Encoders that start from weights trained elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from aimmat.models.encoders import ResNet34
from aimmat.models.layers import Network
from aimmat.schema import AimmatError
from aimmat.weights import released
from aimmat.weights.checkpoints import assemble
from aimmat.weights.files import Weights, find, fit, read

# Both fit the encoder in name and shape. Which of the two functions the weights were trained in, no file can tell.
KINDS = {"r34_mp": "trained with the paper's max-pooling stem", "resnet34": "plain, as torchvision's"}


CLASSIFIERS = ("fc.", "classifier.")  # what torchvision's files hold behind the encoder


def load_backbone(net: nn.Module, path_or_name: str | PathLike[str], kind: str | None) -> None:
    """Fill a network's encoder, or that of its encoders which the file is of.

    Args:
        net: an AimNet, or a network that names its `backbones()`; changed in place.
        path_or_name: an encoder under torchvision's names, of which the classifier is left out. For an AimNet a
            ResNet-34 under the names that torchvision and timm share; or anything that `load_network` takes, whose
            encoder is taken.
        kind: of an AimNet's, "r34_mp", trained with the paper's max-pooling stem, as the released file; or "resnet34",
            the plain one. The card of what is trained from it should keep it under "backbone". None for all others.

    Raises:
        AimmatError: the kind is not said or not the file's, there are no such weights, or they do not fit.
    """
    net = getattr(net, "_orig_mod", net)
    if isinstance(net, Network) and (encoders := net.backbones()):
        _load_named(encoders, path_or_name, type(net).__name__)
        return
    if kind not in KINDS:
        meanings = " or ".join(f"{name} ({meaning})" for name, meaning in KINDS.items())
        raise AimmatError(f"the kind of the backbone {path_or_name} must be {meanings}, got {kind!r}")
    encoder = encoder_of(net)
    path, release = find(path_or_name)
    content, wanted = read(path), encoder.state_dict()
    bare = content.card is None and released.is_resnet(content.weights)
    found = content.weights if bare else _encoder(path, assemble(path, content, release).net, kind)
    channels = len(found["conv1.weight" if bare else "stem.0.weight"])
    if channels != encoder.channels[0]:
        raise AimmatError(
            f"the backbone {path} begins with {channels} channels, the network with {encoder.channels[0]}; "
            f"a ResNet-34 of ImageNet fits model.width=1 only"
        )
    encoder.load_state_dict(
        released.from_resnet(path, found, wanted) if bare else fit(path, "this encoder", wanted, found)
    )


def encoder_of(net: nn.Module) -> ResNet34:
    """The encoder that a backbone fills.

    Args:
        net: a network; it may be compiled.

    Raises:
        AimmatError: it has no ResNet-34.
    """
    encoder = getattr(getattr(net, "_orig_mod", net), "encoder", None)
    if not isinstance(encoder, ResNet34):
        raise AimmatError(f"a backbone fills a ResNet-34 encoder, which {type(net).__name__} does not have")
    return encoder


def kind_of(encoder: ResNet34) -> str:
    """The one of KINDS that an encoder is, and that its weights are trained as."""
    return "r34_mp" if sum(encoder.pools) > 1 else "resnet34"


def _load_named(encoders: Mapping[str, nn.Module], path_or_name: str | PathLike[str], network: str) -> None:
    """Fill the one of several encoders that a file in torchvision's names is of."""
    path, _ = find(path_or_name)
    found = {_today(name): value for name, value in read(path).weights.items() if not name.startswith(CLASSIFIERS)}
    names = {_stem(name) for name in found}
    fitting = [
        name
        for name, encoder in encoders.items()
        if {_stem(key) for key in encoder.state_dict()} == {key for key in names if not key.startswith(_idle(encoder))}
    ]
    if not fitting:
        raise AimmatError(
            f"the backbone {path} is none that {network} starts from; it takes {' and '.join(encoders)} under "
            f"torchvision's names"
        )
    encoder = encoders[fitting[0]]
    wanted = encoder.state_dict()
    found = {name: value for name, value in found.items() if not name.startswith(_idle(encoder))}
    for name, value in wanted.items():
        if name in found and value.ndim == 4 and found[name].ndim == 4:
            found[name] = _widened(found[name], value)
    encoder.load_state_dict(fit(path, f"{network}'s {fitting[0]}", wanted, found))


def _idle(encoder: nn.Module) -> tuple[str, ...]:
    """The beginning of the names of what a network has no use for in its encoder, where nn.Identity stands."""
    return tuple(f"{name}." for name, part in encoder.named_modules() if isinstance(part, nn.Identity))


def _today(name: str) -> str:
    """The name that torchvision's DenseNets have today: their files still say norm.1 for norm1.

    >>> _today("features.denseblock1.denselayer1.norm.1.weight")
    'features.denseblock1.denselayer1.norm1.weight'
    """
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.", r"\1", name)


def _stem(name: str) -> str:
    """A tensor's name; those of the counters, which old files lack, count as their module's running mean."""
    return name.replace("num_batches_tracked", "running_mean")


def _widened(kernel: Tensor, wanted: Tensor) -> Tensor:
    """The kernel of a first convolution with zeros for channels that its pictures did not have, such as a trimap."""
    more = wanted.shape[1] - kernel.shape[1]
    if more <= 0 or kernel.shape[1] != 3:
        return kernel
    return torch.cat((kernel, kernel.new_zeros(len(kernel), more, *kernel.shape[2:])), dim=1)


def _encoder(path: Path, net: nn.Module, kind: str) -> Weights:
    """The weights of another network's encoder, of which it is known what it was trained as."""
    encoder = getattr(net, "encoder", None)
    if not isinstance(encoder, ResNet34):
        raise AimmatError(f"{path} holds a {type(net).__name__}, which has no ResNet-34 encoder")
    if (own := kind_of(encoder)) != kind:
        raise AimmatError(f"the encoder in {path} was trained as {own}, not as {kind}; set backbone.kind={own}")
    return encoder.state_dict()
