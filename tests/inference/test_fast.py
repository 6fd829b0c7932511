from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from torch import nn

from aimmat.inference import Hybrid, Predictor, Resize
from aimmat.inference.fast import quick
from aimmat.models import build
from aimmat.models.fast import FastAimNet
from aimmat.schema import AimmatError, Prediction

fill = run_path(str(Path(__file__).parents[2] / "benchmarks" / "parity.py"))["fill"]
PHOTO = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)


class Linear(nn.Module):
    """The matte is a convolution of the picture."""

    stride = 32

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3, padding=1)
        self.dtypes = []

    def forward(self, image):
        matting = self.conv(image)
        self.dtypes.append(matting.dtype)
        return Prediction(None, None, matting.sigmoid())


@pytest.fixture(scope="module")
def net():
    return fill(build("aimnet", width=0.125)).eval()


@pytest.mark.parametrize(
    "strategy", [Hybrid(0.5, 1), Hybrid(1, 1), Hybrid(0.5, 1, fusion="soft"), Hybrid(protocol="release"), Resize(0.5)]
)
def test_a_predictor_gives_the_plain_networks_matte(net, strategy):
    image = torch.from_numpy(PHOTO).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        plain = strategy(net, image)
    found = Predictor(net, strategy, "cpu").predict(image)
    # Other sums of float32; where two classes are equally likely, rounding decides.
    torch.testing.assert_close(found.semantic, plain.semantic, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.matting, plain.matting, rtol=0, atol=1e-4)
    assert ((found.alpha - plain.alpha).abs() > 1e-3).float().mean() < 1e-3


def test_hybrid_asks_each_decoder_for_its_own_size_alone(net):
    predictor = Predictor(net, Hybrid(0.5, 1), "cpu")
    asked = []
    for name in ("semantics", "details"):
        ask = getattr(predictor._quick, name)
        setattr(
            predictor._quick,
            name,
            lambda image, n=name, a=ask: (asked.append((n, tuple(image.shape[2:]))), a(image))[1],
        )
    predictor._quick.forward = None
    assert predictor(PHOTO).shape == (200, 300)
    assert asked == [("semantics", (96, 160)), ("details", (192, 288))]


@pytest.mark.parametrize("size", [(4, 120), (120, 4), (1, 1)])
def test_a_limit_of_memory_changes_no_matte_of_any_shape(net, size):
    image = np.random.default_rng(0).integers(0, 256, (size[0] * 10, size[1] * 10, 3), dtype=np.uint8)
    strategy = Hybrid(1 / 4, 1 / 2)
    alpha, limited = (Predictor(net, strategy, "cpu", max_memory=limit)(image) for limit in (None, 0.1))
    np.testing.assert_allclose(limited, alpha, rtol=0, atol=1e-5)  # a library may order sums by the number of rows


def test_a_very_long_picture_is_predicted_whole(net):
    image = np.random.default_rng(0).integers(0, 256, (400, 12000, 3), dtype=np.uint8)
    assert Predictor(net, device="cpu", max_memory=8)(image).shape == (400, 12000)


def test_bfloat16_is_near(net):
    alpha, half = (Predictor(net, Resize(1), "cpu", dtype)(PHOTO) for dtype in ("float32", "bfloat16"))
    assert 0 < np.abs(alpha - half).mean() < 0.03  # random weights: classes are often nearly equally likely


def test_another_network_is_what_it_was_and_in_bfloat16_by_autocast():
    other = Linear()
    assert quick(other) is other
    half = Predictor(other, Resize(1), "cpu", "bfloat16")
    assert half(PHOTO).shape == (200, 300)
    assert other.dtypes == [torch.bfloat16]
    Predictor(other, Resize(1), "cpu")(PHOTO)
    assert other.dtypes == [torch.bfloat16, torch.float32]


def test_aimnet_has_a_form_of_its_own_and_stays_the_predictors_net(net):
    predictor = Predictor(net, device="cpu")
    assert isinstance(predictor._quick, FastAimNet)
    assert predictor.net is net


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dtype": "float16"}, "dtype must be float32 or bfloat16, got 'float16'"),
        ({"max_memory": 0}, "max_memory must be a number of MiB above 0, got 0"),
        ({"max_memory": "1G"}, "max_memory must be a number of MiB above 0, got '1G'"),
        ({"max_memory": True}, "max_memory must be a number of MiB above 0, got True"),
    ],
)
def test_what_it_cannot_do_is_refused(net, options, sentence):
    with pytest.raises(AimmatError, match=sentence):
        Predictor(net, device="cpu", **options)


def test_a_network_without_bands_takes_no_limit():
    with pytest.raises(AimmatError, match="Linear works on a picture as a whole"):
        Predictor(Linear(), device="cpu", max_memory=100)
