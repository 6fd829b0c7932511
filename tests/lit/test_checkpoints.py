"""Checkpoints are whole whatever happens while one is written, and training goes on from them as if never stopped."""

import errno
import os
import signal
from functools import partial

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from aimmat.data import SceneDataset, SyntheticScenes
from aimmat.functional.batches import compose
from aimmat.lit import CurveLogger, MattingDataModule, SaveLast, WholeCheckpoints
from aimmat.lit.checkpoints import latest
from aimmat.schema import AimmatError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


# files


def save(folder, *contents):
    for content in contents:
        WholeCheckpoints().save_checkpoint({"epoch": content}, folder / "last.ckpt")


def epoch(path):
    return torch.load(path, weights_only=True)["epoch"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_checkpoints_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3)
    assert names(tmp_path) == ["last.ckpt", "previous.ckpt"]
    assert [epoch(tmp_path / name) for name in names(tmp_path)] == [3, 2]


def test_another_checkpoint_moves_neither(tmp_path):
    save(tmp_path, 1, 2)
    for content in (3, 4):
        WholeCheckpoints().save_checkpoint({"epoch": content}, tmp_path / "best.ckpt")
    assert [epoch(tmp_path / name) for name in names(tmp_path)] == [4, 2, 1]


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_old_checkpoint_and_the_sentence_names_it(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AimmatError, match=f"No space left .* the last good one is {tmp_path / 'last.ckpt'}; make room"):
        save(tmp_path, 2)
    assert names(tmp_path) == ["last.ckpt"]
    assert epoch(tmp_path / "last.ckpt") == 1


def test_a_first_checkpoint_that_cannot_be_written_says_that_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AimmatError, match="there is none before it"):
        save(tmp_path / "new", 1)
    assert names(tmp_path / "new") == []


def test_no_checkpoint_begins_a_stage_anew_in_silence(tmp_path, capsys):
    assert latest(tmp_path / "nowhere") is None
    assert capsys.readouterr().err == ""


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def change(path):
    one = torch.ones(1).numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(one * 100, one * 99 + bytes(4)))


@pytest.mark.parametrize("damage", [cut, change, lambda path: path.write_bytes(b"")], ids=["cut", "changed", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, capsys, damage):
    save(tmp_path, torch.zeros(100), torch.ones(100))
    damage(tmp_path / "last.ckpt")
    assert latest(tmp_path) == tmp_path / "previous.ckpt"
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {tmp_path / 'last.ckpt'} is damaged (")
    assert said.endswith(f"; going on from {tmp_path / 'previous.ckpt'}, the one before\n")
    save(tmp_path, 3)  # the whole one stays until there is another
    assert names(tmp_path) == ["last.ckpt", "last.ckpt.damaged", "previous.ckpt"]
    assert torch.equal(epoch(tmp_path / "previous.ckpt"), torch.zeros(100))


def test_two_damaged_checkpoints_begin_the_stage_anew(tmp_path, capsys):
    save(tmp_path, 1, 2)
    cut(tmp_path / "last.ckpt")
    cut(tmp_path / "previous.ckpt")
    assert latest(tmp_path) is None
    assert capsys.readouterr().err.endswith("the stage begins anew\n")
    assert names(tmp_path) == ["last.ckpt.damaged", "previous.ckpt.damaged"]


def test_a_kill_between_the_renames_leaves_a_whole_one(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "last.ckpt").rename(tmp_path / "previous.ckpt")
    (tmp_path / "last.ckpt.partial").write_bytes(b"half")
    assert latest(tmp_path) == tmp_path / "previous.ckpt"
    assert names(tmp_path) == ["previous.ckpt"]


# training: 2 epochs of 3 steps, of 2, 2 and 1 batches


class Small(lightning.LightningModule):
    """Has what a checkpoint must hold: batch normalisation, and a callback that disturbs a step."""

    def __init__(self, disturb=None, place=None):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
        self.disturb, self.place = disturb, place

    def training_step(self, batch, batch_idx):
        loss = self.net(batch["image"])[:, :1].sub(batch["alpha"]).square().mean()
        self.log("loss", loss)
        if self.place == (self.current_epoch, batch_idx):
            self.disturb(self)
        return loss

    def validation_step(self, batch, batch_idx):
        if self.place == (self.current_epoch, "val"):
            self.disturb(self)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=6)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(folder, minutes, disturb=None, place=None, at_once=2):
    """Train, or go on; returns the weights, the curve, and the trainer."""
    torch.manual_seed(0)
    module = Small(disturb, place)
    sets = [SceneDataset(SyntheticScenes(32, count)) for count in (9, 1)]
    data = MattingDataModule(*sets, None, partial(compose, trimap_kernel=3), batch_size=4, device_batch_size=at_once)
    logger = CurveLogger(folder / "csv")
    trainer = lightning.Trainer(
        max_epochs=2,
        accumulate_grad_batches=4 // at_once,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[WholeCheckpoints()],
        callbacks=[EMAWeightAveraging(decay=0.9, update_every_n_steps=2), SaveLast(folder / "checkpoints", minutes)],
    )
    try:
        trainer.fit(module, data, ckpt_path=latest(folder / "checkpoints"), weights_only=True)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves it ignored
    return module.state_dict(), dict(logger._lines)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), minutes=10)


