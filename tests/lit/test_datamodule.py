"""A run that is interrupted goes on with the samples that it would have been shown, and notes what they were."""

from functools import partial

import lightning
import pytest
import torch

from aimmat.data import SceneDataset, SyntheticScenes
from aimmat.data.records import read_records
from aimmat.functional.batches import compose
from aimmat.lit import MattingDataModule
from aimmat.lit.datamodule import RecordSamples

EPOCHS, BATCHES = 3, 4  # of 3, 3, 3 and 1 samples


class Watch(lightning.LightningModule):
    """Keeps what it is shown, and stops where it is told to."""

    def __init__(self, stop=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.stop, self.seen = stop, []

    def training_step(self, batch, batch_idx):
        place = self.current_epoch, batch_idx
        if place == self.stop:
            raise InterruptedError
        self.seen.append((*place, self.global_step, batch["name"], batch["image"].sum().item()))
        return (self.weight * batch["image"]).mean()

    def validation_step(self, batch, batch_idx):
        if (self.current_epoch, "val") == self.stop:
            raise InterruptedError

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveOnError(lightning.Callback):
    def __init__(self, path):
        self.path = path

    def on_exception(self, trainer, pl_module, exception):
        trainer.save_checkpoint(self.path)


def data(workers=0, batch_size=3):
    train, val = (SceneDataset(SyntheticScenes(32, count)) for count in (10, 1))
    return MattingDataModule(
        train, val, None, partial(compose, trimap_kernel=3), batch_size=batch_size, num_workers=workers
    )


def watch(folder, workers=0, stop=None, epochs=EPOCHS, accumulate=1, batch_size=3, **options):
    """Train, or go on, and return what was shown: (epoch, batch, step, names, sum of the pixels)."""
    last = folder / "last.ckpt"
    module = Watch(stop)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"enable_checkpointing": False, "num_sanity_val_steps": 0, "default_root_dir": folder}
    trainer = lightning.Trainer(
        **quiet | options,
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        callbacks=[SaveOnError(last), RecordSamples(folder / "samples.json", {})],
    )
    resumed = {"ckpt_path": str(last), "weights_only": True} if last.exists() else {}
    try:
        trainer.fit(module, data(workers, batch_size), **resumed)
    except InterruptedError:
        return module.seen
    trainer.save_checkpoint(last)
    return module.seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return watch(tmp_path_factory.mktemp("whole"))


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [(0, 3), (1, 0), (1, 2), (1, "val")])
def test_a_run_that_was_stopped_goes_on_where_it_was(whole, tmp_path, stop, workers):
    before, after = watch(tmp_path, workers, stop), watch(tmp_path, workers)
    assert before
    assert after
    assert before + after == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_more_epochs_show_what_a_longer_run_would_have(whole, tmp_path, workers):
    assert watch(tmp_path, workers, epochs=2) + watch(tmp_path, workers) == whole


def test_the_record_finds_the_batches_of_every_step(tmp_path):
    seen = [
        *watch(tmp_path, stop=(1, 2), accumulate=2, batch_size=6),  # of 3, 3 | 3, 1: steps 0 and 1, and step 2
        *watch(tmp_path, accumulate=3, batch_size=6),  # of 2, 2, 2 | 2, 2: goes on with batch 3 of epoch 1
    ]
    first, second = read_records(tmp_path / "samples.json")
    assert (first.step, first.epoch, first.batch, first.accumulate, first.steps) == (0, 0, 0, 2, 2)
    assert (second.step, second.epoch, second.batch, second.accumulate, second.steps) == (3, 1, 3, 3, 2)
    for epoch, batch, step, *_ in seen:
        record = first if step < 3 else second
        assert record.step_of(epoch, batch) == step
        assert record.place(step)[0] == epoch
        assert batch in record.place(step)[1]
    assert first.place(1) == (0, range(2, 4))
    assert second.place(3) == (1, range(3, 5))
    assert second.place(5) == (2, range(3, 5))


@pytest.mark.parametrize("stop", [(1, 1), (1, 2), (1, 3), (1, "val")])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_run_goes_on_with_the_step_it_was_in_whatever_makes_up_a_step(tmp_path, stop, accumulate):
    def samples(seen):
        steps = {}
        for _, _, step, names, _ in seen:
            steps[step] = [*steps.get(step, []), *names]
        return steps

    before = samples(watch(tmp_path, stop=stop, accumulate=2, batch_size=6))
    after = samples(watch(tmp_path, accumulate=accumulate, batch_size=6))
    assert min(after) == (4 if stop[1] == "val" else 2 + stop[1] // 2)
    whole = samples(watch(tmp_path / "whole", batch_size=6))
    assert before | after == whole


@pytest.mark.filterwarnings("ignore:.*overfit")
def test_learning_by_heart_shows_the_same_samples_in_every_epoch(whole, tmp_path):
    seen = watch(tmp_path, overfit_batches=2)
    assert [place for *place, _, _, _ in seen] == [[epoch, batch] for epoch in range(EPOCHS) for batch in range(2)]
    assert [batch[3:] for batch in seen] == [batch[3:] for batch in whole[:2]] * EPOCHS
    assert not (tmp_path / "samples.json").exists()
