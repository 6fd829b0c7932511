"""Checkpoints stay whole whatever happens while one is written."""

import errno

import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from aimmat.lit import SaveOnExit, WholeCheckpoints


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    io = WholeCheckpoints()
    io.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")

    def full(self, checkpoint, path, storage_options=None):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        io.save_checkpoint({"epoch": 2}, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


class Stopped:
    """What the callback asks of a trainer."""

    def __init__(self, step):
        self.training, self.validating, self.global_step, self.saved = True, False, step, []

    def save_checkpoint(self, path):
        self.saved.append(path)


@pytest.mark.parametrize(
    ("step", "error", "saved"),
    [(3, KeyboardInterrupt(), 1), (3, ValueError(), 1), (0, KeyboardInterrupt(), 0), (3, OSError(), 0)],
)
def test_what_was_learnt_is_saved_unless_the_disk_is_the_trouble(tmp_path, step, error, saved):
    trainer = Stopped(step)
    SaveOnExit(tmp_path).on_exception(trainer, None, error)
    assert trainer.saved == [tmp_path / "last.ckpt"] * saved
