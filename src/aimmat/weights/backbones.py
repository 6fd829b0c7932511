"""Encoders that start from weights trained elsewhere."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from torch import nn

from aimmat.models.encoders import ResNet34
from aimmat.schema import AimmatError
from aimmat.weights import released
from aimmat.weights.checkpoints import assemble
from aimmat.weights.files import Weights, find, fit, read

# Both fit the encoder in name and shape. Which of the two functions the weights were trained in, no file can tell.
KINDS = {"r34_mp": "trained with the paper's max-pooling stem", "resnet34": "plain, as torchvision's"}


def load_backbone(net: nn.Module, path_or_name: str | PathLike[str], kind: str | None) -> None:
    """Fill a network's encoder.

    Args:
        net: a network whose `encoder` is a ResNet-34, changed in place.
        path_or_name: a ResNet-34 under the names that torchvision and timm share, of which the classifier is left
            out; or anything that `load_network` takes, whose encoder is taken.
        kind: "r34_mp", trained with the paper's max-pooling stem, as the released file; or "resnet34", the plain one.
            The card of what is trained from it should keep it under "backbone".

    Raises:
        AimmatError: the kind is not said or not the file's, there are no such weights, or they do not fit.
    """
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


def _encoder(path: Path, net: nn.Module, kind: str) -> Weights:
    """The weights of another network's encoder, of which it is known what it was trained as."""
    encoder = getattr(net, "encoder", None)
    if not isinstance(encoder, ResNet34):
        raise AimmatError(f"{path} holds a {type(net).__name__}, which has no ResNet-34 encoder")
    if (own := kind_of(encoder)) != kind:
        raise AimmatError(f"the encoder in {path} was trained as {own}, not as {kind}; set backbone.kind={own}")
    return encoder.state_dict()
