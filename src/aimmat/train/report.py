"""The test of a run and what it leaves: rows, tables, gallery, weights with their card; what loggers are told."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf

from aimmat.lit import MattingDataModule, TestPictures
from aimmat.lit.callbacks import WriteMattes
from aimmat.lit.constants import constant_rows
from aimmat.metrics import METRICS
from aimmat.models import count_macs, count_parameters
from aimmat.models.layers import Network
from aimmat.schema import ImageType, Row
from aimmat.tables import GalleryItem, gallery_html, gallery_png, read_rows, results_table, write_file, write_rows
from aimmat.tables.gallery import _panels, choose
from aimmat.tables.runs import run_name
from aimmat.train.plan import BEFORE, CARD, COST, MODEL, SEMANTIC, Start, card_of, revision, sequence
from aimmat.train.stages import _log_of, console, make_module, make_trainer
from aimmat.weights import save_network

SHOWN = 60  # pictures, at most, of gallery.html and of W&B's table
THUMB = 128  # pixels, the longer side of a thumbnail in that table
STRIP = "input, alpha, truth, error"  # its column
_STEP = "trainer/global_step"  # by Lightning's logger
_LEAST, _MOST = dict.fromkeys(METRICS, "min"), dict.fromkeys(("top1", "top5"), "max")  # of matting, of classes


def test_start(config: DictConfig, data: MattingDataModule, start: Start, path: Path) -> None:
    """Test what the run starts from, for a line of the table."""
    if path.exists():
        return
    module = make_module(config, None, start)
    trainer = make_trainer(config, path.parent, [], [], 1)
    with console.status("testing the weights that the run starts from"):
        trainer.test(module, data, verbose=False)
    if trainer.is_global_zero:
        write_rows(path, module.rows)


def test_run(
    config: DictConfig,
    data: MattingDataModule,
    loggers: list[Logger],
    start: Start,
    output: Path,
) -> float:
    """Test the trained network and write rows, tables, gallery and weights into the run's folder."""
    module = make_module(config, None, start)
    pictures = TestPictures()
    mattes = [WriteMattes(output / "mattes", config.protocol)] if config.mattes else []
    trainer = make_trainer(config, output, loggers, [pictures, *mattes], 1)
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
    if semantic := _semantic_rows(logged):
        write_file(output / SEMANTIC, "\n".join(["group,iou,accuracy", *semantic, ""]))
    write_file(output / "tables.md", table.to_markdown())
    write_file(output / "tables.tex", table.to_latex())
    gallery_png(output / "gallery.png", pictures.items, num_tested=len(module.rows))
    command = shlex.join(["python", "-m", "aimmat.train", *HydraConfig.get().overrides.task])  # a job's own in a sweep
    gallery_html(
        output / "gallery.html",
        pictures.items,
        title=run_name(config),
        summary=table,
        config=config.task_name,
        command=command,
        most=SHOWN,
    )
    overall = {name: float(logged[f"test/{name}"]) for name in METRICS if f"test/{name}" in logged}
    metrics = {f"{config.data_name}, {config.inference.name}": overall}
    card = card_of(config, config.stages[-1] if config.stages else None, start) | {"metrics": metrics}
    wandb_loggers = [logger for logger in loggers if isinstance(logger, WandbLogger)]
    for logger in wandb_loggers:
        logger.log_metrics(costs_of(config, output, module.net))
        log_images(logger, module.rows, pictures.items, output)
    if module.net.trainable:
        save_network(output / MODEL, module.net, card)
    else:
        write_file(output / CARD, json.dumps(card, indent=2))
    for logger in wandb_loggers:
        if module.net.trainable:
            log_model(logger, output / MODEL, card)
    console.print(table.to_console())
    for name, what in _LEFT.items():
        if (output / name).exists():
            console.print(f"  {output / name}  [dim]{what}[/dim]", soft_wrap=True)
    return sad


def costs_of(config: DictConfig, output: Path, net: Network) -> dict[str, float]:
    """What the run cost, all stages together, and the size of its network, as `cost/...` for a dashboard."""
    files = [output / stage / COST for stage in sequence(config)]
    stages = [json.loads(path.read_text(encoding="utf-8")) for path in files if path.exists()]
    costs = {f"cost/{key}": sum(stage[key] for stage in stages) for key in ("seconds", "steps", "epochs")}
    if not net.trainable:
        return costs  # what is inside a file is not counted
    return costs | {"cost/parameters": count_parameters(net), "cost/macs": count_macs(net, 800)}


