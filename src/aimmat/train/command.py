"""The command: arguments, Hydra, the run, and its exit code."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import sys
import traceback
import warnings
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf

from aimmat.console import TRACEBACK, guarded, keep_memory
from aimmat.lit.processes import agreed
from aimmat.schema import AimmatError
from aimmat.tables import write_file
from aimmat.train import sweep
from aimmat.train.plan import BACKBONE, BEFORE, check, config_dir, first_start, of_weights, read_data, sequence
from aimmat.train.report import describe, make_loggers, test_run, test_start
from aimmat.train.resume import Finished, resumed
from aimmat.train.stages import console, make_trainer, train_stage, validation_sad


def run(config: DictConfig) -> float:
    """Train the stages one after the other, test, and write what the run leaves.

    Args:
        config: composed from `conf/train.yaml`.

    Returns:
        In a search the SAD of the validation split, thousands of pixels, since nothing may be chosen by the test's;
        otherwise nan.

    Raises:
        AimmatError: something in the config or the data that a user can mend.
        KeyboardInterrupt: Ctrl-C; its text says how to go on.
    """
    output = Path(config.paths.output_dir)
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # of the run's processes: it alone prints and writes
    console.quiet = not first
    config = of_weights(config)
    check(config)
    again = config.resume or (sweep.is_listed() and HydraConfig.get().mode is RunMode.MULTIRUN)  # SLURM requeues jobs
    if first and not again and (output / "config.yaml").exists():
        raise AimmatError(f"{output} holds a run already; go on with it by resume={output}, or choose another folder")
    names = sequence(config)
    data = read_data(config, names or [None])  # without stages only the test's
    last = names[-1] if names else None
    if sweep.is_search() and (last is None or "module" in config.stage[last] or data[last].val is None):
        raise AimmatError(
            f"a search looks for the least SAD of the validation split, and stage {last} has none; "
            f"name another last stage or give it data.val"
        )
    devices = make_trainer(config, output, [], [], 1).world_size
    for found in data.values():
        found.shared_out(devices)  # what one of them cannot do is said before any time is spent
    start = first_start(config)
    if first:
        write_file(output / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    if config.logger.get("wandb", {}).get("offline"):
        os.environ.setdefault("WANDB_SILENT", "true")  # it would explain at length that it is offline
    loggers = make_loggers(config, output)
    failed = True
    try:
        if first:
            describe(loggers, config, output)
        if config.before:
            test_start(config, [*data.values()][-1], start, output / BEFORE)
        for name in names:
            start = train_stage(config, name, data[name], loggers, start, output)
        sad = float("nan")
        if names and "module" in config.stage[names[-1]]:
            console.print(f"stage {names[-1]} trains no matting network, so there is no test", soft_wrap=True)
            if first:
                shutil.copyfile(output / names[-1] / BACKBONE, output / BACKBONE)
        else:
            test_run(config, data[last], loggers, start, output)
            if sweep.is_search():
                sad = validation_sad(config, data[last], start, output)
        failed = False
        return sad
    except SystemExit:  # Lightning's answer to Ctrl-C
        resume = shlex.quote(f"resume={output}")
        raise KeyboardInterrupt(f"go on with: python -m aimmat.train {resume}") from None
    finally:
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            wandb.finish(exit_code=int(failed))  # an open run would swallow the next job of a sweep


def _quiet() -> None:
    """Leave out what the libraries say at every start and nobody can act on."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*in eval mode at the start of training.*",
        ".*tensorboardX.*",
        ".*`anonymous`.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # what is logged was summed over the processes
    ):
        warnings.filterwarnings("ignore", message)


_failure: list[Exception] = []


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
def _hydra(config: DictConfig) -> float | None:
    keep_memory()  # here and not in `main`: a launcher may have started this process for a job
    _quiet()
    try:
        with sweep.job(config):
            return run(config)
    except Exception as error:
        if HydraConfig.get().mode is RunMode.RUN:
            _failure.append(error)
            return None
        if not sweep.is_listed():
            raise  # the sweeper knows what to make of it
        if os.environ.get(TRACEBACK) == "1":
            traceback.print_exc()
        return float("nan")  # noted in the job's folder; the others go on, and `sweep.end` says what is left


def _arguments(given: list[str]) -> list[str]:
    """What was asked for, the same in all processes of a run."""
    if any(argument.startswith("hydra.job.name=train_ddp_process_") for argument in given):
        return given  # Lightning started this process, and gave it the first one's
    given = json.loads(agreed("arguments", json.dumps(resumed(given))))
    return given if rank_zero_only.rank == 0 else [*given, "hydra.output_subdir=null"]  # type: ignore[attr-defined]  # the first writes it


def main() -> int:
    """Entry point; see `python -m aimmat.train --help`."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B asks its host otherwise, offline too
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach `guarded`, which makes one sentence of them

    def command() -> None:
        try:
            sys.argv[1:] = _arguments(sys.argv[1:])
        except Finished as finished:
            if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
                print(finished)
            return
        _failure.clear()
        plan = sweep.planned(sys.argv[1:])
        first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        if plan:
            sys.argv[1:] = plan.arguments
        if plan and first:
            sweep.begin(plan)
        left = ""
        try:
            _hydra()
        except Exception as error:
            if not type(error).__module__.startswith("joblib"):
                raise
            print("a process of the sweep was killed, and joblib ended the others", file=sys.stderr)
        finally:
            if plan and first:
                left = sweep.end(plan.folder)
        if left:
            raise AimmatError(left)
        if _failure:
            raise _failure[0]

    return guarded(command)
