import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from aimmat.inference import Predictor, Resize
from aimmat.schema import AimmatError, Prediction

RGB = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
GREY = RGB[..., 0]


class Red(nn.Module):
    """The matte is the red channel, so that a picture's way to the network can be read off."""

    stride = 32

    def forward(self, image):
        assert not self.training
        return Prediction(None, None, image[:, :1])


@pytest.fixture(scope="module")
def red():
    return Predictor(Red(), Resize(scale=1), device="cpu")


def test_every_form_of_one_picture_gives_one_matte(red, tmp_path):
    Image.fromarray(RGB).save(tmp_path / "picture.png")
    chw = RGB.transpose(2, 0, 1).copy()
    readonly = RGB.copy()
    readonly.flags.writeable = False
    for image in (
        tmp_path / "picture.png",
        str(tmp_path / "picture.png"),
        Image.fromarray(RGB),
        RGB,
        readonly,
        RGB / 255,
        (RGB / 255).astype(np.float32),
        RGB.astype(np.uint16) * 257,
        np.dstack([RGB, GREY]),
        torch.from_numpy(chw),
        torch.from_numpy(chw)[None] / 255,
    ):
        matte = red(image)
        assert matte.dtype == np.float32
        np.testing.assert_allclose(matte, GREY / 255, rtol=0, atol=1e-7)  # one float32 rounding


def test_grey_pictures_fill_every_channel(red):
    for image in (GREY, Image.fromarray(GREY), Image.fromarray(GREY.astype(np.uint16) * 257)):
        np.testing.assert_allclose(red(image), GREY / 255, rtol=0, atol=1e-7)


def test_a_turned_photograph_gives_a_turned_matte(red, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter clockwise
    Image.fromarray(RGB).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_allclose(red(tmp_path / "turned.png"), np.rot90(GREY, -1) / 255, rtol=0, atol=1e-7)


def test_the_matte_has_the_size_of_the_picture_whatever_that_is():
    predictor = Predictor(Red())
    for size in [(1, 1), (5, 200), (333, 77)]:
        matte = predictor(np.full((*size, 3), 255, dtype=np.uint8))
        np.testing.assert_allclose(matte, np.ones(size), rtol=0, atol=1e-6)  # the resizing's weights round


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("none.png", AimmatError, "cannot read none.png: no such file"),
        (RGB.transpose(2, 0, 1), ValueError, "got (3, 32, 64); one that is (3, H, W) becomes so with"),
        (RGB[:0], ValueError, "with at least one pixel, got (0, 64, 3)"),
        (RGB[None], ValueError, "got (1, 32, 64, 3)"),
        (RGB.astype(np.float32), ValueError, "must lie in [0, 1], got 0 to 255; divide 0..255 by 255"),
        (RGB / 255 - 0.5, ValueError, "must lie in [0, 1], got -0.5 to 0.5"),
        (np.full((4, 4), np.nan), ValueError, "must lie in [0, 1], got nan to nan"),
        (RGB.astype(np.int64), ValueError, "got torch.int64"),
        (torch.zeros(2, 3, 4, 4), ValueError, "got (2, 3, 4, 4); predict the pictures of a batch one by one"),
        (torch.zeros(4, 4, 3), ValueError, "got (4, 4, 3)"),
        (torch.zeros(3, 0, 4), ValueError, "got (3, 0, 4)"),
        ([[0.5]], TypeError, "image must be a path, a Pillow image, an array or a tensor, got list"),
    ],
)
def test_wrong_pictures_get_one_sentence(red, image, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        red(image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(AimmatError, match=f"cannot compute on the device '{device}'") as caught:
        Predictor(Red(), device=device)
    assert "\n" not in str(caught.value)


def test_prediction_needs_neither_hydra_nor_lightning_nor_wandb():
    code = """
import sys
import numpy as np
import aimmat
matte = aimmat.Predictor(aimmat.build("aimnet", width=0.125), device="cpu")(np.zeros((40, 50, 3), np.uint8))
assert matte.shape == (40, 50)
assert 0 <= matte.min() <= matte.max() <= 1
heavy = {"hydra", "omegaconf", "lightning", "pytorch_lightning", "torchmetrics", "wandb", "albumentations"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
