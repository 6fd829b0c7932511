"""Networks that are shown a trimap: how strategies resize it, what they keep of it, and what a Predictor takes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from aimmat.inference import Hybrid, Predictor, Resize
from aimmat.inference.strategies import resize_trimap
from aimmat.schema import AimmatError, Prediction


class Shown(nn.Module):
    """Says 0.3 everywhere and remembers the trimaps that it saw."""

    stride, input_channels = 32, 4

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, image):
        self.seen.append(image[:, 3:])
        matting = torch.full_like(image[:, :1], 0.3)
        return Prediction(None, matting, matting)


def picture(height=96, width=160):
    image = torch.rand(1, 4, height, width, generator=torch.Generator().manual_seed(0))
    image[:, 3] = 0.5
    image[:, 3, :, : width // 4], image[:, 3, :, 3 * width // 4 :] = 0, 1
    return image


@pytest.mark.parametrize("strategy", [Resize(scale=1 / 2), Hybrid(matting_scale=1 / 2), Resize(scale=1)])
def test_outside_the_transition_the_trimap_is_the_answer_at_the_pictures_own_size(strategy):
    image, net = picture(), Shown()
    alpha = strategy(net, image).alpha
    trimap = image[:, 3:]
    torch.testing.assert_close(alpha, torch.where(trimap == 0.5, 0.3, trimap))
    assert len(net.seen) == 1
    assert set(net.seen[0].unique().tolist()) == {0, 0.5, 1}  # no grey in between


def test_a_pixel_is_known_only_where_all_that_it_is_made_of_agree():
    trimap = torch.zeros(1, 1, 64, 64)
    trimap[..., 30, 30] = 0.5  # one pixel of transition
    small = resize_trimap(trimap, (16, 16))
    assert small[0, 0, 7, 7] == 0.5
    assert (small == 0).sum() > 200
    assert torch.equal(resize_trimap(1 - trimap, (16, 16)), 1 - small)
    assert torch.equal(resize_trimap(trimap, (64, 64)), trimap)


def test_a_predictor_takes_a_trimap_as_file_and_as_array(tmp_path):
    trimap = np.zeros((40, 48), np.uint8)
    trimap[10:30, 10:30], trimap[15:20, 15:20] = 128, 255
    Image.fromarray(trimap).save(tmp_path / "trimap.png")
    predictor, image = Predictor(Shown(), Resize(scale=1), "cpu"), np.zeros((40, 48, 3), np.uint8)
    expected = np.where(trimap == 128, 0.3, trimap / 255)
    for given in (
        tmp_path / "trimap.png",
        trimap,
        np.where(trimap == 128, 127, trimap).astype(np.uint8),
        trimap / 256 * (trimap < 255) + (trimap == 255),
    ):
        np.testing.assert_allclose(predictor(image, trimap=given), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("trimap", "error", "message"),
    [
        (None, AimmatError, r"Shown mattes by a trimap and was given none: predictor\(image, trimap=\.\.\.\)"),
        (np.zeros((40, 40), np.uint8), AimmatError, "must have the picture's size, 40 x 48, got 40 x 40"),
        (np.full((40, 48), 77, np.uint8), AimmatError, "must hold 0, 128 and 255 alone as uint8, .* got 77"),
        (np.full((40, 48), 0.3), AimmatError, "or 0, 0.5 and 1, got 0.3"),
        (np.zeros((40, 48), np.int32), ValueError, "must hold uint8 or floating-point numbers, got int32"),
        (torch.zeros(40, 48), TypeError, "must be a path or an array, got Tensor"),
    ],
)
def test_a_wrong_trimap_gets_one_sentence(trimap, error, message):
    predictor = Predictor(Shown(), Resize(scale=1), "cpu")
    with pytest.raises(error, match=message):
        predictor(np.zeros((40, 48, 3), np.uint8), trimap=trimap)


def test_a_network_that_is_shown_none_refuses_one():
    class Plain(Shown):
        input_channels = 3

    with pytest.raises(AimmatError, match="Plain takes no trimap and was given one; leave it out"):
        Predictor(Plain(), Resize(), "cpu")(np.zeros((40, 48, 3), np.uint8), trimap=np.zeros((40, 48), np.uint8))


def test_parts_that_cannot_be_taken_apart_are_seen_in_one_pass():
    class Together(nn.Module):
        stride, input_channels, apart = 32, 3, False

        def forward(self, image):
            calls.append(image.shape)
            logits = torch.zeros(len(image), 3, *image.shape[2:])
            return Prediction(logits, image[:, :1] * 0 + 0.2, image[:, :1] * 0 + 0.7)

    calls = []
    alpha = Hybrid()(Together(), torch.rand(1, 3, 192, 192)).alpha
    assert len(calls) == 1
    torch.testing.assert_close(alpha, torch.full((1, 1, 192, 192), 0.7))  # the network's own fusion
