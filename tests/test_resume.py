"""A run that is killed and goes on ends as one that nobody stopped, bit by bit."""

import csv
import errno
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch

from aimmat.lit import MattingModule
from aimmat.prepare import main as prepare
from aimmat.schema import AimmatError
from aimmat.train import main
from aimmat.train.resume import resumed
from aimmat.weights import load_network

# the demo's averages and schedule; 2 stages of 2 epochs of 3 steps of 2 batches
SMALL = [
    *run_path(str(Path(__file__).with_name("test_train.py")))["SMALL"],  # of which these change some
    "data.train.source.length=12",
    "data.val.source.length=1",
    "data.device_batch_size=2",
    "trainer.max_epochs=2",
    "constants=false",
]
KILLED = Path(__file__).with_name("killed.py")


def start(call, cwd):
    """Run a command as a user does."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run([sys.executable, *call], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def train(*arguments, cwd):
    return start(["-m", "aimmat.train", *arguments], cwd)


def train_here(arguments, cwd, monkeypatch, capsys):
    """The same in this process: exit code and what it printed."""
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    return main(), capsys.readouterr()


def curve(folder):
    """The logged values of each step of each stage."""
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = {(line["stage"], line["step"]): {name: value for name, value in line.items() if value} for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nobody stopped; it writes checkpoints at the ends of its epochs alone."""
    cwd = tmp_path_factory.mktemp("run")
    done = train(*SMALL, "logger=csv", "hydra.run.dir=out", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "out"


def test_a_run_killed_nine_times_ends_as_one_that_was_not(finished, tmp_path, monkeypatch, capsys):
    arguments = [*SMALL, "logger=csv", "callbacks.last.minutes=0", "resume=auto"]
    for point in (
        "before the first step",
        "while the second checkpoint is written",
        "in a validation",
        "between the renames",
        "before a stage's weights",
        "between stages",
        "in the middle of an epoch and a step",
        "in the test",
        "while tables are written",
    ):
        done = start([KILLED, point, *arguments], cwd=tmp_path)
        assert done.returncode == -signal.SIGKILL, f"not killed {point}: {done.stderr}"
        assert ("damaged" in done.stderr) == (point == "in the test"), done.stderr
        if point == "in the middle of an epoch and a step":
            last = next(tmp_path.glob("runs/demo/*/matting/checkpoints/last.ckpt"))
            last.write_bytes(last.read_bytes()[:-1000])
    done = train(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (out,) = (tmp_path / "runs" / "demo").iterdir()
    assert curve(out) == curve(finished)
    assert (out / "rows.csv").read_bytes() == (finished / "rows.csv").read_bytes()
    for name in ("saliency", "matting", "."):
        weights, expected = (load_network(run / name / "model.safetensors")[0].state_dict() for run in (out, finished))
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[key], expected[key]) for key in weights), name
    assert not list(out.rglob("*.partial"))
    code, said = train_here([f"resume={out}"], tmp_path, monkeypatch, capsys)
    assert code == 0
    assert f"the run {out} is finished" in said.out


def run_of(arguments, folder):
    """What Hydra leaves of a run that was killed at its start."""
    overrides = folder / ".hydra" / "overrides.yaml"
    overrides.parent.mkdir(parents=True)
    overrides.write_text("".join(f"- {argument}\n" for argument in arguments) or "[]\n")


def goes_on_in(*arguments):
    """The folder that a command goes on in; None when it begins a run."""
    places = [found for found in resumed(list(arguments)) if found.startswith("hydra.run.dir='")]
    return Path(places[-1].removeprefix("hydra.run.dir='").rstrip("'")) if places else None


def test_auto_takes_the_newest_unfinished_run_of_the_same_arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert goes_on_in("seed=1", "resume=auto") is None
    demo = tmp_path / "runs" / "demo"
    for number, (name, arguments) in enumerate(
        {"c": ["seed=1"], "b": ["seed=1"], "a": ["seed=2"], "e": [], "d": ["seed=1"]}.items()
    ):
        run_of(arguments, demo / name)
        os.utime(demo / name / ".hydra" / "overrides.yaml", (number, number))
    (demo / "d" / "model.safetensors").touch()
    assert goes_on_in("seed=1", "resume=auto") == demo / "b"
    assert goes_on_in("resume=auto", "seed=2") == demo / "a"
    assert goes_on_in("resume=auto") == demo / "e"
    assert goes_on_in("resume=auto", "seed=3") is None
    assert goes_on_in("resume=auto", "seed=1", "task_name=other") is None
    (demo / "b" / ".hydra" / "overrides.yaml").write_text("- see")  # cut short by a kill
    assert goes_on_in("seed=1", "resume=auto") == demo / "c"


