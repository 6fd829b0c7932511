"""Automatic image matting: train, compare and use networks that need no trimap.

>>> import aimmat
>>> predictor = aimmat.load("runs/full")  # doctest: +SKIP
>>> matte = predictor("photo.jpg")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from aimmat import data, functional, images, inference, metrics, models, schema, tables, weights
    from aimmat.inference import Predictor
    from aimmat.schema import AimmatError, Protocol

__all__ = [
    "AimmatError",
    "Predictor",
    "__version__",
    "build",
    "data",
    "functional",
    "images",
    "inference",
    "load",
    "metrics",
    "models",
    "schema",
    "tables",
    "weights",
]

# `import albumentations` asks the package index for a newer version of itself unless this is set beforehand.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def build(name: str, **switches: Any) -> nn.Module:
    """Make a network with random weights.

    Args:
        name: the architecture, for example "aimnet".
        switches: the constructor arguments of that architecture.

    Returns:
        The network: image (B, 3, H, W) in [0, 1] -> schema.Prediction.

    Raises:
        AimmatError: no such architecture or switch.
    """
    from aimmat import models

    return models.build(name, **switches)


def load(
    path_or_name: str | os.PathLike[str],
    device: str = "auto",
    protocol: Protocol | None = None,
    dtype: str = "float32",
    max_memory: float | None = None,
    **switches: Any,
) -> Predictor:
    """Make a Predictor from trained weights; it applies the strategy that they were tested with.

    Args:
        path_or_name: a run's folder, a checkpoint in it, a `.safetensors` file of ours, a checkpoint of the released
            AIM code or of another network's public code; an ONNX file of `python -m aimmat.export` or anybody's; or the
            name of a release in `weights.RELEASES`, which is downloaded unless that was done before.
        device: "auto" takes CUDA where there is one, else the CPU; or any name that torch knows.
        protocol: "paper" or "release", what is computed where the two differ; None takes what the weights were
            trained for.
        dtype: of the network's arithmetic, "float32", or "bfloat16", which is quicker.
        max_memory: MiB for an AimNet's largest maps at once, see `inference.fast.quick`.
        switches: of the network, those that a file of public code cannot tell; the error names them.

    Returns:
        predictor(image) -> alpha matte (H, W); its network is `.net`.

    Raises:
        AimmatError: nothing that can be loaded lies there, it cannot be downloaded, or the device does not exist here.
    """
    from aimmat.inference import Predictor, build_strategy
    from aimmat.weights import load_network

    net, card = load_network(path_or_name, protocol, **switches)
    inference = {"protocol": card.get("protocol", "paper")} | (card.get("inference") or {"name": "hybrid"})
    return Predictor(net, build_strategy(**inference), device, dtype, max_memory)


def __getattr__(name: str) -> Any:
    """Import the public parts when they are first used, so that `import aimmat` costs nothing."""
    if name == "__version__":
        return _version()
    if name == "Predictor":
        return import_module("aimmat.inference").Predictor
    if name == "AimmatError":
        return import_module("aimmat.schema").AimmatError
    if name in __all__:
        return import_module(f"aimmat.{name}")
    raise AttributeError(f"module 'aimmat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("aimmat")
    except PackageNotFoundError:  # a bare checkout on the path
        return "0+unknown"
