"""One stage after the other: module, trainer, checkpoints, and the weights that go on to the next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from aimmat.data.records import RECORD
from aimmat.lit import CurveLogger, MattingDataModule, MattingModule
from aimmat.lit.checkpoints import finite, latest
from aimmat.lit.datamodule import RecordSamples
from aimmat.lit.estimate import estimate
from aimmat.models import build
from aimmat.schema import AimmatError
from aimmat.tables import write_file
from aimmat.train.plan import BACKBONE, COST, MODEL, Start, card_of, epochs_of, stage_data, stage_model
from aimmat.weights import load_backbone, load_network, save_network
from aimmat.weights.backbones import encoder_of, kind_of

console = Console(highlight=False)


def make_module(config: DictConfig, stage: str | None, start: Start) -> Any:
    """The stage's module; None is the module of the test."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    parts: dict[str, Any] = {}
    frozen = plain["frozen"]
    if stage is not None:
        settings = config.stage[stage]
        parts = {key: instantiate(settings[key]) for key in ("loss", "optimizer", "schedule") if key in settings}
        if "module" in settings:
            return instantiate(settings.module)(plain["model"], prefix=config.log_prefix, **parts)
        frozen = [*frozen, *settings.get("frozen", [])]
    model = stage_model(config, stage)
    module = MattingModule(model, plain["inference"], prefix=config.log_prefix, frozen=frozen, **parts)
    if start.weights is not None:
        module.net.load_state_dict(start.weights)
    elif start.backbone:
        for file in start.backbone:
            load_backbone(module.net, file, start.kind)
    elif stage is not None and (encoders := module.net.backbones()):
        said = "no weights were given: the network learns from nothing"
        console.print(f"stage {stage}: {said}, without backbone.weights of {' and '.join(encoders)}", soft_wrap=True)
    if config.channels_last:
        module.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compile and stage is not None:
        module.net.compile()
    return module


def make_trainer(
    config: DictConfig, folder: Path, loggers: list[Logger], callbacks: list, epochs: int
) -> lightning.Trainer:
    """Lightning\'s trainer as the config has it; refuses a sweep whose jobs would each start it over."""
    options = {}
    if config.trainer.accelerator == "cpu" or not torch.cuda.is_available():
        options["sync_batchnorm"] = False  # torch has it for CUDA alone
    trainer: lightning.Trainer = instantiate(
        config.trainer,
        logger=loggers or False,
        callbacks=callbacks,
        default_root_dir=str(folder),
        max_epochs=epochs,
        **options,
    )
    sweep = HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
    launcher = trainer.strategy.launcher
    own = isinstance(launcher, _SubprocessScriptLauncher) and trainer.world_size > 1
    if sweep and own and not launcher.cluster_environment.creates_processes_externally:  # type: ignore[union-attr]
        raise AimmatError(
            f"a job of this sweep has {trainer.world_size} processes, and each that Lightning starts would begin the "
            f"whole sweep again; start the sweep with torchrun or SLURM (docs/cluster.md), or set trainer.devices=1"
        )
    return trainer


