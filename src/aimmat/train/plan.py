"""What a run of a config will be, and whether it can be: decided before any time is spent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from omegaconf import DictConfig, ListConfig, OmegaConf

from aimmat.lit.processes import agreed
from aimmat.models import NETWORKS, switches_of
from aimmat.schema import AimmatError, is_release
from aimmat.tables.runs import run_name, switches
from aimmat.weights import load_network

MODEL, BACKBONE, BEFORE = "model.safetensors", "backbone.pth", "before.csv"  # of a run's folder, or of a stage's
COST, SEMANTIC, CARD = "cost.json", "semantic.csv", "card.json"


def config_dir() -> Path:
    """The folder of the configs: inside the package of a wheel, at the top of a checkout."""
    package = Path(__file__).parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"


def run_tags(config: DictConfig) -> list[str]:
    """What a run is found by: its data set, network and protocol, the switches that are on, and what `tags` adds."""
    on = [name for name, value in switches(config).items() if value]
    return [config.data_name, config.model.name, config.protocol, *on, *config.tags]


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


OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)
OmegaConf.register_new_resolver("run_tags", lambda *, _root_: ListConfig(run_tags(_root_)), replace=True)
OmegaConf.register_new_resolver("started", started, use_cache=True, replace=True)


class Start(NamedTuple):
    """What a stage starts from: a whole network's weights or an encoder's file, and the card of what they come from."""

    weights: Mapping[str, torch.Tensor] | None = None
    backbone: tuple[str, ...] = ()  # files or names of releases, one for each encoder that starts from one
    kind: str | None = None  # of the backbone
    card: Mapping[str, Any] = MappingProxyType({})  # its licence and backbone are those of what is trained from it


def sequence(config: DictConfig) -> list[str]:
    """The stages in order: that of the backbone comes first, unless weights are given.

    Only AimNet has one: the encoders of the others are what torchvision has files of.
    """
    first = config.backbone.stage if config.model.name == "aimnet" else None
    if first is None or first in config.stages or config.init or config.backbone.weights:
        return list(config.stages)
    return [first, *config.stages]


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
    if not NETWORKS[config.model.name].trainable:
        if config.stages or config.init:
            raise AimmatError(f"model={config.model.name} is tested as it is; leave out init, and set stages=[]")
    elif not config.stages and not config.init:
        raise AimmatError(
            f"stages is empty, so there is nothing to train; name at least one of {', '.join(config.stage)}, or give "
            f"the weights to test by init=RUN"
        )
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


def of_weights(config: DictConfig) -> DictConfig:
    """The config of a test alone, whose network and protocol are those of its weights, whatever conf/ says."""
    found = config.model.name == "onnx"
    if config.stages or not (config.init or found):
        return config
    config = config.copy()
    OmegaConf.set_struct(config, False)
    if found:  # an experiment's width is for networks that are made, not found
        config.model = {key: value for key, value in config.model.items() if key in ("name", *switches_of("onnx"))}
    else:
        said = {name: config.model[name] for name in _said("model") if name in config.model and name != "name"}
        card = load_network(config.init, **said)[1]
        config.model, config.protocol = card["model"], card.get("protocol", config.protocol)
    OmegaConf.set_struct(config, True)
    return config


def stage_data(config: DictConfig, stage: str | None) -> DictConfig:
    """The run's data with the stage's own settings laid over it, unless these are a data module by themselves.

    Without a stage it is the test's alone.
    """
    if stage is None:
        return OmegaConf.merge(config, {"data": {"train": None, "val": None}}).data  # type: ignore[no-any-return]
    own = config.stage[stage].data
    return own if "_target_" in own else OmegaConf.merge(config, {"data": own}).data  # type: ignore[no-any-return]


def stage_model(config: DictConfig, stage: str | None) -> dict[str, Any]:
    """The run's network with the stage's own switches, none of which changes what its weights are."""
    plain: Any = OmegaConf.to_container(config.model, resolve=True)
    own: Any = {} if stage is None else OmegaConf.to_container(config.stage[stage], resolve=True)
    return plain | own.get("model", {})  # type: ignore[no-any-return]


def read_data(config: DictConfig, stages: Sequence[str | None]) -> dict[str | None, Any]:
    """The data of every stage, before any time is spent.

    Raises:
        AimmatError: everything that is missing, at once.
    """
    try:
        return {name: instantiate(stage_data(config, name)) for name in stages}
    except InstantiationException as error:
        missing: dict[str, None] = {}
        for name in stages:
            missing |= dict.fromkeys(_missing(stage_data(config, name)))
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


def first_start(config: DictConfig) -> Start:
    """What the first stage starts from, read before any time is spent."""
    if not config.init:
        given: Any = config.backbone.weights or ()
        return Start(backbone=(given,) if isinstance(given, str) else tuple(given), kind=config.backbone.kind)
    wanted: Any = OmegaConf.to_container(config.model, resolve=True)
    said = {name: wanted[name] for name in _said("model") if name in wanted and name != "name"}
    try:
        net, card = load_network(config.init, **said)
    except AimmatError as error:
        raise AimmatError(f"init: {error}") from error
    if (own := card["model"]["name"]) != wanted["name"]:
        looks = card.get("looks_like", f"the network {own} of a run")
        raise AimmatError(f"init={config.init} looks like {looks}; you asked for {wanted['name']}: set model={own}")
    of_file = switches_of(own) | card["model"]
    of_file.pop("protocol", None)  # is no part of the weights
    if others := {key: value for key, value in of_file.items() if wanted.get(key, value) != value}:
        settings = " ".join(f"model.{key}={str(value).lower()}" for key, value in others.items())
        raise AimmatError(f"init={config.init} holds another network than this run's; add {settings}")
    return Start(net.state_dict(), card=card)


def _said(part: str) -> list[str]:
    """Settings of a part that the command line gives, not a file of conf/."""
    if not HydraConfig.initialized():
        return []
    keys = (text.lstrip("+").partition("=")[0] for text in HydraConfig.get().overrides.task)
    return [key.removeprefix(f"{part}.") for key in keys if key.startswith(f"{part}.")]


def epochs_of(config: DictConfig, stage: str) -> int:
    """How many epochs a stage has, which the trainer may cap."""
    return int(min(config.stage[stage].max_epochs, config.trainer.max_epochs or sys.maxsize))


def card_of(config: DictConfig, stage: str | None, start: Start) -> dict[str, Any]:
    """What the weights that a stage leaves are, and how they came about."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    backbone = start.card.get("backbone")
    if start.backbone:
        backbone = {"kind": start.kind, "source": ", ".join(Path(file).name for file in start.backbone)}
    until = [] if stage is None else plain["stages"][: plain["stages"].index(stage) + 1]
    stages = {
        name: {
            "epochs": epochs_of(config, name),
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
            "revision": revision(),
        },
        "backbone": backbone,
        "licence": plain["licence"] or start.card.get("licence"),
    }


def revision() -> str:
    """Commit of the checkout that the package lies in, with a + where it was changed; empty outside one."""

    def git(*arguments: str) -> str:
        call = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
