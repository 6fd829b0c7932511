"""`python -m aimmat.train`: the stages, the test, the tables and the gallery of one run, composed by Hydra."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing albumentations asks the package index otherwise

import hydra
import lightning
import torch
import yaml  # type: ignore[import-untyped]
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console

from aimmat.console import guarded, keep_memory
from aimmat.data.records import RECORD
from aimmat.lit import CurveLogger, MattingDataModule, MattingModule, TestPictures
from aimmat.lit.callbacks import WriteMattes
from aimmat.lit.checkpoints import finite, latest
from aimmat.lit.constants import constant_rows
from aimmat.lit.datamodule import RecordSamples
from aimmat.lit.estimate import estimate
from aimmat.lit.processes import agreed
from aimmat.metrics import METRICS
from aimmat.models import build, switches_of
from aimmat.schema import AimmatError, ImageType, Row, is_release
from aimmat.tables import gallery_html, gallery_png, read_rows, results_table, write_file, write_rows
from aimmat.weights import load_backbone, load_network, save_network
from aimmat.weights.backbones import encoder_of, kind_of

console = Console(highlight=False)
MODEL, BACKBONE, BEFORE = "model.safetensors", "backbone.pth", "before.csv"  # of a run's folder, or of a stage's


def config_dir() -> Path:
    """The folder of the configs: inside the package of a wheel, at the top of a checkout."""
    package = Path(__file__).parent
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"


def switches(config: DictConfig) -> dict[str, bool]:
    """Which of the five switches of Table 3 are on."""
    return {
        "uni": config.data.compose.representation == "unified",
        "tl": "saliency" in config.stages,
        **{name: bool(config.model.get(name)) for name in ("mp", "se", "sa")},
    }


def run_name(config: DictConfig) -> str:
    """What a run is called: its experiment, the switches that are on, the protocol if not the paper's, its seed."""
    on = "+".join(name for name, value in switches(config).items() if value) or "none"
    return f"{config.task_name}-{on}{'-release' * is_release(config.protocol)}-s{config.seed}"


def run_tags(config: DictConfig) -> list[str]:
    """What a run is found by: its data set, network and protocol, the switches that are on, and what `tags` adds."""
    on = [name for name, value in switches(config).items() if value]
    return [config.data_name, config.model.name, config.protocol, *on, *config.tags]


OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)


def started(pattern: str) -> str:
    """A name for the folder of a run that all its processes have, wherever and a little earlier or later they started.

    Args:
        pattern: of `time.strftime`.

    Returns:
        When the run was started; under srun the number of its job and step, which a requeued job keeps.
    """
    if SLURMEnvironment.detect() and "SLURM_STEP_ID" in os.environ:
        return f"slurm_{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
    return agreed("started", time.strftime(pattern))


OmegaConf.register_new_resolver("started", started, use_cache=True, replace=True)
OmegaConf.register_new_resolver("run_tags", lambda *, _root_: ListConfig(run_tags(_root_)), replace=True)


class Start(NamedTuple):
    """What a stage starts from: a whole network's weights or an encoder's file, and the card of what they come from."""

    weights: Mapping[str, torch.Tensor] | None = None
    backbone: str | None = None  # a file, or the name of a release
    kind: str | None = None  # of the backbone
    card: Mapping[str, Any] = MappingProxyType({})  # its licence and backbone are those of what is trained from it


def sequence(config: DictConfig) -> list[str]:
    """The stages in order: that of the backbone comes first, unless weights are given."""
    first = config.backbone.stage
    if first is None or first in config.stages or config.init or config.backbone.weights:
        return list(config.stages)
    return [first, *config.stages]


