"""Mattes become files."""

import pytest
import torch

from aimmat.images import read_alpha
from aimmat.lit.callbacks import WriteMattes
from aimmat.schema import Prediction


@pytest.mark.parametrize(("protocol", "level"), [("paper", 128), ("release", 127)])
def test_every_matte_of_the_test_is_written_by_the_protocol(tmp_path, protocol, level):
    alpha = torch.tensor([0.5, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 6)  # 0.5 is level 127.5
    outputs = {"prediction": Prediction(None, None, alpha)}
    WriteMattes(tmp_path / "mattes", protocol).on_test_batch_end(None, None, outputs, {"name": ["half", "all"]}, 0)
    for name, expected in (("half", level), ("all", 255)):
        written = read_alpha(tmp_path / "mattes" / f"{name}.png")
        assert written.shape == (4, 6)
        assert (written == expected).all()
