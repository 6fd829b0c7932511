"""What a stage will cost is told before it begins, and telling changes nothing."""

import random
import shutil
import time
from functools import partial
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn

from aimmat.data import SceneDataset, SyntheticScenes, read_dataset
from aimmat.data.classes import ClassDataset
from aimmat.functional.batches import compose
from aimmat.lit import ClassesDataModule, ClassifierModule, MattingDataModule, MattingLoss, MattingModule
from aimmat.lit import estimate as estimates
from aimmat.lit.estimate import Estimate, estimate
from aimmat.schema import AimmatError

MAKE_TREE = run_path(str(Path(__file__).parents[1] / "data" / "trees.py"))["make_tree"]
GIB, MIB = 2**30, 2**20

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


class Numbers(torch.utils.data.Dataset):
    """Rows of 16 numbers; a row takes a time to load and draws from everybody's random numbers."""

    def __init__(self, seconds=0.0, bad=()):
        self.seconds, self.bad = seconds, bad

    def __len__(self):
        return 20

    def __getitem__(self, key):
        index = key[1] if isinstance(key, tuple) else key
        if index in self.bad:
            raise AimmatError("numbers.txt is damaged; fetch it again")
        time.sleep(self.seconds)
        draw = np.random.rand() + random.random()  # noqa: NPY002 - the state that all share is the point
        return {"image": torch.full((16,), draw), "name": "numbers"}


class Step(lightning.LightningModule):
    """One layer, statistics and noise; a picture takes a time."""

    def __init__(self, seconds=0.0, optimizer=torch.optim.Adam, fault=None):
        super().__init__()
        self.parts = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout())
        self.seconds, self.optimizer, self.fault = seconds, optimizer, fault

    def training_step(self, batch, batch_idx):
        if self.fault:
            raise self.fault
        time.sleep(self.seconds * len(batch["image"]))
        loss = self.parts(batch["image"]).square().sum()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx): ...

    def configure_optimizers(self):
        return self.optimizer(self.parameters(), 0.01)


class Wide(Step):
    """What a forward pass keeps is known: the input, and the output of the sigmoid."""

    def __init__(self, **options):
        super().__init__(**options)
        self.parts = nn.Sequential(nn.Linear(16, 1000), nn.Sigmoid())

    def training_step(self, batch, batch_idx):
        return self.parts(batch["image"]).sum()


def numbers(dataset=None, batch_size=4, **options):
    return MattingDataModule(dataset or Numbers(), None, None, _as_it_is, batch_size, **options)


def _as_it_is(batch, augment):
    assert augment
    return batch


def trainer(**options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"enable_checkpointing": False, "use_distributed_sampler": False, "limit_val_batches": 0}
    return lightning.Trainer(**quiet | options)


def matting(schedule=None):
    torch.manual_seed(0)
    model, strategy = {"name": "aimnet", "width": 1 / 16}, {"name": "hybrid"}
    return MattingModule(model, strategy, MattingLoss(), partial(torch.optim.Adam, lr=1e-3), schedule)


def scenes(**options):
    train = SceneDataset(SyntheticScenes(64, 6))
    return MattingDataModule(train, None, None, partial(compose, trimap_kernel=9), batch_size=2, **options)


class TestNothingChanges:
    def test_a_run_is_the_same_to_the_bit(self, tmp_path):
        ends = []
        for asked in (False, True):
            lightning.seed_everything(3, verbose=False)
            module, data, training = Step(), numbers(), trainer(max_epochs=2, default_root_dir=tmp_path)
            if asked:
                assert isinstance(estimate(training, module, data, 10, tmp_path), Estimate)
            training.fit(module, data)
            ends.append((torch.cat([tensor.flatten() for tensor in module.state_dict().values()]), random.random()))
        assert torch.equal(ends[0][0], ends[1][0])
        assert ends[0][1] == ends[1][1]

    def test_a_matting_run_is_the_same_to_the_bit(self, tmp_path):
        ends = []
        for asked in (False, True):
            module = matting(partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3))
            data, training = scenes(), trainer(max_steps=2, default_root_dir=tmp_path)
            if asked:
                assert isinstance(estimate(training, module, data, 2, tmp_path), Estimate)
            training.fit(module, data)
            ends.append(torch.cat([tensor.flatten() for tensor in module.state_dict().values()]))
        assert torch.equal(*ends)

    def test_what_was_left_out_is_not_counted_yet(self, tmp_path, capsys):
        data = numbers(Numbers(bad=[0]), on_error="skip")
        assert isinstance(estimate(trainer(), Step(), data, 1, tmp_path), Estimate)
        assert not data.skipped
        assert not capsys.readouterr().err