def train_stage(
    config: DictConfig,
    stage: str,
    data: MattingDataModule,
    loggers: list[Logger],
    start: Start,
    output: Path,
) -> Start:
    """Train one stage, or take what an earlier try of the run left of it; returns what the next one starts from."""
    folder = output / stage
    done = folder / (BACKBONE if "module" in config.stage[stage] else MODEL)
    if done.exists():
        console.print(f"stage {stage} is done: {done}")
        return _left(config, stage, done)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    prefix = "" if stage == config.stages[-1] else f"{stage}/"
    config = OmegaConf.merge(config, {"paths": {"stage_dir": str(folder)}, "log_prefix": prefix})  # type: ignore[assignment]
    module = make_module(config, stage, start)
    left_out = () if loggers else ("lr",)  # Lightning refuses to monitor for nobody
    watching = OmegaConf.merge(config.callbacks, config.stage[stage].get("callbacks") or {})
    callbacks = [instantiate(found) for name, found in watching.items() if found and name not in left_out]
    settings: Any = OmegaConf.to_container(stage_data(config, stage), resolve=True)
    timer = Timer()  # its time is in the checkpoints, so it counts what a run did before it was killed
    callbacks += [RecordSamples(folder / RECORD, settings), timer]
    epochs = epochs_of(config, stage)
    trainer = make_trainer(config, folder, loggers, callbacks, epochs)
    if data.val is None:
        trainer.limit_val_batches = 0
    at_once, trainer.accumulate_grad_batches = data.shared_out(trainer.world_size)
    steps = -(-len(data.train) // data.batch_size)  # type: ignore[arg-type]
    limit = trainer.limit_train_batches  # a number of batches, or a share of them
    steps = min(steps, -(-limit // trainer.accumulate_grad_batches)) if isinstance(limit, int) else int(steps * limit)
    trainer.log_every_n_steps = max(1, min(trainer.log_every_n_steps, steps))  # type: ignore[attr-defined]
    if recipe := getattr(data.train, "recipe", ""):  # how the paper counts its training images
        console.print(f"stage {stage}: {recipe}", soft_wrap=True)
    console.print(f"stage {stage}: {epochs} epochs of {steps} steps, {data.batch_size} pictures a step", soft_wrap=True)
    if trainer.world_size * trainer.accumulate_grad_batches > 1:
        console.print(
            f"stage {stage}: {trainer.world_size} (devices) x {at_once} (at once) x {trainer.accumulate_grad_batches} "
            f"(accumulated) make a step; learning rate and schedule count steps, whatever the devices",
            soft_wrap=True,
        )
    if config.estimate and trainer.is_global_zero:
        console.print(f"stage {stage}: {estimate(trainer, module, data, epochs * steps, folder)}", soft_wrap=True)
    _log_of(stage, loggers)
    try:
        trainer.fit(module, data, ckpt_path=latest(folder / "checkpoints"), weights_only=True)
        if not finite(module):
            raise FloatingPointError("the weights are not finite at the end")
    except FloatingPointError as error:
        raise AimmatError(f"{error}; {_after_nan(trainer, folder)}") from error
    if trainer.is_global_zero:
        cost = {"seconds": timer.time_elapsed(), "steps": trainer.global_step, "epochs": trainer.current_epoch}
        write_file(folder / COST, json.dumps(cost | {"devices": trainer.world_size}))
        if isinstance(module, MattingModule):
            save_network(done, module.net, card_of(config, stage, start))
        else:
            module.save(done)
    trainer.strategy.barrier()  # a stage that is done is done for all processes
    return _left(config, stage, done)


def validation_sad(config: DictConfig, data: MattingDataModule, start: Start, output: Path) -> float:
    """SAD of a trained network on the validation split, thousands of pixels."""
    trainer = make_trainer(config, output, [], [], 1)
    (logged,) = trainer.validate(make_module(config, None, start), data, verbose=False)
    return float(logged["val/sad"])


def _left(config: DictConfig, stage: str, done: Path) -> Start:
    """What the stage after one that is done starts from."""
    if "module" in config.stage[stage]:
        plain: Any = OmegaConf.to_container(config.model, resolve=True)
        return Start(backbone=(str(done),), kind=kind_of(encoder_of(build(**plain))))
    net, card = load_network(done)
    return Start(net.state_dict(), card=card)


def _after_nan(trainer: lightning.Trainer, folder: Path) -> str:
    """Where a stage stopped, for a loss that is no number, and what to do about it."""
    step = trainer.global_step - (not trainer.interrupted)  # the one under way, or else the last
    advice = f"it is step {step} of stage {folder.name}: lower the learning rate, or train in 32-bit precision"
    if not ((folder / RECORD).exists() and isinstance(trainer.lightning_module, MattingModule)):
        return advice
    call = ["python", "-m", "aimmat.prepare", "replay", "--run", str(folder.parent), "--stage", folder.name]
    return f"{advice}, and see what it was shown with: {shlex.join(call)} --step {step}"


def _log_of(stage: str, loggers: list[Logger]) -> None:
    """Tell the curve whose steps come."""
    for logger in loggers:
        if isinstance(logger, CurveLogger):
            logger.stage = stage
