"""Work on many files in several processes, one file at a time in each."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
import torch

from aimmat.schema import AimmatError

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(function: Callable[[Item], Result], items: Sequence[Item], jobs: int = 1) -> Iterator[Result]:
    """`map` in several processes, results in the order of the items.

    Args:
        function: of a module, or `functools.partial` of one.
        items: what it is called with.
        jobs: processes; 1 stays in this one.

    Raises:
        AimmatError: a process was ended from outside.
    """
    if jobs == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(jobs, _context(), _start) as pool:
        try:
            yield from pool.map(function, items, chunksize=4)
        except BrokenProcessPool:
            raise AimmatError(
                "a process was ended from outside, most often for want of memory; give a smaller --jobs"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _context() -> multiprocessing.context.BaseContext:
    """Processes that are forked from one that has imported torch once for all, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["aimmat.data"])
    return context


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
