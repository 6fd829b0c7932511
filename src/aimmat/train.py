"""`python -m aimmat.train`: the stages, the test, the tables and the gallery of one run, composed by Hydra."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing albumentations asks the package index otherwise

import hydra
import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console

from aimmat.console import guarded, keep_memory
from aimmat.data.records import RECORD
from aimmat.lit import MattingDataModule, MattingModule, SaveOnExit, TestPictures
from aimmat.lit.callbacks import WriteMattes
from aimmat.lit.constants import constant_rows
from aimmat.lit.datamodule import RecordSamples
from aimmat.metrics import METRICS
from aimmat.schema import AimmatError, Row, is_release
from aimmat.tables import gallery_html, gallery_png, results_table, write_file, write_rows
from aimmat.weights import load_backbone, load_network, save_network

console = Console(highlight=False)


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
OmegaConf.register_new_resolver("run_tags", lambda *, _root_: ListConfig(run_tags(_root_)), replace=True)


def run(config: DictConfig) -> float:
    """Train the stages one after the other, test, and write what the run leaves.

    Args:
        config: composed from `conf/train.yaml`.

    Returns:
        SAD of the test, thousands of pixels, for sweepers that look for the least.

    Raises:
        AimmatError: something in the config or the data that a user can mend.
        KeyboardInterrupt: Ctrl-C; its text says how to go on.
    """
    output = Path(config.paths.output_dir)
    check(config)
    data = {name: instantiate(_data(config, name)) for name in config.stages}  # every stage's, before any time is spent
    write_file(output / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    if config.logger.get("wandb", {}).get("offline"):
        os.environ.setdefault("WANDB_SILENT", "true")  # it would explain at length that it is offline
    loggers: list[Logger] = [instantiate(logger) for logger in config.logger.values() if logger]
    failed = True
    try:
        _describe(loggers, config, output)
        weights: Mapping[str, torch.Tensor] | None = None
        if config.init:
            weights = load_network(config.init)[0].state_dict()
        for name in config.stages:
            weights = _train(config, name, data[name], loggers, weights, output)
        sad = _test(config, data[config.stages[-1]], loggers, weights, output)
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
    if unknown := [name for name in config.stages if name not in config.stage]:
        raise AimmatError(f"stages names {', '.join(unknown)}; the stages defined are {', '.join(config.stage)}")
    if not config.stages:
        raise AimmatError(f"stages is empty; name at least one of {', '.join(config.stage)}")
    at_least = {"seed": 0, "data.batch_size": 1, "data.num_workers": 0}
    at_least |= {f"stage.{name}.max_epochs": 1 for name in config.stages}
    if config.trainer.max_epochs is not None:
        at_least["trainer.max_epochs"] = 1
    for key, least in at_least.items():
        value = OmegaConf.select(config, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise AimmatError(f"{key} must be a whole number, {least} or more, got {value!r}")
    for name in config.stages:
        rate = config.stage[name].optimizer.lr
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not rate > 0:
            raise AimmatError(f"stage.{name}.optimizer.lr must be a number above 0, got {rate!r}")


def _data(config: DictConfig, stage: str) -> DictConfig:
    """The run's data with the stage's own settings laid over it."""
    return OmegaConf.merge(config, {"data": config.stage[stage].data}).data  # type: ignore[no-any-return]


def _module(config: DictConfig, stage: str | None, weights: Mapping[str, torch.Tensor] | None) -> MattingModule:
    plain: Any = OmegaConf.to_container(config, resolve=True)
    parts = {}
    if stage is not None:
        settings = config.stage[stage]
        parts = {key: instantiate(settings[key]) for key in ("loss", "optimizer", "schedule")}
    module = MattingModule(plain["model"], plain["inference"], prefix=config.log_prefix, **parts)
    if weights is not None:
        try:
            module.net.load_state_dict(weights)
        except RuntimeError as error:
            raise AimmatError(
                f"the weights of init={config.init} do not fit the network {plain['model']}: "
                f"{str(error).splitlines()[-1].strip()}; set model.* to what those weights were trained with"
            ) from None
    elif config.backbone.weights:
        load_backbone(module.net, config.backbone.weights, config.backbone.kind)
    if config.channels_last:
        module.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def _trainer(
    config: DictConfig, folder: Path, loggers: list[Logger], callbacks: list, epochs: int
) -> lightning.Trainer:
    return instantiate(  # type: ignore[no-any-return]
        config.trainer, logger=loggers or False, callbacks=callbacks, default_root_dir=str(folder), max_epochs=epochs
    )


def _train(
    config: DictConfig,
    stage: str,
    data: MattingDataModule,
    loggers: list[Logger],
    weights: Mapping[str, torch.Tensor] | None,
    output: Path,
) -> Mapping[str, torch.Tensor]:
    """Train one stage, or take what an earlier try of the same run left of it; returns the network's weights."""
    folder = output / stage
    done = folder / "model.safetensors"
    if done.exists():
        console.print(f"stage {stage} is done: {done}")
        return load_network(done)[0].state_dict()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    prefix = "" if stage == config.stages[-1] else f"{stage}/"
    config = OmegaConf.merge(config, {"paths": {"stage_dir": str(folder)}, "log_prefix": prefix})  # type: ignore[assignment]
    module = _module(config, stage, weights)
    left_out = () if loggers else ("lr",)  # Lightning refuses to monitor for nobody
    callbacks = [instantiate(found) for name, found in config.callbacks.items() if found and name not in left_out]
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    callbacks.append(SaveOnExit(checkpoints))
    settings: Any = OmegaConf.to_container(_data(config, stage), resolve=True)
    callbacks.append(RecordSamples(folder / RECORD, settings))
    epochs = _epochs(config, stage)
    trainer = _trainer(config, folder, loggers, callbacks, epochs)
    if data.val is None:
        trainer.limit_val_batches = 0
    batches = len(data.batches(world_size=trainer.world_size))
    trainer.log_every_n_steps = min(trainer.log_every_n_steps, batches)  # type: ignore[attr-defined]
    size = data.batch_size * trainer.world_size * trainer.accumulate_grad_batches
    if recipe := getattr(data.train, "recipe", ""):  # how the paper counts its training images
        console.print(f"stage {stage}: {recipe}", soft_wrap=True)
    console.print(f"stage {stage}: {epochs} epochs of {batches} batches, {size} pictures a step")
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    save_network(done, module.net, _card(config, stage))
    return module.net.state_dict()


