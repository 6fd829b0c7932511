"""What a run tells W&B at its end: its test picture by picture, its costs, its weights."""

import json
import math
import os
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger

from aimmat.models import build
from aimmat.schema import Category, ImageType, Row
from aimmat.tables import GalleryItem
from aimmat.train import report

composed = run_path(str(Path(__file__).parents[1] / "test_train.py"))["composed"]


def item(name, truth=0):
    grey = np.full((20, 10), 255, np.uint8)
    image = np.full((20, 10, 3), 40, np.uint8)
    scores = {"sad": 1.0}
    return GalleryItem(name, ImageType.SO, Category.TOY, image, None, None, grey, np.full_like(grey, truth), scores)


def test_a_strip_is_input_alpha_truth_and_error():
    strip = report._strip(item("wrong"))
    height, width = report.THUMB, report.THUMB // 2  # of 20 x 10 pixels
    assert strip.shape == (height, 4 * width, 3)
    image, alpha, truth, error = (strip[:, place * width : (place + 1) * width] for place in range(4))
    assert [part.mean() for part in (image, alpha, truth)] == [40, 255, 0]
    right = report._strip(item("right", truth=255))[:, 3 * width :]
    assert error.mean() > 100 > right.mean()  # bright to dark


def test_the_table_has_every_picture_and_strips_of_some(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DATA_DIR")
    monkeypatch.setattr(report, "SHOWN", 1)
    rows = [Row(name, ImageType.SO, Category.TOY, {"sad": 1.5, "sad_foreground": math.nan}) for name in "ab"]
    logger = WandbLogger(save_dir=tmp_path, offline=True, id="one")
    try:
        report.log_images(logger, rows, [item("b")], tmp_path)
    finally:
        wandb.finish()
    (path,) = tmp_path.glob("wandb/offline-run-*/files/media/table/test/images_*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"] == ["name", "type", "category", "sad", "sad_foreground", report.STRIP]
    assert table["data"] == [["a", "SO", "toy", 1.5, None, None], ["b", "SO", "toy", 1.5, None, "Image"]]
    assert "WANDB_DATA_DIR" not in os.environ
    staged = [file.read_bytes()[:3] for file in (tmp_path / "wandb" / "artifacts" / "staging").iterdir()]
    assert staged.count(b"\xff\xd8\xff") >= 1  # a JPEG


def test_what_waits_for_its_upload_stays_where_the_user_wants_it(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", "theirs")
    with report._staged_in(tmp_path):
        assert os.environ["WANDB_DATA_DIR"] == "theirs"
    assert os.environ["WANDB_DATA_DIR"] == "theirs"


@pytest.mark.parametrize("offline", [False, True])
def test_weights_are_an_artifact_with_their_card_when_online(tmp_path, offline):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    sent = []
    run = SimpleNamespace(offline=offline, id="one", log_artifact=sent.append)
    report.log_model(SimpleNamespace(experiment=run), tmp_path / "model.safetensors", {"protocol": "paper"})
    assert len(sent) == (not offline)
    for artifact in sent:
        assert (artifact.name, artifact.type, artifact.metadata) == ("model-one", "model", {"protocol": "paper"})
        assert list(artifact.manifest.entries) == ["model.safetensors"]
        assert artifact.manifest.entries["model.safetensors"].local_path == str(tmp_path / "model.safetensors")


def test_costs_are_those_of_all_stages(tmp_path):
    for stage, seconds in (("saliency", 2.5), ("matting", 4.0)):
        (tmp_path / stage).mkdir()
        cost = {"seconds": seconds, "steps": 10, "epochs": 2, "devices": 1}
        (tmp_path / stage / "cost.json").write_text(json.dumps(cost))
    costs = report.costs_of(composed(), tmp_path, build("aimnet", width=0.125))
    assert {key: costs[f"cost/{key}"] for key in ("seconds", "steps", "epochs")} == {
        "seconds": 6.5,
        "steps": 20,
        "epochs": 4,
    }
    assert costs["cost/parameters"] == 862_063  # python -m aimmat.bench model=aimnet width=0.125 sizes=800
    assert costs["cost/macs"] / 1e9 == pytest.approx(3.86, abs=0.005)  # as it prints them