def run(config: DictConfig) -> float:
    """Train the stages one after the other, test, and write what the run leaves.

    Args:
        config: composed from `conf/train.yaml`.

    Returns:
        SAD of the test, thousands of pixels, for sweepers that look for the least; nan if the last stage has no test.

    Raises:
        AimmatError: something in the config or the data that a user can mend.
        KeyboardInterrupt: Ctrl-C; its text says how to go on.
    """
    output = Path(config.paths.output_dir)
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # of the run's processes: it alone prints and writes
    console.quiet = not first
    check(config)
    if first and not config.resume and (output / "config.yaml").exists():
        raise AimmatError(f"{output} holds a run already; go on with it by resume={output}, or choose another folder")
    names = sequence(config)
    data = read_data(config, names)
    devices = _trainer(config, output, [], [], 1).world_size
    for found in data.values():
        found.shared_out(devices)  # what one of them cannot do is said before any time is spent
    start = _start(config)
    if first:
        write_file(output / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    if config.logger.get("wandb", {}).get("offline"):
        os.environ.setdefault("WANDB_SILENT", "true")  # it would explain at length that it is offline
    loggers = _loggers(config, output)
    failed = True
    try:
        if first:
            _describe(loggers, config, output)
        if config.before:
            _test_before(config, data[names[-1]], start, output / BEFORE)
        for name in names:
            start = _train(config, name, data[name], loggers, start, output)
        sad = float("nan")
        if "module" in config.stage[names[-1]]:
            console.print(f"stage {names[-1]} trains no matting network, so there is no test", soft_wrap=True)
            if first:
                shutil.copyfile(output / names[-1] / BACKBONE, output / BACKBONE)
        else:
            sad = _test(config, data[names[-1]], loggers, start, output)
        failed = False
        return sad
    except SystemExit:  # Lightning's answer to Ctrl-C
        resume = shlex.quote(f"resume={output}")
        raise KeyboardInterrupt(f"go on with: python -m aimmat.train {resume}") from None
    finally:
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            wandb.finish(exit_code=int(failed))  # an open run would swallow the next job of a sweep


def check(config: DictConfig) -> None:
    """Refuse what Hydra lets through.

    Raises:
        AimmatError: a stage or protocol that is not defined, a number that is none, or two sources of first weights.
    """
    is_release(config.protocol)
    for part in ("model", "inference"):
        if config[part].get("protocol", config.protocol) != config.protocol:
            raise AimmatError(f"{part}.protocol is not the run's protocol={config.protocol}; set protocol alone")
    if config.backbone.kind and not config.backbone.weights:
        raise AimmatError("backbone.kind is set but backbone.weights is not; name a file or a release")
    if config.init and config.backbone.weights:
        raise AimmatError("init and backbone.weights both say where the first stage's encoder starts from; keep one")
    if config.before and not config.init:
        raise AimmatError(
            "init is needed here (before=true) and not given; name a run's folder, a file or a release: init=RUN"
        )
    if unknown := [name for name in sequence(config) if name not in config.stage]:
        raise AimmatError(f"stages names {', '.join(unknown)}; the stages defined are {', '.join(config.stage)}")
    if not config.stages:
        raise AimmatError(f"stages is empty; name at least one of {', '.join(config.stage)}")
    at_least = {"seed": 0, "data.batch_size": 1, "data.num_workers": 0}
    at_least |= {f"stage.{name}.max_epochs": 1 for name in sequence(config)}
    if config.trainer.max_epochs is not None:
        at_least["trainer.max_epochs"] = 1
    if config.data.device_batch_size is not None:
        at_least["data.device_batch_size"] = 1
    if config.trainer.get("accumulate_grad_batches", 1) != 1:
        raise AimmatError(
            "trainer.accumulate_grad_batches is worked out from data.batch_size, the batch of one step, and the "
            "devices; leave it out and set data.device_batch_size, the most pictures that a device takes at once"
        )
    mixed = str(config.trainer.precision).partition("-")[2] == "mixed"
    if config.trainer.precision in ("16-mixed", 16, "16") and not torch.cuda.is_available():
        raise AimmatError(
            f"trainer.precision={config.trainer.precision} needs a GPU; on the CPU use bf16-mixed or 32-true"
        )
    if mixed and config.trainer.get("gradient_clip_val"):
        for name in sequence(config):
            if config.stage[name].optimizer.get("fused"):
                raise AimmatError(
                    f"trainer.gradient_clip_val in mixed precision does not go with a fused optimiser; "
                    f"set stage.{name}.optimizer.fused=false"
                )
    for key, least in at_least.items():
        value = OmegaConf.select(config, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise AimmatError(f"{key} must be a whole number, {least} or more, got {value!r}")
    for name in sequence(config):
        rate = config.stage[name].optimizer.lr
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not rate > 0:
            raise AimmatError(f"stage.{name}.optimizer.lr must be a number above 0, got {rate!r}")


def _data(config: DictConfig, stage: str) -> DictConfig:
    """The run's data with the stage's own settings laid over it, unless these are a data module by themselves."""
    own = config.stage[stage].data
    return own if "_target_" in own else OmegaConf.merge(config, {"data": own}).data  # type: ignore[no-any-return]


def read_data(config: DictConfig, stages: Sequence[str]) -> dict[str, Any]:
    """The data of every stage, before any time is spent.

    Raises:
        AimmatError: everything that is missing, at once.
    """
    try:
        return {name: instantiate(_data(config, name)) for name in stages}
    except InstantiationException as error:
        missing: dict[str, None] = {}
        for name in stages:
            missing |= dict.fromkeys(_missing(_data(config, name)))
        if len(missing) < 2:
            raise  # the one sentence that it ends with
        listed = ", ".join(f"({number}) {text}" for number, text in enumerate(missing, 1))
        raise AimmatError(f"{len(missing)} data sets cannot be used: {listed}") from error


def _missing(node: Any) -> Iterator[str]:
    """What is wrong with each data set and folder of pictures that a config names."""
    if isinstance(node, ListConfig):
        node = dict(enumerate(node))
    elif not isinstance(node, DictConfig):
        return
    elif str(node.get("_target_")).startswith("aimmat.data.read_"):
        try:
            instantiate(node)
        except InstantiationException as error:
            yield str(error.__cause__ or error)
        return
    for value in node.values():
        yield from _missing(value)


def _start(config: DictConfig) -> Start:
    """What the first stage starts from, read before any time is spent."""
    if not config.init:
        return Start(backbone=config.backbone.weights, kind=config.backbone.kind)
    net, card = load_network(config.init)
    wanted: Any = OmegaConf.to_container(config.model, resolve=True)
    of_file = switches_of(card["model"]["name"]) | card["model"] | {"protocol": wanted["protocol"]}
    if others := {key: value for key, value in of_file.items() if wanted.get(key, value) != value}:
        settings = " ".join(f"model.{key}={str(value).lower()}" for key, value in others.items())
        raise AimmatError(f"init={config.init} holds another network than this run's; add {settings}")
    return Start(net.state_dict(), card=card)


def _module(config: DictConfig, stage: str | None, start: Start) -> Any:
    """The stage's module; None is the module of the test."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    parts = {}
    if stage is not None:
        settings = config.stage[stage]
        parts = {key: instantiate(settings[key]) for key in ("loss", "optimizer", "schedule") if key in settings}
        if "module" in settings:
            return instantiate(settings.module)(plain["model"], prefix=config.log_prefix, **parts)
    module = MattingModule(
        plain["model"], plain["inference"], prefix=config.log_prefix, frozen=plain["frozen"], **parts
    )
    if start.weights is not None:
        module.net.load_state_dict(start.weights)
    elif start.backbone:
        load_backbone(module.net, start.backbone, start.kind)
    if config.channels_last:
        module.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compile and stage is not None:
        module.net.compile()
    return module


def _trainer(
    config: DictConfig, folder: Path, loggers: list[Logger], callbacks: list, epochs: int
) -> lightning.Trainer:
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


def _train(
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
    module = _module(config, stage, start)
    left_out = () if loggers else ("lr",)  # Lightning refuses to monitor for nobody
    watching = OmegaConf.merge(config.callbacks, config.stage[stage].get("callbacks") or {})
    callbacks = [instantiate(found) for name, found in watching.items() if found and name not in left_out]
    settings: Any = OmegaConf.to_container(_data(config, stage), resolve=True)
    callbacks.append(RecordSamples(folder / RECORD, settings))
    epochs = _epochs(config, stage)
    trainer = _trainer(config, folder, loggers, callbacks, epochs)
    if data.val is None:
        trainer.limit_val_batches = 0
    at_once, trainer.accumulate_grad_batches = data.shared_out(trainer.world_size)
    steps = -(-len(data.train) // data.batch_size)  # type: ignore[arg-type]
    trainer.log_every_n_steps = min(trainer.log_every_n_steps, steps)  # type: ignore[attr-defined]
    if recipe := getattr(data.train, "recipe", ""):  # how the paper counts its training images
        console.print(f"stage {stage}: {recipe}", soft_wrap=True)
    console.print(
        f"stage {stage}: {epochs} epochs of {steps} steps, {data.batch_size} pictures a step = {trainer.world_size} "
        f"devices x {at_once} at once x {trainer.accumulate_grad_batches} accumulated; "
        f"learning rate and schedule count these steps, whatever the devices",
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
        if isinstance(module, MattingModule):
            save_network(done, module.net, _card(config, stage, start))
        else:
            module.save(done)
    trainer.strategy.barrier()  # a stage that is done is done for all processes
    return _left(config, stage, done)


def _left(config: DictConfig, stage: str, done: Path) -> Start:
    """What the stage after one that is done starts from."""
    if "module" in config.stage[stage]:
        plain: Any = OmegaConf.to_container(config.model, resolve=True)
        return Start(backbone=str(done), kind=kind_of(encoder_of(build(**plain))))
    net, card = load_network(done)
    return Start(net.state_dict(), card=card)


def _test_before(config: DictConfig, data: MattingDataModule, start: Start, path: Path) -> None:
    """Test what the run starts from, for a line of the table."""
    if path.exists():
        return
    module = _module(config, None, start)
    trainer = _trainer(config, path.parent, [], [], 1)
    with console.status("testing the weights that the run starts from"):
        trainer.test(module, data, verbose=False)
    if trainer.is_global_zero:
        write_rows(path, module.rows)


def _test(
    config: DictConfig,
    data: MattingDataModule,
    loggers: list[Logger],
    start: Start,
    output: Path,
) -> float:
    """Test the trained network and write rows, tables, gallery and weights into the run's folder."""
    module = _module(config, None, start)
    pictures = TestPictures()
    mattes = [WriteMattes(output / "mattes", config.protocol)] if config.mattes else []
    trainer = _trainer(config, output, loggers, [pictures, *mattes], 1)
    _log_of("test", loggers)
    trainer.test(module, data, verbose=False)
    sad = float(trainer.callback_metrics["test/sad"])
    if not trainer.is_global_zero:
        return sad
    methods: dict[str, list[Row]] = {config.model.name: module.rows}
    if config.before:
        methods["before"] = read_rows(output / BEFORE)
    if config.constants:
        with console.status("measuring the constant predictors"):
            constants = constant_rows(data)
        for method, found in constants.items():
            write_rows(output / "constants" / f"{method.replace(' ', '_')}.csv", found, method=method)
        methods |= constants
    logged = trainer.callback_metrics
    table = results_table(methods, remark=_semantic_remark(logged))
    write_rows(output / "rows.csv", module.rows)
    write_file(output / "tables.md", table.to_markdown())
    write_file(output / "tables.tex", table.to_latex())
    gallery_png(output / "gallery.png", pictures.items)
    command = shlex.join(["python", "-m", "aimmat.train", *sys.argv[1:]])
    gallery_html(
        output / "gallery.html",
        pictures.items,
        title=run_name(config),
        summary=table,
        config=config.task_name,
        command=command,
    )
    overall = {name: float(logged[f"test/{name}"]) for name in METRICS if f"test/{name}" in logged}
    metrics = {f"{config.data_name}, {config.inference.name}": overall}
    save_network(output / MODEL, module.net, _card(config, config.stages[-1], start) | {"metrics": metrics})
    console.print(table.to_console())
    for name, what in _LEFT.items():
        if (output / name).exists():
            console.print(f"  {output / name}  [dim]{what}[/dim]", soft_wrap=True)
    return sad


def _semantic_remark(logged: Mapping[str, torch.Tensor]) -> str:
    """The semantic decoder's figures in a sentence, as Table 1 of the supplement has them; empty without a decoder."""
    if "test/semantic_iou" not in logged:
        return ""
    parts = []
    for group in ("", *(f"/type/{kind}" for kind in ImageType)):
        if f"test/semantic_iou{group}" in logged:
            iou, accuracy = (float(logged[f"test/semantic_{name}{group}"]) for name in ("iou", "accuracy"))
            parts.append(f"{group.rpartition('/')[2] or 'all'} {iou:.4f} and {accuracy:.4f}")
    return "Generalised trimap, IoU and accuracy: " + ", ".join(parts) + "."


_LEFT = {
    "rows.csv": "a line an image: type, category, every metric",
    BEFORE: "the same of the weights that the run started from",
    "constants": "the same of the constant predictors",
    "tables.md": "the tables in Markdown",
    "tables.tex": "the tables in LaTeX",
    "gallery.png": "input, trimap, matting output, alpha, truth, error",
    "gallery.html": "the same as a page",
    "mattes": "the predicted matte of every test picture",
    "config.yaml": "every setting, resolved",
    "model.safetensors": "the weights: aimmat.load(...)",
    "wandb": "the W&B run, offline; `wandb sync` uploads it",
}


def _card(config: DictConfig, stage: str, start: Start) -> dict[str, Any]:
    """What the weights that a stage leaves are, and how they came about."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    backbone = start.card.get("backbone")
    if start.backbone:
        backbone = {"kind": start.kind, "source": Path(start.backbone).name}
    until = plain["stages"][: plain["stages"].index(stage) + 1]
    stages = {
        name: {
            "epochs": _epochs(config, name),
            "batch_size": plain["stage"][name]["data"].get("batch_size", plain["data"]["batch_size"]),
            "optimizer": plain["stage"][name]["optimizer"],
            "schedule": plain["stage"][name]["schedule"],
        }
        for name in until
    }
    return {
        "model": plain["model"],
        "inference": plain["inference"],
        "protocol": plain["protocol"],
        "stage": stage,
        "run": run_name(config),
        "recipe": {
            "data": plain["data_name"],
            "seed": plain["seed"],
            "init": plain["init"] and Path(plain["init"]).name,
            "stages": stages,
            "revision": _revision(),
        },
        "backbone": backbone,
        "licence": plain["licence"] or start.card.get("licence"),
    }


def _epochs(config: DictConfig, stage: str) -> int:
    return int(min(config.stage[stage].max_epochs, config.trainer.max_epochs or sys.maxsize))


def _after_nan(trainer: lightning.Trainer, folder: Path) -> str:
    """Where a stage stopped, for a loss that is no number, and what to do about it."""
    step = trainer.global_step - (not trainer.interrupted)  # the one under way, or else the last
    advice = f"it is step {step} of stage {folder.name}: lower the learning rate, or train in 32-bit precision"
    if not ((folder / RECORD).exists() and isinstance(trainer.lightning_module, MattingModule)):
        return advice
    call = ["python", "-m", "aimmat.prepare", "replay", "--run", str(folder.parent), "--stage", folder.name]
    return f"{advice}, and see what it was shown with: {shlex.join(call)} --step {step}"


def _loggers(config: DictConfig, output: Path) -> list[Logger]:
    """The loggers; a run that goes on keeps the name that W&B knows it by."""
    found = {name: logger for name, logger in config.logger.items() if logger}
    more: dict[Any, dict[str, str]] = {}
    if "wandb" in found and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        known = output / "wandb_run_id.txt"
        if not known.exists():
            write_file(known, secrets.token_hex(4))
        more["wandb"] = {"id": known.read_text()}
    return [instantiate(logger, **more.get(name, {})) for name, logger in found.items()]


def _log_of(stage: str, loggers: list[Logger]) -> None:
    """Tell the curve whose steps come."""
    for logger in loggers:
        if isinstance(logger, CurveLogger):
            logger.stage = stage


def _describe(loggers: list[Logger], config: DictConfig, output: Path) -> None:
    """Tell the loggers what the run is."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    settings["git"] = _revision()
    for logger in loggers:
        logger.log_hyperparams(settings)
        if isinstance(logger, WandbLogger):
            for split in ("val", "test"):
                for metric in METRICS:
                    logger.experiment.define_metric(f"{split}/{metric}", summary="min")


def _revision() -> str:
    """Commit of the checkout that the package lies in, with a + where it was changed; empty outside one."""

    def git(*arguments: str) -> str:
        call = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


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
    try:
        return run(config)
    except Exception as error:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            raise  # Hydra notes which job failed, goes on with the next and raises at the end
        _failure.append(error)
        return None


class _Finished(Exception):
    """There is nothing to go on with."""


def _resumed(arguments: list[str]) -> list[str]:
    """With `resume=RUN`: that run's own arguments, then these, in that run's folder; `resume=auto` looks for it.

    Raises:
        AimmatError: no such run, or one of a sweep.
        _Finished: it is finished.
    """
    asked = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    others = [argument for argument in arguments if not argument.startswith("resume=")]
    if not asked or asked[-1] == "null":
        return others
    if asked[-1] == "auto":
        if {"-m", "--multirun"} & set(arguments):
            raise AimmatError(
                "resume=auto goes on with a single run, not a sweep; go on with each of its jobs by resume=FOLDER"
            )
        folder = _unfinished(others)
        if folder is None:
            return others
        others = [argument for argument in others if _HYDRAS.match(argument)]  # the rest is the run's own
    else:
        folder = Path(asked[-1]).absolute()
    first = _own_arguments(folder)
    if first is None:
        raise AimmatError(f"{folder} is not a run's folder: it has no .hydra/overrides.yaml; name the folder of a run")
    if _finished(folder):
        raise _Finished(
            f"the run {folder} is finished: it has a model.safetensors; "
            f"begin another without resume=, from its weights with init={folder}"
        )
    if rank_zero_only.rank == 0 and any(not _HYDRAS.match(argument) for argument in others):  # type: ignore[attr-defined]
        write_file(folder / _OVERRIDES, OmegaConf.to_yaml([*first, *(a for a in others if not _HYDRAS.match(a))]))
    where = [f"resume='{folder}'", f"hydra.run.dir='{folder}'"]  # quoted: Hydra parses what it gets
    return [*first, *others, *where, "hydra.output_subdir=null"]  # a kill while Hydra writes would lose the arguments


_OVERRIDES = Path(".hydra", "overrides.yaml")
_HYDRAS = re.compile(r"-|[+~]*hydra[./]")  # arguments that are not the run's


def _own_arguments(folder: Path) -> list[str] | None:
    """What a run was started with; None where there is no run."""
    try:
        found: Any = OmegaConf.to_object(OmegaConf.load(folder / _OVERRIDES))
    except (OSError, ValueError, yaml.YAMLError):  # missing, or cut short by a kill
        return None
    if not isinstance(found, list):
        return None
    return [argument for argument in found if not argument.startswith("resume=")]


def _finished(folder: Path) -> bool:
    return (folder / MODEL).exists() or (folder / BACKBONE).exists()  # the last file that a run writes


def _unfinished(arguments: list[str]) -> Path | None:
    """The newest run with these arguments that is not finished; None when there is none.

    Raises:
        AimmatError: the folder that the arguments name holds another run.
        _Finished: it holds this run, finished.
    """
    own = [argument for argument in arguments if not _HYDRAS.match(argument)]
    with hydra.initialize_config_dir(str(config_dir().absolute()), version_base="1.3"):
        overrides = [argument for argument in arguments if not argument.startswith("-")]
        place = Path(hydra.compose("train", overrides, return_hydra_config=True).hydra.run.dir).absolute()
    if any(argument.startswith("hydra.run.dir=") for argument in arguments):
        found = _own_arguments(place)
        if found is not None and found != own:
            raise AimmatError(
                f"{place} holds a run of other arguments: {shlex.join(found)}; name another folder in hydra.run.dir"
            )
        return None if found is None else place
    runs = [run for run in place.parent.glob("*") if _own_arguments(run) == own and not _finished(run)]
    return max(runs, key=lambda run: (run / _OVERRIDES).stat().st_mtime, default=None)


def _arguments(given: list[str]) -> list[str]:
    """What was asked for, the same in all processes of a run."""
    if any(argument.startswith("hydra.job.name=train_ddp_process_") for argument in given):
        return given  # Lightning started this process, and gave it the first one's
    given = json.loads(agreed("arguments", json.dumps(_resumed(given))))
    return given if rank_zero_only.rank == 0 else [*given, "hydra.output_subdir=null"]  # type: ignore[attr-defined]  # the first writes it


def main() -> int:
    """Entry point; see `python -m aimmat.train --help`."""
    keep_memory()
    _quiet()
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B asks its host otherwise, offline too
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach `guarded`, which makes one sentence of them

    def command() -> None:
        try:
            sys.argv[1:] = _arguments(sys.argv[1:])
        except _Finished as finished:
            if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
                print(finished)
            return
        _failure.clear()
        _hydra()
        if _failure:
            raise _failure[0]

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
