"""DIM: its size, its switches, its trimap, and the public code's figures."""

import json
from pathlib import Path
from runpy import run_path

import pytest
import torch

from aimmat.models import DIM, build, count_macs, count_parameters
from aimmat.schema import AimmatError

ROOT = Path(__file__).parents[2]
METHODS = run_path(str(ROOT / "benchmarks" / "methods.py"), run_name="methods")
# python benchmarks/methods.py dim CHECKOUT --write tests/golden/dim.json
GOLDEN = json.loads((ROOT / "tests" / "golden" / "dim.json").read_text())


# Counted on the public code, its multiply-accumulates with hooks on its convolutions; mmagic's by arithmetic.
@pytest.mark.parametrize(
    ("switches", "parameters", "tensors"),
    [
        ({}, 28_297_153, 42),
        ({"skip": True}, 28_297_153, 42),
        ({"refiner": True}, 28_373_954, 50),
        ({"kernel": 1}, 26_200_001, 42),
        ({"kernel": 1, "refiner": True}, 26_276_802, 50),
    ],
)
def test_its_size_is_that_of_the_public_networks(switches, parameters, tensors):
    with torch.device("meta"):
        net = DIM(**switches)
    assert count_parameters(net) == parameters
    assert len(net.state_dict()) == tensors


def test_its_multiply_accumulates_are_those_of_the_public_code():
    with torch.device("meta"):
        nets = DIM(), DIM(refiner=True)
    assert [round(count_macs(net, 320) / 1e9, 2) for net in nets] == [60.64, 68.49]


@pytest.mark.parametrize("name", METHODS["DIMS"])
def test_its_mattes_are_those_of_the_public_code(name):
    net = METHODS["dim_filled"](name)
    found = METHODS["dim_mattes"](net, METHODS["dim_picture"](64, 96))
    wanted = GOLDEN[f"{name}, float64"]
    difference = torch.tensor(METHODS["sampled"](found)).double() - torch.tensor(wanted).double()
    assert difference.abs().max() <= 1e-5
    assert torch.tensor(wanted).std() > 0.05  # of mattes that are not flat


def test_its_loss_is_that_of_the_public_code():
    image = METHODS["dim_picture"](64, 96)
    for name, value in METHODS["dim_losses"](image[:, 2:3], image).items():
        # Theirs smooths differences of 0 to 255, so at zero it is smaller by up to 1e-6.
        assert value.item() == pytest.approx(GOLDEN[f"loss, {name}"][0], rel=0, abs=1e-6)


def small(**switches):
    torch.manual_seed(0)
    return build("dim", width=0.0625, **switches).eval()


def picture():
    image = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    image[:, 3] = 0.5
    image[:, 3, :20], image[:, 3, 40:] = 0, 1
    return image


@pytest.mark.parametrize("refiner", [False, True])
def test_outside_the_transition_the_trimap_is_the_answer(refiner):
    image = picture()
    with torch.no_grad():
        prediction = small(refiner=refiner)(image)
    assert prediction.semantic is None
    assert (prediction.alpha[..., :20, :] == 0).all()
    assert (prediction.alpha[..., 40:, :] == 1).all()
    assert torch.equal(prediction.alpha[..., 20:40, :], prediction.matting[..., 20:40, :])
    assert 0.3 < prediction.matting.min() < prediction.matting.max() < 0.7  # fresh weights are undecided everywhere
    assert torch.equal(prediction.parts["transition"], (image[:, 3:] == 0.5).float())
    assert ("coarse" in prediction.parts) == refiner


def test_the_skip_changes_the_matte_and_not_the_weights():
    plain, skipping = small(), small(skip=True)
    skipping.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert not torch.equal(plain(picture()).matting, skipping(picture()).matting)


def test_the_refiner_corrects_the_coarse_matte():
    net = small(refiner=True)
    with torch.no_grad():
        net.refiner.head.weight.zero_()
        net.refiner.head.bias.fill_(2.0)
        prediction = net(picture())
    expected = (prediction.parts["coarse"].logit() + 2).sigmoid()
    torch.testing.assert_close(prediction.matting, expected)


def test_its_input_has_the_trimap_that_was_chosen():
    classes = torch.tensor([[0, 1], [2, 2]]).view(1, 1, 2, 2)
    batch = {"image": torch.full((1, 3, 2, 2), 0.2), "trimap": classes, "semantic": torch.ones_like(classes)}
    traditional, unified = (small(trimap=name).inputs(batch) for name in ("traditional", "unified"))
    assert torch.equal(traditional[:, :3], batch["image"])
    assert traditional[0, 3].tolist() == [[0, 0.5], [1, 1]]
    assert unified[0, 3].tolist() == [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"skip": 1}, "dim's switch skip is true or false, got 1"),
        ({"refiner": "no"}, "dim's switch refiner is true or false, got 'no'"),
        ({"trimap": "unimap"}, "dim's trimap is unified or traditional, got 'unimap'"),
        ({"kernel": 7}, "dim's kernel is 1 or 3 pixels wide, got 7"),
        ({"width": 0}, "dim's width is a number above 0 and at most 4, got 0"),
    ],
)
def test_wrong_switches_get_one_sentence(switches, message):
    with pytest.raises(AimmatError, match=message):
        build("dim", **switches)
