"""The networks, by name, and how large they are."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from aimmat.models.aimnet import AimNet
from aimmat.models.dim import DIM
from aimmat.models.gfm import GFM
from aimmat.models.hatt import HATT
from aimmat.models.layers import Network
from aimmat.models.lf import LF
from aimmat.models.onnx import OnnxNetwork
from aimmat.models.shm import SHM
from aimmat.models.u2net import U2Net
from aimmat.schema import AimmatError

NETWORKS: dict[str, type[Network]] = {
    "aimnet": AimNet,
    "dim": DIM,
    "gfm": GFM,
    "hatt": HATT,
    "lf": LF,
    "onnx": OnnxNetwork,
    "shm": SHM,
    "u2net": U2Net,
}


def build(name: str, **switches: Any) -> Network:
    """A network with fresh weights.

    Args:
        name: the network's name in NETWORKS.
        **switches: its constructor's arguments, as its docstring explains them.

    Returns:
        A module that maps an image (B, C, H, W) in [0, 1] to a schema.Prediction.

    Raises:
        AimmatError: no network of that name, no such switch, or a value that the switch cannot have.

    >>> build("aimnet", width=0.125, sa=False).stride
    32
    """
    if name not in NETWORKS:
        raise AimmatError(
            f"there is no network {name!r}{_meant(name, NETWORKS)}; the networks are {', '.join(NETWORKS)}"
        )
    known = switches_of(name)
    for switch in switches:
        if switch not in known:
            raise AimmatError(
                f"{name} has no switch {switch!r}{_meant(switch, known)}; its switches are {', '.join(known)}"
            )
    return NETWORKS[name](**switches)


def switches_of(name: str) -> dict[str, Any]:
    """The switches of a network in NETWORKS with their defaults.

    >>> switches_of("aimnet")
    {'mp': True, 'se': True, 'sa': True, 'width': 1.0, 'fusion': 'hard', 'protocol': 'paper'}
    """
    return {key: p.default for key, p in inspect.signature(NETWORKS[name]).parameters.items()}


def count_parameters(net: nn.Module) -> int:
    """Number of trainable values in a network; batch normalisation's running statistics are none.

    >>> count_parameters(nn.Conv2d(3, 8, 3))
    224
    """
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net: Network, size: int | tuple[int, int]) -> int:
    """Multiply-accumulates of the convolutions and linear layers for one image; nothing is computed.

    Args:
        net: a network of ours, on any device, left as it was.
        size: (H, W) of the image, or the side of a square one.

    Returns:
        A count. Biases, batch normalisation, activations, pooling and resizing are left out: the paper's 191.52 G
        for AimNet at 800 x 800 hold some of them, this counts 190.58 G.
    """
    height, width = (size, size) if isinstance(size, int) else size
    total = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    image = torch.empty(1, net.input_channels, height, width, device="meta")
    state = {key: value.to("meta") for key, value in (*net.named_parameters(), *net.named_buffers())}
    handles = [module.register_forward_hook(count) for module in net.modules() if not list(module.children())]
    modes = {module: module.training for module in net.modules()}
    try:
        with torch.no_grad():
            torch.func.functional_call(net.eval(), state, (image,))
    finally:
        for module, training in modes.items():
            module.training = training
        for handle in handles:
            handle.remove()
    return total


def _meant(word: str, known: Any) -> str:
    """', did you mean ...' when something is close."""
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
