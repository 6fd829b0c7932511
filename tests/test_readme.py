"""Every command and every line of Python in the README runs; long ones are shortened by what is added here."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from PIL import Image

from aimmat import bench, convert, demo, evaluate, models, predict, prepare, report, score, train
from aimmat.export import __main__ as export
from aimmat.weights import save_release

ROOT = Path(__file__).parents[1]
make_tree = run_path(str(Path(__file__).parent / "data" / "trees.py"))["make_tree"]
onnx_file = run_path(str(Path(__file__).parent / "models" / "test_onnx.py"))["onnx_file"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = [
    "model.width=0.0625",
    "data.num_workers=0",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
    "++trainer.limit_train_batches=1",
    "++trainer.limit_val_batches=1",
    "++trainer.limit_test_batches=3",
    "constants=false",
]
EXAMPLE_RUN = "runs/demo/2026-01-31_12-00-00"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines() if line.strip()]
ALL_METHODS = "model=glob(*,exclude=onnx)"  # a minute long: tests/test_methods.py runs it
TRAININGS = [c[3:] for c in COMMANDS if c[:3] == ["python", "-m", "aimmat.train"] and ALL_METHODS not in c]


def run(module, arguments, monkeypatch, cwd):
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    assert module.main() == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run to load and to resume, and a folder of cut-outs, where the README's examples say they are."""
    root = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        run(train, ["logger=none", *SHORT, f"hydra.run.dir={EXAMPLE_RUN}"], patch, root)
    cutout = np.zeros((48, 48, 4), np.uint8)
    cutout[8:40, 8:40] = 255
    for split in ("train", "val", "test"):
        (root / "pictures" / split / "foreground").mkdir(parents=True)
        Image.fromarray(cutout).save(root / "pictures" / split / "foreground" / "square.png")
    (root / "pictures" / "background").mkdir()
    for i in range(3):
        Image.new("RGB", (64, 64), (0, 80 * i, 0)).save(root / "pictures" / "background" / f"{i}.png")
    Image.new("RGB", (60, 45), (200, 120, 40)).save(root / "photo.jpg")
    (root / "RUN").symlink_to(EXAMPLE_RUN)
    for name in ("imagenet", "dim", "hatt", "am2k", "bg20k", "duts", "aim500"):
        make_tree(name, root / "DATA")
    return root


@pytest.mark.parametrize("arguments", TRAININGS, ids=" ".join)
def test_a_training_command_of_the_readme_runs(arguments, folder, monkeypatch):
    if "experiment=full" in arguments:
        sets = ["dim", "hatt", "am2k", "bg20k"]
        run(prepare, ["cache", *sets, "--root", "DATA", "-o", "CACHE", "--jobs", "1"], monkeypatch, folder)
        small = ["data.train.crop_sizes=[32,48]", "data.train.input_size=32", "duts.train.input_size=32"]
        arguments = [*arguments, *small]
    arguments = [argument.replace("/your/pics", "pictures") for argument in arguments]
    logger = [] if any(argument.startswith("logger=") for argument in arguments) else ["logger=csv"]
    if f"resume={EXAMPLE_RUN}" in arguments:
        run(train, arguments, monkeypatch, folder)
    else:
        run(train, [*arguments, *SHORT, *logger], monkeypatch, folder)


@pytest.mark.parametrize(
    "arguments", [c[3:] for c in COMMANDS if c[:3] == ["python", "-m", "aimmat.evaluate"]], ids=" ".join
)
def test_an_evaluating_command_of_the_readme_runs(arguments, folder, monkeypatch):
    onnx_file(folder / "MODEL.onnx")
    own = ["trainer.accelerator=cpu", "++trainer.limit_test_batches=3", "constants=false", "logger=none"]
    run(evaluate, [*arguments, *own], monkeypatch, folder)


def test_the_command_that_takes_a_minute_is_run_elsewhere():
    assert ALL_METHODS in (ROOT / "tests" / "test_methods.py").read_text()


@pytest.mark.parametrize(
    "arguments", [c[3:] for c in COMMANDS if c[:3] == ["python", "-m", "aimmat.predict"]], ids=" ".join
)
def test_a_predicting_command_of_the_readme_runs(arguments, folder, tmp_path, monkeypatch):
    (tmp_path / "RUN").symlink_to(folder / "RUN")
    for place in ("photo.jpg", "beach.jpg", "photos/one.jpg", "more/deep/two.jpg", "inbox/three.jpg"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "photo.jpg", tmp_path / place)
    monkeypatch.chdir(tmp_path)
    looks = iter([None, None, KeyboardInterrupt])  # at the folder that is watched; then Ctrl-C
    monkeypatch.setattr(predict.time, "sleep", lambda seconds: _raised(next(looks)))
    assert predict.main(arguments) == (130 if "--watch" in arguments else 0)
    written = list((tmp_path / arguments[arguments.index("-o") + 1]).iterdir())
    assert len(written) == (2 if "photos" in arguments and "more/**/*.jpg" in arguments else 1)


def _raised(error):
    if error is not None:
        raise error


