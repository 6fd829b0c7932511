"""What a stage will cost in time, memory and disk: a step is tried on a copy of the module before the first one."""

from __future__ import annotations

import gc
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import Dataset, default_collate

from aimmat.lit.datamodule import MattingDataModule
from aimmat.schema import AimmatError

_SAMPLES = 8  # of the training set, or as many as load in a second
_LONG = 5.0  # seconds; a first try as long as this is not repeated
_SHORT = 1.0  # seconds; up to here a try has as many pictures as the device takes at once


@dataclass(frozen=True)
class Estimate:
    """What a stage will cost; `str()` is what a console shows.

    Time is without validation, the writing of checkpoints, the traffic between devices and what `torch.compile` gains
    or takes, and with files that the system has read before. Memory is what tensors need: Python, the libraries and the
    loader's processes come on top, and a CPU's allocator keeps up to half as much again.
    """

    steps: int  # of the optimiser
    seconds: float  # a step
    waiting: float  # of these, for the loader
    memory: int  # bytes at the most
    pictures: int  # of these bytes, what the pictures that the device takes at once need
    memory_there: int  # bytes of the device or the machine
    disk: int  # bytes of the checkpoints and the weights
    disk_free: int  # bytes
    warnings: tuple[str, ...] = ()  # sentences

    def __str__(self) -> str:
        step = _duration(self.seconds)
        if self.waiting > 0.1 * self.seconds:
            step += f", {_duration(self.waiting)} of it waiting for data,"
        what = (
            f"about {_duration(self.steps * self.seconds)} for {self.steps:,} steps of {step} without validation; "
            f"memory {_size(self.memory)} of {_size(self.memory_there)}, {_size(self.pictures)} of it for pictures; "
            f"disk {_size(self.disk)} of {_size(self.disk_free)} free"
        )
        return "\n".join([what, *(f"warning: {sentence}" for sentence in self.warnings)])


@dataclass(frozen=True)
class _Tried:
    """What a step of the copy took."""

    forward_backward: float  # seconds a picture
    update: float  # seconds
    activations: float  # bytes a picture
    weights: int  # bytes, buffers included
    gradients: int  # bytes
    state: int  # bytes, of the optimiser
    fits: bool  # False: the device was out of memory with as many pictures as a step will have


def estimate(
    trainer: Trainer, module: LightningModule, data: MattingDataModule, steps: int, folder: str | Path
) -> Estimate | str:
    """Try a step on a copy of the module and reckon what the stage will cost.

    The run afterwards is bit for bit what it would be without: random numbers, weights and statistics of the module,
    order and count of the samples are left as they were. In a distributed run the first process alone need ask.

    Args:
        trainer: of the stage, before `fit`: its device, precision and callbacks are used.
        module: its `training_step(batch, 0)` gives the loss.
        data: of the stage.
        steps: of the optimiser in the stage.
        folder: where checkpoints go; it need not exist yet.

    Returns:
        The estimate, or the sentence that says why there is none.

    Raises:
        AimmatError: a sample cannot be read, as training would say it.
    """
    device = trainer.strategy.root_device
    device_batch, accumulate = data.shared_out(trainer.world_size)
    with isolate_rng(include_cuda=False), torch.random.fork_rng([device] if device.type == "cuda" else []):
        samples, loading = _load(data.train)
        there = _memory(device)
        try:
            tried = _try(trainer, module, data, samples, device_batch, steps)
        except AimmatError:
            raise
        except Exception as error:  # training itself says it better
            return _why_not(error, device, min(device_batch, _few(device)))
        finally:
            gc.collect()  # schedules and optimisers refer to each other
            if device.type == "cuda":
                torch.cuda.empty_cache()
    compute = accumulate * device_batch * tried.forward_backward + tried.update
    load = accumulate * device_batch * loading
    seconds = _together(compute, load, data.num_workers, device, trainer.num_devices)

    averages = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    checkpoint = tried.weights * (1 + averages) + tried.state
    pictures = round(device_batch * tried.activations)
    memory = checkpoint + tried.gradients + pictures
    # The last two, the best, and one that is being written beside them.
    disk = (3 + (data.val is not None)) * checkpoint + tried.weights
    disk_free = shutil.disk_usage(_existing(Path(folder))).free

    warnings = []
    if memory > there or not tried.fits:
        most = min(device_batch - 1, int((there - checkpoint - tried.gradients) / max(tried.activations, 1)))
        mend = f"set data.device_batch_size={most} or less" if most > 0 else "take smaller ones or a narrower network"
        warnings.append(f"{device_batch} pictures at once will hardly fit {_name(device)}; {mend}")
    if disk > disk_free:
        warnings.append(
            f"the checkpoints need {_size(disk)} in {folder}, where {_size(disk_free)} are free; make room, or choose "
            f"another place with paths.runs_dir"
        )
    return Estimate(steps, seconds, seconds - compute, memory, pictures, there, disk, disk_free, tuple(warnings))


