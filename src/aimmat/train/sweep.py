"""A sweep: its jobs listed before the first starts, a GPU and a log for each that runs beside others, its end."""

from __future__ import annotations

import getpass
import itertools
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import hydra
import torch
from filelock import FileLock, Timeout
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig

from aimmat.console import sentence
from aimmat.schema import AimmatError
from aimmat.tables.sweeps import BUSY, FAILURE, SWEEP, TABLE, console_table, read_sweep, write_sweep, write_table
from aimmat.train.plan import config_dir
from aimmat.train.stages import console

PARALLEL = ("joblib", "submitit_local")  # launchers whose jobs share the GPUs of this machine


class Plan(NamedTuple):
    """What a sweep will be."""

    folder: Path
    jobs: list[list[str]]  # the overrides of each
    arguments: list[str]  # of the command, the folder among them: another composition might name it later


def planned(arguments: Sequence[str]) -> Plan | None:
    """What the sweep of a command will be; None where it is none, or its sweeper chooses jobs as it goes.

    Args:
        arguments: of the command.

    Raises:
        AimmatError: no job, folders that are not the jobs' numbers, or more processes than GPUs.
    """
    given = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    if len(given) == len(arguments) or any(argument.startswith("-") for argument in given):
        return None
    with hydra.initialize_config_dir(str(config_dir().absolute()), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides(given)
        chosen = [item.input_line or "" for item in overrides if not item.is_sweep_override()]
        config = hydra.compose("train", chosen, return_hydra_config=True)
        settings = config.hydra
        if settings.runtime.choices["hydra/sweeper"] != "basic":
            return None
        fixed = parser.parse_overrides([f"{key}={value}" for key, value in (settings.sweeper.params or {}).items()])
        swept = [item for item in [*fixed, *overrides] if item.is_sweep_override()]
        if any(item.is_hydra_override() or not item.is_discrete_sweep() for item in swept):
            return None  # Hydra says what is wrong with it
        own = {item.get_key_element(): item for item in [*fixed, *overrides] if not item.is_hydra_override()}
        values = {key: _values(key, item) for key, item in own.items()}
    if empty := [str(own[key].input_line) for key, found in values.items() if not found]:
        raise AimmatError(
            f"a sweep of no job: nothing is found by {' and '.join(empty)}; "
            f"the names to choose from are those of the files in {config_dir()}"
        )
    if any(argument.startswith("hydra.sweep.subdir=") for argument in given):
        raise AimmatError("hydra.sweep.subdir is the number of the job, by which a sweep is listed; leave it out")
    launcher = settings.runtime.choices["hydra/launcher"]
    if launcher == "joblib" and (gpus := devices(config)) and not 1 <= settings.launcher.n_jobs <= len(gpus):
        raise AimmatError(
            f"hydra.launcher.n_jobs={settings.launcher.n_jobs} processes cannot have one each of {len(gpus)} GPUs; "
            f"set hydra.launcher.n_jobs={len(gpus)}"
        )
    folder = Path(settings.sweep.dir).absolute()
    jobs = [list(job) for job in itertools.product(*values.values())]
    return Plan(folder, jobs, ["-m", *given, f"hydra.sweep.dir='{folder}'"])


def _values(key: str, item: Override) -> list[str]:
    values = item.sweep_string_iterator() if item.is_sweep_override() else [item.get_value_element_as_str()]
    return [f"{key}={value}" for value in values]


def begin(plan: Plan) -> None:
    """List a sweep's jobs in its folder.

    Raises:
        AimmatError: the folder holds a sweep already.
    """
    if (plan.folder / SWEEP).exists():
        raise AimmatError(
            f"{plan.folder} holds a sweep already; {_retry(plan.folder)}, or choose another hydra.sweep.dir"
        )
    write_sweep(plan.folder, Path.cwd(), plan.jobs)


def end(folder: Path) -> str:
    """Print how a sweep's jobs stand and leave it as sweep.csv; returns what to say of those that are not done."""
    jobs = read_sweep(folder)[1]
    console.print(console_table(jobs))
    write_table(folder, jobs)
    console.print(f"  {folder / TABLE}  [dim]the same as a file[/dim]", soft_wrap=True)
    left = sum(job.state != "done" for job in jobs)
    return f"{left} of {len(jobs)} jobs are not done; {_retry(folder)}" if left else ""


def is_listed() -> bool:
    """Whether the run under way is a job of a sweep whose jobs were listed."""
    return HydraConfig.initialized() and (Path(HydraConfig.get().runtime.output_dir).parent / SWEEP).exists()


def is_search() -> bool:
    """Whether the run under way is a trial of a sweeper that chooses the next by what this one returns."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN:
        return False
    return bool(HydraConfig.get().runtime.choices["hydra/sweeper"] != "basic")


def _retry(folder: Path) -> str:
    return f"run what is left with: {shlex.join(['python', '-m', 'aimmat.report', 'sweep', str(folder)])} --retry"


@contextmanager
def job(config: DictConfig) -> Iterator[None]:
    """Around a run: what it needs and leaves as the job of a sweep; nothing if it is none.

    Raises:
        AimmatError: another process has this job in hand.
    """
    if rank_zero_only.rank != 0 or not (is_listed() or is_search()):  # type: ignore[attr-defined]
        yield
        return
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    launcher = settings.runtime.choices["hydra/launcher"] if settings.mode is RunMode.MULTIRUN else None
    try:
        with FileLock(folder / BUSY, timeout=0), _text(folder) if launcher == "joblib" else nullcontext():
            (folder / FAILURE).unlink(missing_ok=True)
            try:
                if launcher in PARALLEL:
                    take_gpu(devices(config), Path(tempfile.gettempdir()))
                yield
            except Exception as error:
                (folder / FAILURE).write_text(sentence(error) + "\n", encoding="utf-8")
                if launcher:
                    print(f"job {folder.name} failed: {sentence(error)}", file=sys.stderr)
                raise
    except Timeout:
        raise AimmatError(f"another process runs the job {folder}; wait for it, or end it first") from None


@contextmanager
def _text(folder: Path) -> Iterator[None]:
    """What a job prints goes into its folder, since several at once cannot share a console."""
    with (folder / "log.txt").open("a", encoding="utf-8") as file, redirect_stdout(file):
        yield


def devices(config: DictConfig) -> list[str]:
    """The GPUs that jobs may have, by the names that CUDA_VISIBLE_DEVICES has for them; CUDA is not started."""
    if config.trainer.accelerator == "cpu":
        return []
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


_gpu: list[FileLock] = []  # of this process, until it ends: CUDA does not change its device


def take_gpu(names: Sequence[str], folder: Path, pause: float = 5) -> None:
    """Give this process the first GPU that no other job of the user has, and let CUDA see it alone; waits for one.

    Args:
        names: to choose from; none is a machine without GPUs.
        folder: of the lock files, seen by all processes of this machine.
        pause: seconds between two tries.
    """
    locks = {name: FileLock(folder / f"aimmat-{getpass.getuser()}-gpu{name}.lock") for name in names}
    while locks and not _gpu:
        for name, lock in locks.items():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _gpu.append(lock)
            os.environ["CUDA_VISIBLE_DEVICES"] = name
            return
        time.sleep(pause)
