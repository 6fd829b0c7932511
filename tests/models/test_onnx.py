"""A network in an ONNX file is measured as ours are: what goes in, what comes out, and what is refused."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from aimmat.inference import Hybrid, Resize
from aimmat.models import build
from aimmat.schema import AimmatError

PICTURE = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def onnx_file(path, sides=("h", "w"), channels=3, outputs=("other", "matte")):
    """Outputs: the first channel of what the network is given, and minus it."""
    kernel = np.zeros((1, channels, 1, 1), np.float32)
    kernel[0, 0] = 1
    nodes = [
        helper.make_node("Conv", ["picture", "kernel"], [outputs[1]]),
        helper.make_node("Neg", [outputs[1]], [outputs[0]]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 1, *sides)) for name in outputs]
    given = [helper.make_tensor_value_info("picture", TensorProto.FLOAT, (1, channels, *sides))]
    graph = helper.make_graph(nodes, "red", given, values, [numpy_helper.from_array(kernel, "kernel")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return str(path)


def test_a_batch_is_normalised_as_the_file_expects_it(tmp_path):
    net = build("onnx", path=onnx_file(tmp_path / "red.onnx"), output="matte", mean=(0.25, 0, 0), std=(0.5, 1, 1))
    with torch.no_grad():
        alpha = net(PICTURE).alpha
    torch.testing.assert_close(alpha, ((PICTURE[:, :1] - 0.25) / 0.5).clamp(0, 1))


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("none", lambda red: (-red).clamp(0, 1)),
        ("sigmoid", lambda red: (-red).sigmoid()),
        (
            "stretch",
            lambda red: 1 - (red - red.amin((1, 2, 3), True)) / (red.amax((1, 2, 3), True) - red.amin((1, 2, 3), True)),
        ),
    ],
)
def test_the_first_output_becomes_alpha_by_the_activation(tmp_path, activation, expected):
    net = build("onnx", path=onnx_file(tmp_path / "red.onnx"), activation=activation, mean=(0, 0, 0), std=(1, 1, 1))
    torch.testing.assert_close(net(PICTURE).alpha, expected(PICTURE[:, :1]))


def test_a_constant_map_is_not_stretched_to_numbers_that_are_none(tmp_path):
    net = build("onnx", path=onnx_file(tmp_path / "red.onnx"), activation="stretch")
    assert torch.equal(net(torch.zeros(1, 3, 32, 32)).alpha, torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize("strategy", [Hybrid(), Resize()])
def test_a_file_of_one_size_is_shown_pictures_of_that_size(tmp_path, strategy):
    net = build("onnx", path=onnx_file(tmp_path / "red.onnx", (48, 48)), output="matte", mean=(0, 0, 0), std=(1, 1, 1))
    assert (net.size, net.stride) == (48, 48)
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 6), (200, 300), mode="bicubic").clamp(0, 1)
    alpha = strategy(net, picture).alpha
    assert alpha.shape == (1, 1, 200, 300)
    assert (alpha - picture[:, :1]).abs().mean() < 0.02  # what shrinking and stretching a smooth map costs


def test_what_cannot_be_run_is_named(tmp_path):
    good = onnx_file(tmp_path / "red.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    for given, message in (
        ({"path": str(tmp_path / "missing.onnx")}, "there is no ONNX file"),
        ({"path": str(tmp_path / "text.onnx")}, "it is no ONNX file that ONNX Runtime takes"),
        ({"path": onnx_file(tmp_path / "wide.onnx", (48, 64))}, "takes pictures of 48 x 64; square ones are needed"),
        ({"path": onnx_file(tmp_path / "four.onnx", channels=4)}, r"one input \(B, 3, H, W\) is needed"),
        ({"path": good, "output": "mate"}, "has no output mate; its outputs are other, matte"),
        ({"path": good, "activation": "softmax"}, "activation is one of none, sigmoid, stretch, got 'softmax'"),
        ({"path": good, "std": (1, 1)}, "std is three numbers, above 0, got"),
    ):
        with pytest.raises(AimmatError, match=message):
            build("onnx", **given)
