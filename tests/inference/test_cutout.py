"""Cut-outs: colours and alpha in one picture, and the foreground on other backgrounds."""

import typing

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from aimmat.inference import Predictor, Resize
from aimmat.inference.cutout import Foreground, cut_out, foreground_colours, lay_on
from aimmat.predict import _parser
from aimmat.schema import AimmatError, Prediction

COLOURS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
RED = COLOURS[..., 0]


class Shown(nn.Module):
    """The matte is the trimap that comes as the fourth channel."""

    stride, input_channels = 8, 4

    def forward(self, image):
        return Prediction(None, None, image[:, 3:])


class Red(nn.Module):
    stride = 8

    def forward(self, image):
        return Prediction(None, None, image[:, :1])


@pytest.fixture(scope="module")
def red():
    return Predictor(Red(), Resize(scale=1), device="cpu")


def test_a_predictor_cuts_out_any_form_of_a_picture_ready_to_be_saved(red, tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    expected = np.dstack([COLOURS * (RED[..., None] > 0), RED])
    for picture in (tmp_path / "a.png", Image.fromarray(COLOURS), COLOURS, torch.from_numpy(COLOURS).permute(2, 0, 1)):
        cutout = red.cutout(picture, fg="none")
        assert cutout.dtype == np.uint8
        assert (cutout == expected).all()
    Image.fromarray(cutout).save(tmp_path / "cutout.png")


def test_a_trimap_goes_to_the_network(red):
    trimap = np.repeat(np.array([0, 128, 255], np.uint8), 8)[None].repeat(24, 0)
    predictor = Predictor(Shown(), Resize(scale=1), device="cpu")
    assert (predictor.cutout(COLOURS[:, :24], trimap, fg="none")[..., 3] == trimap).all()


@pytest.mark.parametrize("fg", ["ml", "blend"])
def test_clean_colours_are_nearer_to_the_foreground_s_than_the_picture_s_own(fg):
    red, blue = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])
    alpha = (torch.arange(64.0) / 16 - 1.5).clamp(0, 1).expand(1, 1, 64, 64).clone()  # an edge of 16 pixels
    image = alpha * red.view(1, 3, 1, 1) + (1 - alpha) * blue.view(1, 3, 1, 1)
    clean = foreground_colours(image, alpha, fg)
    edge = (alpha > 0.3) & (alpha < 0.7)
    halo = ((image - red.view(1, 3, 1, 1)).abs() * edge).mean()
    assert ((clean - red.view(1, 3, 1, 1)).abs() * edge).mean() < halo / 5


def test_the_picture_s_own_colours_are_returned_as_they_are():
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert foreground_colours(image, torch.rand(1, 1, 4, 4), "none") is image


def test_an_unknown_way_to_the_colours_is_refused_with_those_that_there_are(red):
    with pytest.raises(AimmatError, match="fg must be ml, blend or none, got 'closed form'"):
        red.cutout(COLOURS, fg="closed form")


def test_the_command_offers_every_way_to_the_colours():
    (option,) = [action for action in _parser()._actions if action.dest == "fg"]
    assert option.choices == typing.get_args(Foreground)


def test_nothing_of_the_picture_is_left_where_alpha_rounds_to_zero():
    alpha = np.array([[0.0, 0.49 / 255, 0.51 / 255, 1.0]])
    result = cut_out(np.full((1, 4, 3), 200, np.uint8), alpha)
    assert result[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [200, 200, 200, 1], [200, 200, 200, 255]]


def test_a_cut_out_laid_on_by_its_own_channels_is_what_lay_on_gives():
    alpha = np.random.default_rng(1).random((24, 40))
    background = np.random.default_rng(2).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    rgba = Image.fromarray(cut_out(COLOURS, alpha))
    composite = np.asarray(Image.alpha_composite(Image.fromarray(background).convert("RGBA"), rgba))[..., :3]
    # Pillow's alpha has 256 levels, half a level off at most, which moves a colour by half a level, and rounds again
    assert np.abs(composite.astype(int) - lay_on(background, COLOURS, alpha)).max() <= 1


def test_premultiplied_is_the_cut_out_on_black():
    alpha = np.random.default_rng(1).random((24, 40))
    assert (cut_out(COLOURS, alpha, premultiplied=True)[..., :3] == lay_on(np.zeros(3, np.uint8), COLOURS, alpha)).all()
