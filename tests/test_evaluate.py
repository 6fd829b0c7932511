"""The test alone: weights of a run give its figures again, an ONNX file stands in the same table."""

import json
import os
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest

from aimmat.evaluate import main
from aimmat.tables.runs import read_run

HERE = Path(__file__).parent
SMALL = run_path(str(HERE / "test_train.py"))["SMALL"]
onnx_file = run_path(str(HERE / "models" / "test_onnx.py"))["onnx_file"]
SCENES = [argument for argument in SMALL if not argument.startswith("model.")]


def command(module, *arguments, cwd):
    call = [sys.executable, "-m", module, *arguments, "logger=none", "constants=false"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(call, cwd=cwd, env=env, capture_output=True, text=True, timeout=240)


def test_the_weights_of_a_run_give_its_figures_again_without_its_settings(tmp_path):
    done = command("aimmat.train", *SMALL, "stages=[matting]", "hydra.run.dir=trained", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command("aimmat.evaluate", *SCENES, "init=trained", "hydra.run.dir=tested", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tested" / "rows.csv").read_text() == (tmp_path / "trained" / "rows.csv").read_text()
    assert read_run(tmp_path / "tested").config["model"]["width"] == 0.0625  # the file's, not that of conf/
    again = command("aimmat.evaluate", *SCENES, "init=trained", "hydra.run.dir=tested", cwd=tmp_path)
    assert "holds a run already" in again.stderr


def test_an_onnx_file_is_tested_on_the_same_pictures_and_read_as_a_run(tmp_path):
    onnx_file(tmp_path / "red.onnx")
    done = command("aimmat.evaluate", *SCENES, "model=onnx", "path=red.onnx", "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "out")
    assert run.name == "evaluate-red-s42"
    assert len(run.rows) == 3
    assert json.loads((tmp_path / "out" / "card.json").read_text())["model"]["path"] == "red.onnx"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "stages is empty, so there is nothing to train; name at least one of"),
        (["model=onnx", "path=missing.onnx"], "there is no ONNX file missing.onnx; give one by path=FILE.onnx"),
        (["model=onnx", "path=x.onnx", "init=run"], "model=onnx is tested as it is; leave out init"),
    ],
)
def test_what_cannot_be_tested_is_said_in_a_sentence(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate", *SCENES, "logger=none", *arguments])
    assert main() == 1
    assert message in capsys.readouterr().err
