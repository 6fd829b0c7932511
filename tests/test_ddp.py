"""A run over several processes is the run of one: losses, test, one folder, one voice; and it ends when one fails."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
from hydra import compose, initialize_config_dir

from aimmat.data.records import RECORD, read_records
from aimmat.lit.processes import agreed
from aimmat.tables import read_rows
from aimmat.train import config_dir, main
from aimmat.weights import load_network

# An epoch of 4, 4 and 1 samples: one process has nothing left for the last step. 5 test pictures: shares of 3 and 2.
TINY = [
    *run_path(str(Path(__file__).with_name("test_train.py")))["SMALL"],  # of which these change some
    "data.train.source.length=9",
    "data.val.source.length=3",
    "data.test.source.length=5",
    "frozen=[batch_norm]",  # synchronised, its form for several devices, there is for CUDA alone
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=2",
    "logger=csv",
    "constants=false",
]
TWO = ["trainer=ddp", "trainer.devices=2"]
LIMIT = 120  # seconds: a run that hangs fails


def train(*arguments, cwd, start=()):
    """Run the command as a user does: its exit code, what it printed, and what it said of errors."""
    call = [sys.executable, *start, "-m", "aimmat.train", *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "PYTHONPATH": str(cwd)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(call, cwd=cwd, env=env, **pipes) as running:
        try:
            out, errors = running.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)  # all its processes, which hold the pipes
            raise
    return subprocess.CompletedProcess(call, running.returncode, out, errors)


FAILING = """
import lightning

from aimmat.schema import AimmatError


class Failing(lightning.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 1:
            raise AimmatError("cat.png is truncated")
"""


def logged(folder, part):
    """What the CSV logger has of every step: {(name, step): value}."""
    found = {}
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found |= {(name, row["step"]): float(text) for name, text in row.items() if text and part in name}
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("one")
    done = train(*TINY, "hydra.run.dir=out", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "out"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two processes that Lightning starts: their folder, found by its place, and what they printed."""
    cwd = tmp_path_factory.mktemp("two")
    done = train(*TINY, *TWO, cwd=cwd)
    assert done.returncode == 0, done.stderr
    (folder,) = cwd.glob("runs/*/*")
    return folder, done


def test_the_loss_of_every_step_is_that_of_one_process(one, two):
    alone, both = logged(one, "train/"), logged(two[0], "train/")
    assert alone.keys() == both.keys()
    steps = [key for key in alone if key[0].endswith("train/loss")]
    assert len(steps) == 2 * 2 * 3  # stages, epochs, steps
    for key, value in alone.items():
        # measured: 2.4e-6 at the most, rounding that two epochs of Adam at 2e-3 made larger; losses move by 4
        assert both[key] == pytest.approx(value, abs=1e-5), key


def test_validation_and_test_are_those_of_one_process(one, two):
    for part in ("val/sad", "test/sad", "test/mse", "test/mad", "test/conn", "test/semantic_"):
        alone, both = logged(one, part), logged(two[0], part)
        assert alone
        # measured: 4.4e-4 for an SAD of 0.8: weights differ by rounding, which the averages of 12 steps make larger
        assert both == pytest.approx(alone, abs=2e-3)
    rows, others = read_rows(one / "rows.csv"), read_rows(two[0] / "rows.csv")
    assert [row.name for row in rows] == [row.name for row in others]
    assert len(rows) == 5
    for row, other in zip(rows, others, strict=True):
        assert other.scores["sad"] == pytest.approx(row.scores["sad"], abs=2e-3)


def test_both_processes_end_with_the_weights_of_one(one, two):
    alone, both = (load_network(folder)[0].state_dict() for folder in (one, two[0]))
    # 12 steps of Adam at up to 2e-3: a weight whose gradient is rounding alone may go either way
    worst = max(float((value - both[name]).abs().max()) for name, value in alone.items())
    assert worst < 2e-3


def test_the_first_process_alone_prints_and_writes(two):
    folder, done = two
    assert done.stdout.count("Whole image, transition region") == 1
    assert done.stdout.count(f"{folder.name}/rows.csv") == 1
    for name in ("config.yaml", ".hydra/overrides.yaml", "csv/metrics.csv", "gallery.html"):
        assert (folder / name).stat().st_size > 0
    page = (folder / "gallery.html").read_text()
    assert all(row.name in page for row in read_rows(folder / "rows.csv"))  # also the second process's pictures
    for stage in ("saliency", "matting"):
        (record,) = read_records(folder / stage / RECORD)
        assert (record.processes, record.batches, record.accumulate) == (2, 3, 1)


def test_the_batch_of_a_step_is_said_before_the_first_step(two):
    line = "2 (devices) x 2 (at once) x 1 (accumulated) make a step; learning rate and schedule count steps"
    assert two[1].stdout.count(line) == 2  # stages


def test_processes_that_torchrun_starts_share_a_folder_and_go_on_together(one, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = train(*TINY, *TWO, "stages=[saliency]", cwd=tmp_path, start=torchrun)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/*/*")
    assert done.stdout.count("Whole image, transition region") == 1
    losses = {name.removeprefix("saliency/"): value for (name, step), value in logged(one, "y/train/loss").items()}
    assert logged(folder, "train/loss")["train/loss", "5"] == pytest.approx(losses["train/loss"], abs=1e-5)


def test_a_process_that_fails_ends_the_run(tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    failing = "+callbacks.failing={_target_: failing.Failing}"
    done = train(*TINY, *TWO, failing, "hydra.run.dir=out", "stages=[matting]", cwd=tmp_path)
    assert done.returncode != 0
    assert "error: cat.png is truncated" in done.stderr
    assert not (tmp_path / "out" / "rows.csv").exists()


# what is said when something is wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            [*TWO, "data.batch_size=5"],
            "data.batch_size=5 is the batch of one step over all devices and 2 of them cannot",
        ),
        (["+trainer.accumulate_grad_batches=2"], "leave it out and set data.device_batch_size"),
        (["data.device_batch_size=0"], "data.device_batch_size must be a whole number, 1 or more"),
        (["frozen=[decoder]"], "frozen names decoder; name parts of encoder, semantic, "),
        ([*TWO, "hydra.sweep.dir=sweep", "-m"], "begin the whole sweep again"),
    ],
)
def test_what_several_devices_cannot_do_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", *TINY, "hydra.run.dir=out", *arguments])
    assert main() == 1
    assert says in capsys.readouterr().err


def test_batch_statistics_are_synchronised_on_gpus_by_default():
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = {name: compose("train", [f"trainer={name}"]).trainer for name in ("auto", "ddp", "slurm")}
    assert composed["ddp"].sync_batchnorm
    assert composed["slurm"].sync_batchnorm
    assert "sync_batchnorm" not in composed["auto"]


def test_without_torchrun_a_process_agrees_with_itself():
    assert agreed("anything", "mine") == "mine"
