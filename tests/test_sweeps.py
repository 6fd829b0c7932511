"""Sweeps: the grid of Table 3, jobs that fail, are killed or run side by side, and those that are run again."""

import argparse
import csv
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
from filelock import FileLock
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from aimmat.report import main as report_main
from aimmat.report import sweep as verb
from aimmat.schema import AimmatError
from aimmat.tables.sweeps import BUSY, FAILURE, read_sweep, write_sweep
from aimmat.train import config_dir, main, run_name, sweep, switches

helpers = run_path(str(Path(__file__).with_name("test_train.py")))
composed, train, train_here, TABLE_3 = (helpers[name] for name in ("composed", "train", "train_here", "TABLE_3"))
TINY = [*helpers["SMALL"], "constants=false", "estimate=false"]
ONE = [*TINY, "stages=[matting]", "logger=csv", "hydra.sweep.dir=sweep"]
KILLED = Path(__file__).with_name("killed.py")


ROWS = sorted(TABLE_3)  # as glob(*) has them


def inspected(record):
    """What a file of W&B holds."""
    call = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(record)]
    text = subprocess.run(call, capture_output=True, text=True, check=True, timeout=60).stdout
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def states(folder):
    return [job.state for job in read_sweep(folder)[1]]


def listed(folder):
    """The lines of its table."""
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def figures(metrics, name):
    """A column of the CSV logger's file, in order."""
    with metrics.open(newline="") as file:
        return [float(line[name]) for line in csv.DictReader(file) if line[name]]


def report(*arguments):
    """The verb `sweep` of the report: its exit code."""
    parser = argparse.ArgumentParser()
    verb.register(parser.add_subparsers())
    given = parser.parse_args(["sweep", *map(str, arguments)])
    return given.run(given)


# what a sweep is made of


def test_the_whole_grid_is_24_jobs():
    plan = sweep.planned(["-m", "experiment=full", "ablation=glob(*)", "seed=1,2,3"])
    configs = [composed(*job) for job in plan.jobs]
    assert len({run_name(config) for config in configs}) == len(configs) == 24
    rows = [{name for name, on in switches(config).items() if on} for config in configs]
    assert sorted(map(sorted, rows)) == sorted(sorted(on.split()) for on in TABLE_3.values() for _ in range(3))


def test_the_sweep_of_wandb_is_the_same_grid():
    noted = OmegaConf.to_container(OmegaConf.load(config_dir() / "sweeps" / "wandb_ablation.yaml"), resolve=False)
    names, values = zip(*((name, found["values"]) for name, found in noted["parameters"].items()), strict=True)
    jobs = [dict(zip(names, picked, strict=True)) for picked in itertools.product(*values)]
    assert {(job["ablation"], job["seed"]) for job in jobs} == {(row, seed) for row in TABLE_3 for seed in (1, 2, 3)}
    args = create_sweep_command_args({"args": {name: {"value": value} for name, value in jobs[0].items()}})
    start = noted["command"].index("aimmat.train") + 1
    *fixed, last = noted["command"][start:]
    config = composed(*fixed, *args[last.strip("${}")])
    assert run_name(config) == "full-none-s1"
    assert config.logger.wandb.offline is False


def test_a_sweep_of_no_job_is_an_error(tmp_path, monkeypatch, capsys):
    code, stderr = train_here(["-m", *ONE, "ablation=glob(nothing*)"], tmp_path, monkeypatch, capsys)
    assert code == 1
    assert stderr.startswith("error: a sweep of no job: nothing is found by ablation=glob(nothing*); ")
    assert len(stderr.splitlines()) == 1
    assert not (tmp_path / "sweep").exists()