class TestTime:
    # Sleeps last at least as long as they are told to; on a busy machine they and the rest last longer, so half as long
    # again is let pass.
    def test_a_step_is_its_batches_one_after_the_other(self, tmp_path):
        training = trainer(accumulate_grad_batches=2)
        data = numbers(batch_size=8, device_batch_size=4)
        found = estimate(training, Step(0.02), data, 50, tmp_path)
        assert 8 * 0.02 <= found.seconds < 1.5 * 8 * 0.02
        assert found.steps == 50

    def test_a_long_step_is_told_from_few_pictures(self, tmp_path, monkeypatch):
        slept, sleep = [], time.sleep
        monkeypatch.setattr(time, "sleep", lambda seconds: (slept.append(seconds), sleep(seconds)))
        found = estimate(trainer(), Step(0.1), numbers(batch_size=20), 50, tmp_path)
        assert sum(slept) < 20 * 0.1  # less than one such step
        assert 20 * 0.1 <= found.seconds < 1.5 * 20 * 0.1

    def test_loading_counts_where_nobody_does_it_beside(self, tmp_path):
        found = estimate(trainer(), Step(0.01), numbers(Numbers(0.02)), 1, tmp_path)
        assert 4 * 0.03 <= found.seconds < 1.5 * 4 * 0.03
        assert 4 * 0.02 <= found.waiting < 1.5 * 4 * 0.02

    @pytest.mark.parametrize(
        ("compute", "load", "workers", "seconds"),
        [
            (1.0, 2.0, 0, 3.0),  # one after the other
            (1.0, 0.5, 1, 1.0),  # beside it
            (1.0, 3.0, 2, 1.5),  # two workers share it
            (1.0, 12.0, 8, 3.25),  # four cores do 13 seconds of work
        ],
    )
    def test_loading_beside_a_step_shares_the_cores(self, monkeypatch, compute, load, workers, seconds):
        monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4), raising=False)
        assert estimates._together(compute, load, workers, torch.device("cpu"), devices=1) == seconds

    def test_the_devices_of_a_machine_share_its_cores(self, monkeypatch):
        monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4), raising=False)
        assert estimates._together(1.0, 3.0, 2, torch.device("cpu"), devices=2) == 2.0


class TestMemoryAndDisk:
    WEIGHTS = 17 * 1000 * 4  # bytes of the layer
    PICTURES = 4 * (16 + 1000) * 4  # of four rows of the input and four of the output

    @pytest.mark.parametrize(
        ("optimizer", "copies", "counters"),
        [
            (torch.optim.Adam, 2, 2),  # two moments, and a step count for each of two parameters
            (partial(torch.optim.SGD, momentum=0.9), 1, 0),
            (torch.optim.SGD, 0, 0),
        ],
    )
    @pytest.mark.parametrize("average", [False, True])
    def test_every_byte_is_counted(self, tmp_path, optimizer, copies, counters, average):
        training = trainer(callbacks=[EMAWeightAveraging()] * average)
        found = estimate(training, Wide(optimizer=optimizer), numbers(batch_size=8, device_batch_size=4), 1, tmp_path)
        assert found.pictures == self.PICTURES
        assert found.memory == (2 + copies + average) * self.WEIGHTS + 4 * counters + self.PICTURES
        assert found.disk == 3 * ((1 + copies + average) * self.WEIGHTS + 4 * counters) + self.WEIGHTS

    def test_a_checkpoint_is_as_large_as_told(self, tmp_path):
        module, training = matting(), trainer(max_steps=1, callbacks=[EMAWeightAveraging()], default_root_dir=tmp_path)
        data = scenes()
        found = estimate(training, module, data, 1, tmp_path)
        training.fit(module, data)
        training.save_checkpoint(tmp_path / "last.ckpt")
        size, weights = (tmp_path / "last.ckpt").stat().st_size, 4 * sum(p.numel() for p in module.parameters())
        # 0.88 measured: names and alignment take a share of a narrow network's file, 0.9 MB, that a wide one's do not
        assert found.disk == pytest.approx(3 * size + weights, rel=0.15)

    def test_mixed_precision_keeps_less(self, tmp_path):
        full, half = (
            estimate(trainer(precision=precision), matting(), scenes(), 1, tmp_path).pictures
            for precision in ("32-true", "bf16-mixed")
        )
        assert 0.4 * full < half < 0.9 * full  # maps are halved, losses and targets are not

    def test_a_batch_too_large_is_told_with_one_that_fits(self, tmp_path, monkeypatch):
        room = 4 * self.WEIGHTS + 8 + self.PICTURES // 4 * 3  # for three pictures
        monkeypatch.setattr(estimates, "_memory", lambda device: room)
        found = estimate(trainer(), Wide(), numbers(batch_size=12), 1, tmp_path)
        (warning,) = found.warnings
        assert warning.startswith("12 pictures at once will hardly fit the memory of this machine")
        assert "set data.device_batch_size=3 " in warning
        fitting = numbers(batch_size=12, device_batch_size=3)
        assert not estimate(trainer(accumulate_grad_batches=4), Wide(), fitting, 1, tmp_path).warnings

    def test_a_batch_that_the_device_refuses_is_told(self, tmp_path, monkeypatch):
        class Small(Wide):
            def training_step(self, batch, batch_idx):
                if len(batch["image"]) > 2:
                    raise torch.OutOfMemoryError
                return super().training_step(batch, batch_idx)

        found = estimate(trainer(), Small(), numbers(), 1, tmp_path)
        assert found.pictures == self.PICTURES
        (warning,) = found.warnings
        assert warning.endswith("set data.device_batch_size=3 or less")

    def test_a_network_too_large_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setattr(estimates, "_memory", lambda device: 1000)
        (warning,) = estimate(trainer(), Wide(), numbers(), 1, tmp_path).warnings
        assert warning.endswith("take smaller ones or a narrower network")

    def test_a_full_disk_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=folder.exists() * 1000))
        found = estimate(trainer(), Wide(), numbers(), 1, tmp_path / "not" / "yet")
        assert found.disk_free == 1000
        (warning,) = found.warnings
        assert "0.00095 MiB are free; make room" in warning


