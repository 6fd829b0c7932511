"""Parity with the released AimNet, from figures that benchmarks/parity.py took from it; that script compares live."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from aimmat.weights import read_network, save_release

ROOT = Path(__file__).parents[1]
PARITY = runpy.run_path(str(ROOT / "benchmarks" / "parity.py"), run_name="parity")
GROUPS = PARITY["GROUPS"]
# python benchmarks/parity.py AIM_CHECKOUT --write tests/golden/aim_parity.json
GOLDEN = json.loads((ROOT / "tests" / "golden" / "aim_parity.json").read_text())


@pytest.fixture(scope="module")
def ours():
    return PARITY["Ours"]()


def measured(ours, name):
    """What the golden file keeps of a group, of our side."""
    found, keep = GROUPS[name].measure(ours), GROUPS[name].keep
    return {key: torch.tensor(keep(found[key]), dtype=torch.float64) for key in GOLDEN[name]}


def expected(name):
    return {key: torch.tensor(value, dtype=torch.float64) for key, value in GOLDEN[name].items()}


def apart(found, wanted):
    """Differences of each map's mean and at its sampled places, in order of size."""
    return {key: (found[key] - values).abs().sort().values for key, values in wanted.items()}


@pytest.mark.parametrize("channels_last", [False, True])
def test_outputs_in_float64_are_those_of_the_release(ours, channels_last):
    outputs = ours.outputs(PARITY["picture"](96, 160), channels_last)
    found = {key: torch.tensor(PARITY["sampled"](value), dtype=torch.float64) for key, value in outputs.items()}
    for key, difference in apart(found, expected("float64")).items():
        assert difference.max() <= 1e-5, key


@pytest.mark.parametrize("size", ["320 x 320", "256 x 416", "800 x 800"])
def test_outputs_are_those_of_the_release(ours, size):
    for key, difference in apart(measured(ours, size), expected(size)).items():
        # Another processor sums in another order. Where two values of a pooling's window are all but equal, another one
        # wins then, which moves a tenth of a matte by up to 2e-3. Where two classes are all but equally likely, the
        # fused matte turns from one value to another. In float64, above, neither happens.
        assert difference[int(0.8 * len(difference))] <= 1e-5, key
        assert difference[int(0.99 * len(difference))] <= 5e-3, key


def test_photographs_get_the_mattes_of_the_release(ours):
    for key, difference in apart(measured(ours, "photographs"), expected("photographs")).items():
        most = difference[: int(0.99 * len(difference))]  # a class that turns over, as above
        assert most.mean() <= 3e-4, key
        assert most.max() <= 0.02, key


@pytest.mark.parametrize("name", ["losses", "metrics"])
def test_figures_are_those_of_the_release(ours, name):
    found, wanted = measured(ours, name), expected(name)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-15, msg=lambda why, key=key: f"{key}: {why}")


def test_saved_mattes_are_those_of_the_release(ours):
    found, wanted = measured(ours, "saved mattes"), expected("saved mattes")
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_a_training_step_is_that_of_the_release(ours):
    found, wanted = measured(ours, "step, float64"), expected("step, float64")
    for key, (norm, projection) in wanted.items():
        # Biases before batch normalisation have no gradient but rounding: held to that of their layer's weights.
        scale = wanted[key.removesuffix("bias") + "weight"][0] if PARITY["silent"](key) else norm
        assert (found[key][0] - norm).abs() <= 1e-4 * scale, key
        assert (found[key][1] - projection).abs() <= 1e-4 * scale, key


def test_a_checkpoint_in_the_layout_of_the_release_comes_back_bit_for_bit(ours, tmp_path):
    classifier = {"resnet.fc.weight": torch.randn(1000, 512), "resnet.fc.bias": torch.randn(1000)}
    save_release(tmp_path / "theirs.pth", ours.net, classifier)
    content = torch.load(tmp_path / "theirs.pth")["state_dict"]
    assert PARITY["layout"](content) == GOLDEN["checkpoint"]["layout"]
    loaded = read_network(tmp_path / "theirs.pth")
    assert all(torch.equal(value, loaded.net.state_dict()[key]) for key, value in ours.net.state_dict().items())
    save_release(tmp_path / "back.pth", loaded.net, loaded.unused)
    back = torch.load(tmp_path / "back.pth")["state_dict"]
    assert list(back) == list(content)
    assert all(torch.equal(back[key], value) for key, value in content.items())
