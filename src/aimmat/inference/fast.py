"""The form of a trained network that predicts fastest."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import cast

import torch
from torch import nn

from aimmat.schema import AimmatError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def quick(net: nn.Module, dtype: str = "float32", max_memory: float | None = None) -> nn.Module:
    """Make the form of a network that a Predictor asks.

    Args:
        net: a trained network in evaluation mode, on its device; it stays as it is.
        dtype: of the arithmetic, "float32", or "bfloat16", which is quicker and moves mattes by about a thousandth;
            predictions are float32.
        max_memory: MiB that an AimNet's maps of the full size of its input may take at once. It goes through the
            picture in bands of as many rows as that allows, with the same result; None takes 450. What else it holds
            is not counted: the weights, maps of half the size, the picture.

    Returns:
        An AimNet on the CPU, or one with a limit of memory, in a form of its own (`models.fast`). Others are what they
        were; in bfloat16 that is by autocast.

    Raises:
        AimmatError: another dtype, a limit that is no number above 0, or a limit for a network that has none.
    """
    if dtype not in DTYPES:
        raise AimmatError(f"dtype must be {' or '.join(DTYPES)}, got {dtype!r}")
    if max_memory is not None:
        if isinstance(max_memory, bool) or not isinstance(max_memory, int | float) or not 0 < max_memory < float("inf"):
            raise AimmatError(f"max_memory must be a number of MiB above 0, got {max_memory!r}")
        if not hasattr(net, "fast"):
            raise AimmatError(
                f"{type(net).__name__} works on a picture as a whole and takes no max_memory; leave it out and give "
                f"the strategy a smaller max_side"
            )
    device = next((value.device.type for value in net.parameters()), "cpu")
    make = cast(Callable[..., nn.Module] | None, getattr(net, "fast", None))
    if make is not None and (device == "cpu" or max_memory is not None):
        return make(DTYPES[dtype], max_memory)
    if dtype == "float32":
        return net
    half = copy(net)  # the weights are shared
    half.forward = torch.autocast(device, DTYPES[dtype])(net.forward)  # type: ignore[method-assign]
    return half
