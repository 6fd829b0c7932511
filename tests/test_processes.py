"""Training over several processes: each its own samples, and the epoch's composites are those of one process."""

import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import lightning
import pytest
import torch
from hydra.utils import instantiate

from aimmat.data.records import RECORD, read_records
from aimmat.lit.datamodule import RecordSamples
from aimmat.prepare.replay import replay_sample, replay_step

EPOCHS, LENGTH, BATCH = 2, 19, 8  # two processes: 2 steps of 4 + 4 samples, then one of 2 + 1
WORKERS = (0, 2)
DATA = {
    "_target_": "aimmat.lit.MattingDataModule",
    "val": None,
    "test": None,
    "batch_size": BATCH,
    "num_workers": 0,
    "seed": 5,
    "compose": {"_target_": "aimmat.functional.batches.compose", "_partial_": True, "trimap_kernel": 5},
    "train": {
        "_target_": "aimmat.data.SceneDataset",
        "seed": 5,
        "crop_sizes": [40, 48],
        "input_size": 32,
        "geometric": {"_target_": "aimmat.data.geometric"},
        "photometric": {"_target_": "aimmat.data.photometric"},
        "source": {"_target_": "aimmat.data.SyntheticScenes", "size": 48, "length": LENGTH},
    },
}


class Watch(lightning.LightningModule):
    """Learns nothing to speak of and keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch))
        return (self.weight * batch["image"]).mean()

    def validation_step(self, batch, batch_idx):
        pass  # asked for by Lightning, which sees a method for loaders of validation

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def watch(folder, data, devices=1):
    """Train and return what this process was shown: (epoch, batch number, batch)."""
    module = Watch()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"limit_val_batches": 0, "enable_checkpointing": False, "use_distributed_sampler": False}
    trainer = lightning.Trainer(
        **quiet,
        max_epochs=EPOCHS,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        default_root_dir=folder,
        callbacks=[RecordSamples(folder / "matting" / RECORD, data)],
    )
    trainer.fit(module, instantiate(data))
    return module.seen, trainer.global_rank


def samples(batches):
    """Every sample with all that the network sees of it, to be compared to the bit."""
    tensors = ("image", "alpha", "trimap", "semantic", "foreground", "background", "type", "category")
    return Counter(
        (name, *(batch[key][i].numpy().tobytes() for key in tensors))
        for batch in batches
        for i, name in enumerate(batch["name"])
    )


def steps(seen):
    """Samples by (epoch, batch number)."""
    found = {}
    for epoch, number, batch in seen:
        found[epoch, number] = found.get((epoch, number), Counter()) + samples([batch])
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process is shown."""
    seen, _ = watch(tmp_path_factory.mktemp("one"), DATA)
    return steps(seen)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What two processes left, each by itself a run of this file: their folder."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    call = [sys.executable, str(Path(__file__)), str(folder)]
    ranks = [environment | {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"} for rank in (0, 1)]
    running = [subprocess.Popen(call, env=own, stderr=subprocess.PIPE, text=True) for own in ranks]
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    return folder


@pytest.fixture(params=WORKERS, ids=lambda workers: f"{workers} workers")
def pair(request, processes):
    """What each of two processes was shown, and the folder of their run."""
    folder = processes / str(request.param)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)], folder


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec")
class TestTwoProcesses:
    def test_each_step_has_the_samples_of_one_process_to_the_bit(self, alone, pair):
        both = steps(pair[0][0] + pair[0][1])
        assert both == alone
        assert [step.total() for step in both.values()] == [8, 8, 3] * EPOCHS

    def test_no_sample_comes_twice_in_an_epoch_and_none_is_lost(self, pair):
        parts = [samples(batch for _, _, batch in seen) for seen in pair[0]]
        assert not parts[0] & parts[1]
        assert sorted(part.total() for part in parts) == [9 * EPOCHS, 10 * EPOCHS]
        assert set((parts[0] + parts[1]).values()) == {1}

    def test_a_step_of_both_can_be_replayed(self, pair):
        seen, folder = pair
        (record,) = read_records(folder / "matting" / RECORD)
        assert (record.processes, record.batches) == (2, 3)
        for step in range(3 * EPOCHS):
            place = divmod(step, 3)
            found = replay_step(folder, step)
            assert [batch.recipes[0]["process"] for batch in found] == [0, 1]
            for batch, shown in zip(found, seen, strict=True):
                (expected,) = (batch for *at, batch in shown if tuple(at) == place)
                assert batch.batch["name"] == expected["name"]
                assert samples([batch.batch]) == samples([expected])
        recipe = found[1].recipes[0]
        (again,) = replay_sample(folder, recipe["epoch"], recipe["index"])
        assert again.recipes == [recipe]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec")
def test_loader_workers_change_nothing(alone, tmp_path):
    seen, _ = watch(tmp_path, DATA | {"num_workers": 2})
    assert steps(seen) == alone


def test_opencv_has_no_threads_that_a_fork_would_lose(processes):
    # A worker that is forked while OpenCV's pool is busy waits for its lock for ever: of 2,000 forks right after a
    # parallel call 3 hung, of 2,000 without the pool none.
    assert (processes / "threads").read_text() == "1"


if __name__ == "__main__":
    output = Path(sys.argv[1])
    (output / "threads").write_text(str(cv2.getNumThreads()))
    for workers in WORKERS:
        seen, rank = watch(output / str(workers), DATA | {"num_workers": workers}, devices=2)
        (output / str(workers)).mkdir(exist_ok=True)
        torch.save(seen, output / str(workers) / f"{rank}.pt")