def test_a_single_run_is_no_sweep():
    assert sweep.planned(["seed=1"]) is None


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    several = ["-m", "hydra/launcher=joblib", "seed=1,2"]
    for processes in (3, -1):
        with pytest.raises(AimmatError, match=r"cannot have one each of 2 GPUs; set hydra.launcher.n_jobs=2"):
            sweep.planned([*several, f"hydra.launcher.n_jobs={processes}"])
    assert len(sweep.planned([*several, "hydra.launcher.n_jobs=2"]).jobs) == 2
    assert len(sweep.planned([*several, "trainer.accelerator=cpu"]).jobs) == 2


def test_folders_of_jobs_are_their_numbers():
    with pytest.raises(AimmatError, match="is the number of the job"):
        sweep.planned(["-m", "seed=1,2", "hydra.sweep.subdir=mine"])


# jobs that are not done


def test_a_failed_job_is_listed_with_its_reason_and_run_again(tmp_path, monkeypatch, capsys):
    code, stderr = train_here(["-m", *ONE, "init=late.safetensors,null"], tmp_path, monkeypatch, capsys)
    folder = tmp_path / "sweep"
    assert code == 1
    assert "error: 1 of 2 jobs are not done; run what is left with: python -m aimmat.report sweep" in stderr
    failed, done = read_sweep(folder)[1]
    assert (failed.state, done.state) == ("failed", "done")
    assert "late.safetensors" in failed.reason
    assert failed.reason == (folder / "0" / FAILURE).read_text().strip()
    assert f"job 0 failed: {failed.reason}" in stderr

    os.link(folder / "1" / "model.safetensors", tmp_path / "late.safetensors")
    rows = (folder / "1" / "rows.csv").stat().st_mtime_ns
    monkeypatch.chdir("/")  # relative paths are the sweep's
    assert report(folder, "--retry") == 0
    assert states(folder) == ["done", "done"]
    assert (folder / "1" / "rows.csv").stat().st_mtime_ns == rows
    assert not (folder / "0" / FAILURE).exists()
    lines = listed(folder)
    assert [(line["job"], line["state"], line["reason"]) for line in lines] == [("0", "done", ""), ("1", "done", "")]
    assert float(lines[1]["sad"]) == pytest.approx(done.sad)

    monkeypatch.setattr(sweep, "begin", lambda plan: None)  # a scheduler starts jobs again, not the sweep
    monkeypatch.setattr(sys, "argv", ["train", "-m", *ONE, "init=late.safetensors,null"])
    monkeypatch.chdir(tmp_path)
    assert main() == 0
    assert capsys.readouterr().out.count("stage matting is done") == 2


GRIDS = {  # a launcher, what is killed in the seventh job, the exit code, and how the jobs may stand then
    "basic": ([], "in the test of job 6", -9, [{"done"}] * 6 + [{"unfinished"}, {"missing"}]),
    "joblib": (
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        "in joblib's job 6, a stage done",
        1,
        [{"done"}] * 4 + [{"done", "unfinished"}] * 2 + [{"unfinished"}, {"unfinished", "missing"}],
    ),
}


