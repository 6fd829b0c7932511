"""What the processes of one run agree on and gather, whoever started them: Lightning, torchrun or SLURM."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from itertools import chain, zip_longest
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def agreed(name: str, value: str) -> str:
    """One value for all processes that torchrun started, before they have met: that of the first to come here.

    Args:
        name: of what is to be agreed on.
        value: of this process, not empty.

    Returns:
        The value of all; `value` itself where torchrun has no part.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return value
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(minutes=5))  # type: ignore[attr-defined]
    return str(store.compare_set(f"aimmat/{name}", "", value).decode())  # what was there, or this value if nothing was


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, in each of them."""
    if dist.is_available() and dist.is_initialized():
        values = values.clone()
        dist.all_reduce(values)
    return values


def gathered(mine: Sequence[T]) -> list[T]:
    """What the processes have, each every n-th of it, in order and in each of them."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(mine)
    parts: list[Sequence[T]] = [()] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    missing = object()
    return [found for found in chain.from_iterable(zip_longest(*parts, fillvalue=missing)) if found is not missing]  # type: ignore[misc]