def log_images(logger: WandbLogger, rows: Sequence[Row], items: Sequence[GalleryItem], output: Path) -> None:
    """Log `test/images`: a line a picture with its type, category and every metric, and a strip of what is shown of it.

    Args:
        logger: W&B's, offline or not.
        rows: of the test.
        items: pictures of the test; of more than SHOWN, good, median and bad ones of every type are taken.
        output: the run's folder, where the table waits to be uploaded.
    """
    import wandb

    strips = {item.name: wandb.Image(_strip(item), file_type="jpg") for item in choose(items, SHOWN)}
    metrics = list(rows[0].scores)
    lines = [
        [row.name, row.type, row.category, *(_number(row.scores[name]) for name in metrics), strips.get(row.name)]
        for row in rows
    ]
    with _staged_in(output / "wandb"):
        logger.log_table("test/images", ["name", "type", "category", *metrics, STRIP], lines)


def log_model(logger: WandbLogger, path: Path, card: Mapping[str, Any]) -> None:
    """Upload a file of weights as an artifact with its card; offline, where it would be copied, it stays a file."""
    import wandb

    if logger.experiment.offline:
        return
    artifact = wandb.Artifact(f"model-{logger.experiment.id}", type="model", metadata=dict(card))
    artifact.add_file(str(path), policy="immutable")  # or it would be copied before it is sent
    logger.experiment.log_artifact(artifact)


def _strip(item: GalleryItem) -> np.ndarray:
    """Input, alpha, truth and error side by side, (H, 4 W, 3) uint8."""
    panels = _panels(item, THUMB)
    shown = (panels[name] for name in ("Input", "Alpha", "Truth", "Error"))
    return np.hstack([np.asarray(panel.convert("RGB")) for panel in shown if panel])


def _number(value: float) -> float | None:
    """What W&B takes for a number; None for the mean over an empty region."""
    return None if math.isnan(value) else value


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Have W&B keep what waits for its upload in this folder, and not in the user's for all runs."""
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ.setdefault("WANDB_DATA_DIR", str(folder))
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_DATA_DIR"]


def _semantic_rows(logged: Mapping[str, torch.Tensor]) -> list[str]:
    """IoU and accuracy of all pictures, of each type and of each category, as lines of a CSV."""
    found = [re.fullmatch(r"test/semantic_iou(?:/(?:type|cat)/(\w+))?", key) for key in logged]
    lines = []
    for match in found:
        if match and match[1] != "avg":
            iou, accuracy = (float(logged[match[0].replace("iou", name)]) for name in ("iou", "accuracy"))
            lines.append(f"{match[1] or 'all'},{iou},{accuracy}")
    return lines


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
    SEMANTIC: "IoU and accuracy of the generalised trimap, a line a group",
    "constants": "the same of the constant predictors",
    "tables.md": "the tables in Markdown",
    "tables.tex": "the tables in LaTeX",
    "gallery.png": "input, trimap, matting output, alpha, truth, error",
    "gallery.html": "the same as a page",
    "mattes": "the predicted matte of every test picture",
    "config.yaml": "every setting, resolved",
    "model.safetensors": "the weights: aimmat.load(...)",
    CARD: "what was tested, in place of weights",
    "wandb": "the W&B run, offline; `wandb sync` uploads it",
}


def make_loggers(config: DictConfig, output: Path) -> list[Logger]:
    """The loggers; a run that goes on keeps the name that W&B knows it by."""
    found = {name: logger for name, logger in config.logger.items() if logger}
    more: dict[Any, dict[str, str]] = {}
    if "wandb" in found and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        known = output / "wandb_run_id.txt"
        if not known.exists():
            write_file(known, os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4))  # an agent of W&B has named it
        more["wandb"] = {"id": known.read_text()}
    return [instantiate(logger, **more.get(name, {})) for name, logger in found.items()]


def describe(loggers: list[Logger], config: DictConfig, output: Path) -> None:
    """Tell the loggers what the run is."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    settings["git"] = revision()
    settings["method"] = run_name(config).removesuffix(f"-s{config.seed}")  # what several seeds have in common
    for logger in loggers:
        logger.log_hyperparams(settings)
        if isinstance(logger, WandbLogger):
            for stage in sequence(config):  # of the test there is one figure, and "min" would put it below another name
                prefix = "" if stage == config.stages[-1] else f"{stage}/"
                best = _MOST if "module" in config.stage[stage] else _LEAST
                for metric, summary in best.items():
                    logger.experiment.define_metric(f"{prefix}val/{metric}", _STEP, summary=summary)