@pytest.fixture(scope="module", params=GRIDS)
def grid(request, tmp_path_factory):
    """The toy grid: its process, or one of two, killed in the seventh job."""
    cwd = tmp_path_factory.mktemp("grid")
    launcher, point, code, stand = GRIDS[request.param]
    call = [sys.executable, str(KILLED), point, "-m", *TINY, *launcher, "ablation=glob(*)", "hydra.sweep.dir=sweep"]
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # of runs in this process
    done = subprocess.run(call, cwd=cwd, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr
    assert ("a process of the sweep was killed" in done.stderr) is (code == 1)
    assert all(state in possible for state, possible in zip(states(cwd / "sweep"), stand, strict=True))
    return cwd / "sweep"


def train_in_this_process(arguments, cwd):
    """What a retry has a process of its own for; here everything is imported already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["train", *arguments])
        main()


def test_a_grid_that_was_killed_is_finished_by_a_retry(grid, capsys, monkeypatch):
    monkeypatch.setattr(verb, "_train", train_in_this_process)
    assert report(grid) == 0  # it was asked how things stand
    printed = capsys.readouterr().out
    why = {"done": "", "unfinished": "was interrupted or killed", "missing": "was not started"}
    lines = listed(grid)
    assert all(why[line["state"]] in line["reason"] and line["state"] in printed for line in lines)
    left = [line["job"] for line in lines if line["reason"]]
    assert left == [line["job"] for line in lines if not line["sad"]]

    done = [grid / line["job"] / "rows.csv" for line in lines if not line["reason"]]
    before = {rows: rows.stat().st_mtime_ns for rows in done}
    assert report(grid, "--retry") == 0
    assert re.findall(r"^job (\d): ", capsys.readouterr().out, re.MULTILINE) == left
    assert states(grid) == ["done"] * 8
    assert [rows.stat().st_mtime_ns for rows in before] == [*before.values()]
    rows = [switches(OmegaConf.load(grid / str(job) / "config.yaml")) for job in range(8)]
    assert [{name for name, on in row.items() if on} for row in rows] == [set(TABLE_3[row].split()) for row in ROWS]


def test_the_finished_grid_is_table_3(grid, tmp_path, capsys):
    assert report_main([str(grid), "--table", "3", "-o", str(tmp_path)]) == 0
    assert "not run" not in capsys.readouterr().out
    with (tmp_path / "table_3.csv").open(newline="") as file:
        ours = {line["row"]: float(line["sad"]) for line in csv.DictReader(file)}
    assert ours == pytest.approx({row: float(line["sad"]) for row, line in zip(ROWS, listed(grid), strict=True)})


def test_wandb_knows_the_grid_as_eight_runs_of_one_group(grid):
    runs = {}
    for record in grid.glob("*/wandb/offline-run-*/*.wandb"):
        records = inspected(record)
        run = next((found["run"] for found in records if "run" in found), None)
        if run is None:
            continue  # its process was killed first
        runs[run["run_id"]] = run
        config = {}
        for found in records:
            config |= found.get("config", {}).get("update", {})
        row = ROWS[int(record.parents[2].name)]
        assert run["display_name"] == f"demo-{'+'.join(TABLE_3[row].split()) or 'none'}-s42"
        assert set(run["tags"]) == {"synthetic", "aimnet", "paper", *TABLE_3[row].split()}
        assert run["run_group"] == "demo"
        assert {name for name in ("mp", "se", "sa") if config["model"][name]} == set(TABLE_3[row].split()) - {
            "uni",
            "tl",
        }
        metrics = {found["metric"].get("name"): found["metric"] for found in records if "metric" in found}
        assert metrics["val/sad"]["summary"] == {"min": True}
    assert len(runs) == 8


def test_a_job_that_runs_is_neither_listed_as_unfinished_nor_run_again(tmp_path):
    write_sweep(tmp_path, tmp_path, [["seed=1"]])
    (tmp_path / "0").mkdir()
    with FileLock(tmp_path / "0" / BUSY):
        assert states(tmp_path) == ["running"]
        assert report(tmp_path, "--retry") == 1
    assert states(tmp_path) == ["missing"]
    assert [path.name for path in (tmp_path / "0").iterdir()] == [BUSY]


def test_a_folder_holds_one_sweep(tmp_path):
    write_sweep(tmp_path, tmp_path, [["seed=1"]])
    with pytest.raises(AimmatError, match="holds a sweep already; run what is left with"):
        sweep.begin(sweep.Plan(tmp_path, [["seed=2"]], []))


def test_a_folder_without_a_sweep_is_named(tmp_path):
    with pytest.raises(AimmatError, match="is not a sweep's folder"):
        read_sweep(tmp_path)


# side by side


@pytest.fixture
def _no_gpu_yet(monkeypatch):
    monkeypatch.setattr(sweep, "_gpu", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "before")


@pytest.mark.usefixtures("_no_gpu_yet")
def test_a_job_takes_the_first_gpu_that_is_free_and_keeps_it(tmp_path, monkeypatch):
    sweep.take_gpu(["4", "7"], tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"
    sweep.take_gpu(["4", "7"], tmp_path)  # the next job of this process
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"
    first = sweep._gpu
    monkeypatch.setattr(sweep, "_gpu", [])  # another process
    sweep.take_gpu(["4", "7"], tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    monkeypatch.setattr(sweep, "_gpu", [])
    monkeypatch.setattr(sweep.time, "sleep", lambda _: first[0].release())  # while this one waits, the first ends
    sweep.take_gpu(["4", "7"], tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"


@pytest.mark.usefixtures("_no_gpu_yet")
def test_without_a_gpu_nothing_is_taken(tmp_path):
    sweep.take_gpu([], tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "before"
    assert not list(tmp_path.iterdir())


def test_gpus_are_those_that_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    assert sweep.devices(composed()) == ["3", "GPU-5a"]
    assert sweep.devices(composed("trainer.accelerator=cpu")) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert sweep.devices(composed()) == []


def test_jobs_side_by_side_are_runs_of_their_own(tmp_path):
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = train("-m", *ONE, "logger=wandb", *joblib, "model.width=0.0625,0,0.125", cwd=tmp_path)
    assert done.returncode == 1
    assert "job 1 failed: aimnet's width" in done.stderr
    folder = tmp_path / "sweep"
    assert states(folder) == ["done", "failed", "done"]
    assert "failed" in done.stdout
    assert "stage matting" not in done.stdout
    for job in "02":
        assert "stage matting" in (folder / job / "log.txt").read_text()
        assert len(list((folder / job).glob("wandb/offline-run-*"))) == 1
    assert len({(folder / job / "wandb_run_id.txt").read_text() for job in "02"}) == 2


# searches

SEARCH = ["hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "stage.matting.optimizer.lr=tag(log, interval(1e-6, 1e-2))"]


@pytest.fixture
def _old_optuna(monkeypatch):
    monkeypatch.setenv("SQLALCHEMY_SILENCE_UBER_WARNING", "1")  # SQLAlchemy says at import what its next major drops


@pytest.mark.usefixtures("_old_optuna")
def test_a_search_goes_by_the_validation_and_can_go_on(tmp_path, monkeypatch, capsys):
    kept = ["hydra.sweeper.storage=sqlite:///search.db", "hydra.sweeper.study_name=rate"]
    for number, folder in (2, "first"), (1, "more"):
        many = [f"hydra.sweeper.n_trials={number}", f"hydra.sweep.dir={folder}"]
        code, stderr = train_here(["-m", *ONE, *SEARCH, *kept, *many], tmp_path, monkeypatch, capsys)
        assert code == 0, stderr
    from optuna import load_study

    trials = load_study("rate", "sqlite:///search.db").trials
    jobs = [tmp_path / "first" / "0", tmp_path / "first" / "1", tmp_path / "more" / "0"]
    for trial, job in zip(trials, jobs, strict=True):
        rate = OmegaConf.load(job / "config.yaml").stage.matting.optimizer.lr
        assert trial.params == {"stage.matting.optimizer.lr": rate}
        assert trial.value == pytest.approx(figures(job / "csv" / "metrics.csv", "val/sad")[-1])
        assert trial.value != pytest.approx(figures(job / "csv" / "metrics.csv", "test/sad")[-1])
    assert len({str(trial.params) for trial in trials}) == 3


@pytest.mark.usefixtures("_old_optuna")
def test_a_search_without_a_validation_is_refused(tmp_path, monkeypatch, capsys):
    code, stderr = train_here(["-m", *ONE, *SEARCH, "data.val=null"], tmp_path, monkeypatch, capsys)
    assert code == 1
    assert "error: a search looks for the least SAD of the validation split, and stage matting has none; " in stderr
    assert not (tmp_path / "sweep" / "0" / "matting").exists()