class TestFaults:
    def test_a_bad_sample_ends_as_in_training(self, tmp_path):
        with pytest.raises(AimmatError, match="is damaged"):
            estimate(trainer(), Step(), numbers(Numbers(bad=[0])), 1, tmp_path)

    def test_what_a_user_can_mend_is_said(self, tmp_path):
        with pytest.raises(AimmatError, match="protocol"):
            estimate(trainer(), Step(fault=AimmatError("another protocol")), numbers(), 1, tmp_path)

    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_a_device_too_small_is_told(self, tmp_path, batch_size):
        told = estimate(
            trainer(), Step(fault=torch.OutOfMemoryError("no room")), numbers(batch_size=batch_size), 1, tmp_path
        )
        several = "one picture does" if batch_size == 1 else "2 pictures at once do"
        assert told.startswith(f"no estimate: {several} not fit the memory of this machine; ")

    def test_another_fault_is_left_to_training(self, tmp_path):
        told = estimate(trainer(), Step(fault=ValueError("wrong\nshape")), numbers(), 1, tmp_path)
        assert told == "no estimate: trying a step ended in ValueError: wrong"


def test_a_classifier_is_estimated_as_well(tmp_path):
    entries = read_dataset("imagenet", MAKE_TREE("imagenet", tmp_path, {"train": 4, "val": 4}))
    train, val = (ClassDataset(entries, split, size=32, augment=True) for split in ("train", "val"))
    module = ClassifierModule({"name": "aimnet", "width": 1 / 16}, partial(torch.optim.SGD, lr=0.1, momentum=0.9))
    found = estimate(trainer(), module, ClassesDataModule(train, val, batch_size=4), 7, tmp_path)
    weights = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    learnt = sum(tensor.nbytes for tensor in module.parameters())
    assert found.disk == 4 * (weights + learnt) + weights  # with validation there is a best one
    assert found.memory == weights + 2 * learnt + found.pictures


def test_the_console_is_told_in_one_line_and_a_line_for_each_warning():
    found = Estimate(346, 0.7, 0.0, 1300 * MIB, 600 * MIB, 24 * GIB, 210 * MIB, 40 * GIB, ("mend it",))
    assert str(found).splitlines() == [
        "about 4 min for 346 steps of 0.7 s without validation; memory 1.3 GiB of 24 GiB, 600 MiB of it for pictures; "
        "disk 210 MiB of 40 GiB free",
        "warning: mend it",
    ]
    waiting = Estimate(100000, 1.5, 0.6, GIB, MIB, GIB, MIB, GIB)
    assert str(waiting).startswith("about 1.7 days for 100,000 steps of 1.5 s, 0.6 s of it waiting for data, without")