def test_auto_goes_on_with_what_it_went_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_of(["seed=1"], tmp_path / "runs/demo/a")
    for _ in range(2):
        arguments = resumed(["seed=1", "resume=auto"])
        assert arguments[:2] == ["seed=1", f"resume='{tmp_path}/runs/demo/a'"]
        assert arguments[-1] == "hydra.output_subdir=null"  # the run's own arguments stay as they are


def test_auto_in_a_folder_that_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["seed=1", "hydra.run.dir=here", "resume=auto"]
    assert goes_on_in(*given) is None
    run_of(["seed=1"], tmp_path / "here")
    assert goes_on_in(*given) == tmp_path / "here"
    with pytest.raises(AimmatError, match="here holds a run of other arguments: seed=1; name another folder"):
        resumed(["seed=2", *given[1:]])


def test_a_run_goes_on_with_further_arguments_the_next_time_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_of(["seed=1"], tmp_path / "a")
    assert resumed(["resume=a", "mattes=true"])[:2] == ["seed=1", "mattes=true"]
    assert resumed(["resume=a"])[:2] == ["seed=1", "mattes=true"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-m", "seed=1,2", "resume=auto"], 1, "resume=auto goes on with a single run, not a sweep"),
        (["resume=nowhere"], 1, "nowhere is not a run's folder"),
        (["resume=done"], 0, "done is finished: it has a model.safetensors"),
        (["resume=auto", "hydra.run.dir=done"], 0, "done is finished: it has a model.safetensors"),
    ],
)
def test_what_cannot_go_on_ends_in_one_sentence(tmp_path, monkeypatch, capsys, arguments, code, says):
    run_of([], tmp_path / "done")
    (tmp_path / "done" / "model.safetensors").touch()
    found, said = train_here(arguments, tmp_path, monkeypatch, capsys)
    assert found == code
    assert says in said.out + said.err
    assert len((said.out + said.err).strip().splitlines()) == 1


ONE = [*SMALL, "stages=[matting]", "hydra.run.dir=out"]
LAST = Path("out/matting/checkpoints/last.ckpt")


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_run_that_goes_on_is_the_same_one_to_wandb(tmp_path, monkeypatch, capsys):
    given = [*ONE, "data.train.source.length=4", "logger=wandb", "data.val=null", "callbacks.best=null", "resume=auto"]
    with monkeypatch.context() as patch:
        patch.setattr(MattingModule, "training_step", lambda *_: 1 / 0)
        code, _ = train_here(given, tmp_path, monkeypatch, capsys)
        assert code == 1
    known = (tmp_path / "out" / "wandb_run_id.txt").read_text()
    code, said = train_here(given, tmp_path, monkeypatch, capsys)
    assert code == 0, said.err
    assert (tmp_path / "out" / "wandb_run_id.txt").read_text() == known
    records = list((tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb"))
    assert [record.name for record in records] == [f"run-{known}.wandb"] * 2


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_full_disk_stops_the_run_and_names_the_last_good_checkpoint(tmp_path, monkeypatch, capsys):
    real, count = os.fsync, iter(range(100))

    def full(file):
        if next(count) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    given = [*ONE, "logger=none", "callbacks.last.minutes=0", "callbacks.best=null"]
    code, said = train_here(given, tmp_path, monkeypatch, capsys)
    assert code == 1
    assert f"(No space left on device); the last good one is {tmp_path / LAST}; make room" in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 2


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(
    ("given", "step", "says"),
    [
        (["stage.matting.optimizer.lr=1e18"], 1, "are not finite on the samples "),
        (
            ["stage.matting.optimizer.lr=1e40", "data.train.source.length=4", "trainer.max_epochs=1"],
            0,
            "the weights are",
        ),
    ],
)
def test_a_loss_that_is_no_number_says_how_to_see_what_it_was_shown(tmp_path, monkeypatch, capsys, given, step, says):
    arguments = [*ONE, "stage.matting.schedule=null", "logger=none", "callbacks.last.minutes=0", *given]
    code, said = train_here(arguments, tmp_path, monkeypatch, capsys)
    assert code == 1
    assert says in said.err
    assert f"it is step {step} of stage matting" in said.err
    assert len(said.err.strip().splitlines()) == 1
    if (tmp_path / LAST).exists():
        weights = torch.load(tmp_path / LAST, weights_only=True)["current_model_state"]
        assert all(weight.isfinite().all() for weight in weights.values())
    assert not (tmp_path / "out/matting/model.safetensors").exists()
    command = shlex.split(said.err.partition("with: ")[2])
    assert command[:4] == ["python", "-m", "aimmat.prepare", "replay"]
    assert prepare(command[3:]) == 0
    assert (tmp_path / f"out/replay/matting-step{step:06d}.png").exists()
    recipes = json.loads((tmp_path / f"out/replay/matting-step{step:06d}.json").read_text())
    shown = {recipe["name"] for recipe in recipes}
    if "samples" in says:
        assert set(said.err.partition("the samples ")[2].partition(";")[0].split(", ")) <= shown