def test_a_stage_that_was_complete_gives_its_averaged_weights(tmp_path, whole):
    for _ in range(2):
        weights, _ = train(tmp_path, 10)
        assert all(torch.equal(weights[name], value) for name, value in whole[0].items())


def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)


def fail(_):
    raise AimmatError("stopped")


@pytest.mark.parametrize("minutes", [0, 10])
@pytest.mark.parametrize("disturb", [interrupt, fail])
@pytest.mark.parametrize("place", [(0, 1), (0, 2), (0, 4), (0, "val"), (1, 0), (1, 3), (1, 4), (1, "val")])
def test_training_that_was_stopped_ends_as_if_it_had_not_been(tmp_path, whole, minutes, disturb, place):
    with pytest.raises((AimmatError, SystemExit)):
        train(tmp_path, minutes, disturb, place)
    weights, curve = train(tmp_path, minutes)
    assert all(torch.equal(weights[name], value) for name, value in whole[0].items())
    as_read = {step: {name: str(value) for name, value in line.items()} for step, line in curve.items()}
    assert as_read == {step: {name: str(value) for name, value in line.items()} for step, line in whole[1].items()}


def test_an_epoch_goes_on_with_its_last_batch(tmp_path):
    whole = train(tmp_path / "whole", 10, at_once=4)[0]
    with pytest.raises(AimmatError):
        train(tmp_path, 0, fail, (0, 2), at_once=4)
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    weights = train(tmp_path, 0, at_once=4)[0]
    assert all(torch.equal(weights[name], value) for name, value in whole.items())


def test_what_lies_before_a_checkpoint_is_logged_when_it_is_written(tmp_path):
    found = []

    def look(_):
        found.append(torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"])
        found.append((tmp_path / "csv" / "metrics.csv").read_text().splitlines()[-1].split(",")[1])

    train(tmp_path, 0, look, (1, 4))
    assert found == [5, "4"]


@pytest.mark.parametrize(
    ("place", "steps"), [((0, 0), 1), ((0, 1), 1), ((0, 2), 2), ((0, 3), 2), ((0, 4), 3), ((1, 1), 4)]
)
def test_ctrl_c_waits_for_the_end_of_the_step_and_loses_nothing(tmp_path, place, steps):
    with pytest.raises(SystemExit):
        train(tmp_path, 10, interrupt, place)
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == steps


def test_ctrl_c_twice_stops_at_once(tmp_path):
    with pytest.raises(SystemExit):
        train(tmp_path, 10, lambda _: (interrupt(), interrupt()), (1, 3))
    found = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert found["global_step"] == 3  # the end of the first epoch: step 4 is complete, but one was under way


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    train(tmp_path, 0, lambda module: module.net[0].weight.data.fill_(float("nan")), (1, 1))
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