def _load(dataset: Dataset) -> tuple[list[Any], float]:
    """Samples from all over the training set, and how many seconds one takes when its files were read before."""
    count, seconds, samples = len(dataset), list[float](), list[Any]()  # type: ignore[arg-type]
    begin = time.perf_counter()
    for index in sorted({count * place // _SAMPLES for place in range(_SAMPLES)}):
        samples.append(dataset[index])
        start = time.perf_counter()
        dataset[index]
        now = time.perf_counter()
        seconds.append(now - start)
        if now - begin > 1:
            break
    return samples, fmean(seconds)


def _try(
    trainer: Trainer,
    module: LightningModule,
    data: MattingDataModule,
    samples: Sequence[Any],
    device_batch: int,
    steps: int,
) -> _Tried:
    device = trainer.strategy.root_device
    cuda = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if cuda else 0
    copy: Any = deepcopy(module).to(device)
    trainer.precision_plugin.convert_module(copy)
    copy.log = copy.log_dict = lambda *_, **__: None
    optimizer = _optimizer(copy, steps)

    def run(pictures: int) -> float:
        """Seconds of a forward and backward pass, gradients left behind."""
        layers = default_collate(list(islice(cycle(samples), pictures)))
        _wait(device)
        start = time.perf_counter()
        batch = data.compose(data.transfer_batch_to_device(layers, device, 0), augment=True)
        with trainer.precision_plugin.forward_context():
            loss = copy.training_step(batch, 0)
        loss.backward()
        _wait(device)
        return time.perf_counter() - start

    pictures, fits = min(device_batch, _few(device)), True
    with _saved_for_backward(copy) as saved:
        seconds = run(pictures)  # also the warm-up
    activations = sum(saved.values()) / pictures
    weights = _bytes([*copy.parameters(), *copy.buffers()])
    gradients = _bytes(parameter.grad for parameter in copy.parameters() if parameter.grad is not None)

    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        seconds = run(pictures)  # the first try has loaded the kernels, which takes longer than all else
    if seconds * device_batch / pictures < _SHORT:
        try:
            seconds = min(run(device_batch), run(device_batch))  # the first takes memory, which costs time by itself
            pictures = device_batch
        except torch.OutOfMemoryError:
            fits = False
    elif seconds < _LONG:
        seconds = min(seconds, run(pictures))
    if cuda and fits:
        activations = max(torch.cuda.max_memory_allocated(device) - before - weights - gradients, 0) / pictures

    optimizer.step()  # makes its state
    start = time.perf_counter()
    optimizer.step()
    _wait(device)
    update = time.perf_counter() - start
    state = _bytes(value for values in optimizer.state.values() for value in values.values() if torch.is_tensor(value))
    return _Tried(seconds / pictures, update, activations, weights, gradients, state, fits)


def _optimizer(copy: LightningModule, steps: int) -> Optimizer:
    """The module's own; its schedule asks the trainer for nothing but the number of steps."""
    copy._trainer = SimpleNamespace(estimated_stepping_batches=steps)  # type: ignore[assignment]
    found: Any = copy.configure_optimizers()
    copy._trainer = None  # without one, the batch is the step
    optimizer: Optimizer = found["optimizer"] if isinstance(found, dict) else found
    return optimizer


@contextmanager
def _saved_for_backward(module: LightningModule) -> Iterator[dict[int, int]]:
    """Bytes of each storage that a forward pass keeps for the backward pass, but for the module's own."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def _together(compute: float, load: float, workers: int, device: torch.device, devices: int) -> float:
    """Seconds of a step whose data are loaded beside it, by processes that share the machine's cores with it."""
    if not workers:
        return compute + load
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    cores = (len(affinity(0)) if affinity else os.cpu_count() or 1) / devices
    busy = compute * (torch.get_num_threads() if device.type == "cpu" else 1)
    return max(compute, load / workers, (busy + load) / cores)


def _memory(device: torch.device) -> int:
    """Bytes that a process may have: of a GPU what is free there, else the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _few(device: torch.device) -> int:
    return 2 if device.type == "cpu" else 4


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _bytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _existing(folder: Path) -> Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def _why_not(error: Exception, device: torch.device, pictures: int) -> str:
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
        several = f"{pictures} pictures at once do" if pictures > 1 else "one picture does"
        mend = "set data.device_batch_size=1" if pictures > 1 else "take smaller ones or a narrower network"
        return f"no estimate: {several} not fit {_name(device)}; {mend}"
    first = (str(error).strip().splitlines() or [""])[0]
    return f"no estimate: trying a step ended in {type(error).__name__}: {first}"


def _name(device: torch.device) -> str:
    return "the memory of this machine" if device.type == "cpu" else f"the memory of {device}"


def _duration(seconds: float) -> str:
    """Two figures and a unit.

    >>> [_duration(seconds) for seconds in (0.0123, 0.7, 40, 390, 9000, 130000)]
    ['12 ms', '0.7 s', '40 s', '6.5 min', '2.5 h', '1.5 days']
    """
    units = ((0.1, 1e-3, "ms"), (100, 1, "s"), (6000, 60, "min"), (129600, 3600, "h"), (math.inf, 86400, "days"))
    unit, name = next((unit, name) for limit, unit, name in units if seconds < limit)
    return f"{_two_figures(seconds / unit)} {name}"


def _size(count: float) -> str:
    """Two figures and a unit.

    >>> [_size(count) for count in (3e5, 2.2e8, 1.3e9, 4.3e10)]
    ['0.29 MiB', '210 MiB', '1.2 GiB', '40 GiB']
    """
    unit, name = (2**20, "MiB") if count < 1000 * 2**20 else (2**30, "GiB")
    return f"{_two_figures(count / unit)} {name}"


def _two_figures(value: float) -> str:
    return f"{float(f'{value:.2g}'):g}"
