"""Checkpoints stay whole whatever happens while one is written; mattes become files."""

import errno

import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from aimmat.images import read_alpha
from aimmat.lit import SaveOnExit, WholeCheckpoints
from aimmat.lit.callbacks import WriteMattes
from aimmat.schema import Prediction


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


@pytest.mark.parametrize(("protocol", "level"), [("paper", 128), ("release", 127)])
def test_every_matte_of_the_test_is_written_by_the_protocol(tmp_path, protocol, level):
    alpha = torch.tensor([0.5, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 6)  # 0.5 is level 127.5
    outputs = {"prediction": Prediction(None, None, alpha)}
    WriteMattes(tmp_path / "mattes", protocol).on_test_batch_end(None, None, outputs, {"name": ["half", "all"]}, 0)
    for name, expected in (("half", level), ("all", 255)):
        written = read_alpha(tmp_path / "mattes" / f"{name}.png")
        assert written.shape == (4, 6)
        assert (written == expected).all()