def test_the_command_of_the_readme_serves_the_page(folder, monkeypatch, capsys):
    import uvicorn

    ((arguments),) = [c[3:] for c in COMMANDS if c[:3] == ["python", "-m", "aimmat.demo"]]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets=None: None)
    assert demo.main([*arguments, "--port", "0"]) == 0
    assert capsys.readouterr().out.startswith("open http://127.0.0.1:")


@pytest.mark.parametrize(
    "arguments", [c[3:] for c in COMMANDS if c[:3] == ["python", "-m", "aimmat.export"]], ids=" ".join
)
def test_an_exporting_command_of_the_readme_runs(arguments, folder, tmp_path, monkeypatch):
    (tmp_path / "RUN").symlink_to(folder / "RUN")
    monkeypatch.chdir(tmp_path)
    assert export.main(arguments) == 0
    assert Path(arguments[arguments.index("-o") + 1]).exists()


def test_the_python_of_the_readme_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (code,) = blocks("python")
    names = {"images": torch.rand(1, 3, 64, 64)}
    exec(compile(code, "README.md", "exec"), names)
    assert names["matte"].shape == (45, 60)
    assert names["prediction"].alpha.shape == (1, 1, 64, 64)


LEFT = {"sheet": "sheet.png", "check": "check.html", "types": "types/types.csv", "cache": "CACHE", "layout": "."}


@pytest.mark.parametrize(
    "arguments", [c[3:] for c in COMMANDS if c[:3] == ["python", "-m", "aimmat.prepare"]], ids=" ".join
)
def test_a_preparing_command_of_the_readme_runs(arguments, folder, tmp_path, monkeypatch):
    if "--root" in arguments:
        (tmp_path / "DATA").symlink_to(folder / "DATA")
    short = ["--count", "4", "--size", "64"] if arguments[0] == "sheet" else []
    run(prepare, [*arguments, *short], monkeypatch, tmp_path)
    assert (tmp_path / LEFT[arguments[0]]).exists()


def test_the_bench_command_of_the_readme_runs(tmp_path, monkeypatch):
    ((arguments),) = [c[3:] for c in COMMANDS if c[:3] == ["python", "-m", "aimmat.bench"]]
    run(bench, [*arguments, "width=0.0625", "sizes=64"], monkeypatch, tmp_path)


def test_the_converting_commands_of_the_readme_run(tmp_path, monkeypatch):
    save_release(tmp_path / "aimnet_pretrained_matting.pth", models.build("aimnet"))
    commands = [c[3:] for c in COMMANDS if c[:3] == ["python", "-m", "aimmat.convert"]]
    assert commands
    for arguments in commands:
        run(convert, arguments, monkeypatch, tmp_path)
        assert (tmp_path / arguments[1]).exists()


@pytest.mark.parametrize(
    "arguments", [c[3:] for c in COMMANDS if c[:3] == ["python", "-m", "aimmat.score"]], ids=" ".join
)
def test_a_scoring_command_of_the_readme_runs(arguments, tmp_path, monkeypatch):
    grey = Image.fromarray(np.linspace(0, 255, 48 * 32).astype(np.uint8).reshape(32, 48))
    for folder in ("predictions", "truth", "trimaps", "AIM-500/mask", "AIM-500/trimap"):
        (tmp_path / folder).mkdir(parents=True)
        grey.save(tmp_path / folder / "one.png")
    types = {"one": {"type": "NS", "category": "plant"}}
    (tmp_path / "AIM-500" / "aim_category_type.json").write_text(json.dumps(types))
    run(score, arguments, monkeypatch, tmp_path)
    assert (tmp_path / "predictions_scores" / "rows.csv").exists()


@pytest.mark.parametrize(
    "arguments", [c[3:] for c in COMMANDS if c[:3] == ["python", "-m", "aimmat.report"]], ids=" ".join
)
def test_a_reporting_command_of_the_readme_runs(arguments, folder, tmp_path, monkeypatch):
    for name, seed in (("RUN", 42), ("OTHER", 43)):
        shutil.copytree(folder / EXAMPLE_RUN, tmp_path / name)
        config = (folder / EXAMPLE_RUN / "config.yaml").read_text()
        (tmp_path / name / "config.yaml").write_text(config.replace("\nseed: 42", f"\nseed: {seed}"))
    run(report, arguments, monkeypatch, tmp_path)
    if "-o" in arguments:
        assert list((tmp_path / arguments[-1]).iterdir())


def test_no_command_of_the_readme_is_left_untried():
    names = ["train", "evaluate", "predict", "demo", "export", "prepare", "report", "bench", "convert", "score"]
    tried = {f"aimmat.{name}" for name in names}
    assert {command[2] for command in COMMANDS if command[:2] == ["python", "-m"]} <= tried


def test_what_is_left_is_run_by_continuous_integration():
    # make demo and make test on a fresh clone; make installs what the pip line installs
    script = (ROOT / ".ci" / "run").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for command in COMMANDS:
        if command[:2] == ["python", "-m"]:
            continue
        if command[0] == "make":
            assert " ".join(command) in script
        else:
            assert command[:2] == ["pip", "install"]
            assert "--constraint constraints.txt --editable '.[dev]'" in makefile


def test_every_file_the_readme_points_at_exists():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