def _test(
    config: DictConfig,
    data: MattingDataModule,
    loggers: list[Logger],
    weights: Mapping[str, torch.Tensor] | None,
    output: Path,
) -> float:
    """Test the trained network and write rows, tables, gallery and weights into the run's folder."""
    module = _module(config, None, weights)
    pictures = TestPictures()
    mattes = [WriteMattes(output / "mattes", config.protocol)] if config.mattes else []
    trainer = _trainer(config, output, loggers, [pictures, *mattes], 1)
    trainer.test(module, data, verbose=False)
    sad = float(trainer.callback_metrics["test/sad"])
    if not trainer.is_global_zero:
        return sad
    methods: dict[str, list[Row]] = {config.model.name: module.rows}
    if config.constants:
        with console.status("measuring the constant predictors"):
            constants = constant_rows(data)
        for method, found in constants.items():
            write_rows(output / "constants" / f"{method.replace(' ', '_')}.csv", found, method=method)
        methods |= constants
    table = results_table(methods)
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
    logged = trainer.callback_metrics
    overall = {name: float(logged[f"test/{name}"]) for name in METRICS if f"test/{name}" in logged}
    metrics = {f"{config.data_name}, {config.inference.name}": overall}
    save_network(output / "model.safetensors", module.net, _card(config, config.stages[-1]) | {"metrics": metrics})
    console.print(table.to_console())
    for name, what in _LEFT.items():
        if (output / name).exists():
            console.print(f"  {output / name}  [dim]{what}[/dim]", soft_wrap=True)
    return sad


_LEFT = {
    "rows.csv": "a line an image: type, category, every metric",
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


def _card(config: DictConfig, stage: str) -> dict[str, Any]:
    """What the weights that a stage leaves are, and how they came about."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    start, backbone = plain["backbone"], None
    if start["weights"]:
        backbone = {"kind": start["kind"], "source": Path(start["weights"]).name}
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
        "licence": plain["licence"],
    }


def _epochs(config: DictConfig, stage: str) -> int:
    return int(min(config.stage[stage].max_epochs, config.trainer.max_epochs or sys.maxsize))


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
            write_file(output / "wandb_run_id.txt", logger.experiment.id)


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
        ".*tensorboardX.*",
        ".*`anonymous`.*",
        ".*isinstance.treespec, LeafSpec.*",
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


def _resumed(arguments: list[str]) -> list[str]:
    """With `resume=RUN`: that run's own arguments, then these, in that run's folder."""
    folders = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    if not folders:
        return arguments
    folder = Path(folders[-1]).absolute()
    overrides = folder / ".hydra" / "overrides.yaml"
    if not overrides.is_file():
        raise AimmatError(f"{folder} is not a run's folder: it has no .hydra/overrides.yaml; name the folder of a run")
    others = [argument for argument in arguments if not argument.startswith("resume=")]
    first: Any = OmegaConf.to_object(OmegaConf.load(overrides))
    return [*first, *others, f"resume='{folder}'", f"hydra.run.dir='{folder}'"]  # quoted: Hydra parses what it gets


def main() -> int:
    """Entry point; see `python -m aimmat.train --help`."""
    keep_memory()
    _quiet()
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B asks its host otherwise, offline too
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach `guarded`, which makes one sentence of them

    def command() -> None:
        sys.argv[1:] = _resumed(sys.argv[1:])
        _failure.clear()
        _hydra()
        if _failure:
            raise _failure[0]

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
