"""The test of a run and what it leaves: rows, tables, gallery, weights with their card; what loggers are told."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf

from aimmat.lit import MattingDataModule, TestPictures
from aimmat.lit.callbacks import WriteMattes
from aimmat.lit.constants import constant_rows
from aimmat.metrics import METRICS
from aimmat.schema import ImageType, Row
from aimmat.tables import gallery_html, gallery_png, read_rows, results_table, write_file, write_rows
from aimmat.tables.runs import run_name
from aimmat.train.plan import BEFORE, CARD, MODEL, SEMANTIC, Start, card_of, revision
from aimmat.train.stages import _log_of, console, make_module, make_trainer
from aimmat.weights import save_network


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
    card = card_of(config, config.stages[-1] if config.stages else None, start) | {"metrics": metrics}
    if module.net.trainable:
        save_network(output / MODEL, module.net, card)
    else:
        write_file(output / CARD, json.dumps(card, indent=2))
    console.print(table.to_console())
    for name, what in _LEFT.items():
        if (output / name).exists():
            console.print(f"  {output / name}  [dim]{what}[/dim]", soft_wrap=True)
    return sad


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
    for logger in loggers:
        logger.log_hyperparams(settings)
        if isinstance(logger, WandbLogger):
            for split in ("val", "test"):
                for metric in METRICS:
                    logger.experiment.define_metric(f"{split}/{metric}", summary="min")
