"""The formats: how a graph is written into a file and how its runtime runs the file."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimmat.export.graphs import FreeHybrid, Graph
from aimmat.models.onnx import CARD, line
from aimmat.schema import AimmatError
from aimmat.weights.files import Card

OPSET = 20

Run = Callable[[Tensor], list[Tensor]]  # the image to the graph's maps, in their order


class Format(NamedTuple):
    """One format."""

    suffix: str
    packages: tuple[str, ...]  # that write and run it
    extra: str  # of aimmat that brings them
    write: Callable[[Graph, Path, Card], None]
    open: Callable[[Path], Run]
    more: tuple[str, ...] = ()  # suffixes of the files that belong to the first


def write_onnx(graph: Graph, path: Path, card: Card, *, low_pass: bool = True) -> None:
    """Write an ONNX file with the card in its metadata; its dimensions are named batch, height and width.

    Args:
        graph: what is written.
        path: the file.
        card: plain JSON values.
        low_pass: the runtime knows ONNX's resizing with a low-pass; False: it is written as products of matrices.

    Raises:
        AimmatError: torch cannot follow the computation.
    """
    import onnx_ir as ir

    table: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.adaptive_avg_pool2d.default: _grid_means()}
    if not low_pass:
        table[torch.ops.aten._upsample_bilinear2d_aa.default] = _resizing()

    free = {0: torch.export.Dim("batch")}
    if graph.size is None:
        for place, name in ((2, "height"), (3, "width")):
            side = torch.export.Dim(name)
            free[place] = side if graph.multiple == 1 else graph.multiple * side
    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(
                graph.module, (graph.example(),), dynamic_shapes={"image": free}, strict=False
            )
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=["image"],
                output_names=list(graph.names),
                opset_version=OPSET,
                custom_translation_table=table,
                verbose=False,
            )
        except Exception as error:  # the exporter has no common type
            sizes = "pictures of any size" if graph.size is None else "this network"
            raise AimmatError(
                f"torch cannot follow its computation for {sizes} ({line(error)}); export to torchscript"
                + ", or give --size HxW" * (graph.size is None)
            ) from error
        assert exported is not None
        model = exported.model
        height, width = graph.size or ("height", "width")
        for value in (*model.graph.inputs, *model.graph.outputs):
            assert value.shape is not None
            value.shape = ir.Shape(["batch", value.shape[1], height, width])
        model.metadata_props[CARD] = json.dumps(card)
        exported.save(path)


def open_onnx(path: Path) -> Run:
    """Run an ONNX file by ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: [torch.from_numpy(found) for found in session.run(None, {"image": image.numpy()})]


def write_torchscript(graph: Graph, path: Path, card: Card) -> None:
    """Write a TorchScript file with the card among its extra files."""
    module = graph.module
    trace: Callable[..., Any] = torch.jit.trace
    with _quiet(), torch.no_grad():
        if isinstance(module, FreeHybrid):
            side = 2 * module.stride
            image, classes, alpha = (torch.rand(2, channels, side, side) for channels in (graph.channels, 3, 1))
            plain = module.maps, module.fusion
            try:
                module.maps = trace(module.maps, image, check_trace=False)
                module.fusion = trace(module.fusion, (classes, alpha), check_trace=False)
                script = torch.jit.script(module)
            finally:
                module.maps, module.fusion = plain
        else:
            script = trace(module, graph.example(), check_trace=False)
        torch.jit.save(script, str(path), _extra_files={CARD: json.dumps(card).encode()})


def open_torchscript(path: Path) -> Run:
    """Run a TorchScript file."""
    with _quiet():
        script = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(image: Tensor) -> list[Tensor]:
        with _quiet(), torch.inference_mode():
            return list(script(image))

    return run


def write_openvino(graph: Graph, path: Path, card: Card) -> None:
    """Write an OpenVINO model, .xml and .bin, in float32, by way of ONNX."""
    import openvino

    between = path.with_suffix(".onnx")
    write_onnx(graph, between, card, low_pass=False)  # OpenVINO leaves it out without a word
    # Not by openvino.convert_model: it reports each use to its makers.
    model = openvino.Core().read_model(between)
    model.set_rt_info(json.dumps(card), [CARD])
    openvino.save_model(model, path, compress_to_fp16=False)
    del model  # it may hold the file open
    between.unlink()


def open_openvino(path: Path) -> Run:
    """Run an OpenVINO model on the CPU in float32."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = openvino.Core().compile_model(path, "CPU", settings)
    return lambda image: [torch.from_numpy(np.array(found)) for found in model(image.numpy()).values()]


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), "export", write_onnx, open_onnx),
    "torchscript": Format(".pt", (), "", write_torchscript, open_torchscript),
    "openvino": Format(
        ".xml", ("openvino", "onnx", "onnxscript"), "openvino", write_openvino, open_openvino, (".bin",)
    ),
}


def _grid_means() -> Callable[..., Any]:
    """Adaptive average pooling as two products with matrices of means.

    The exporter's own form cannot be run where the sides are free. Cell i of n covers the pixels from floor(i L / n) to
    ceil((i + 1) L / n), which whole numbers tell exactly.
    """
    import onnxscript

    op: Any = onnxscript.opset20

    def means(length: Any, cells: int) -> Any:
        pixel = op.Range(op.Constant(value_int=0), op.Squeeze(length), op.Constant(value_int=1))  # (L,)
        cell = op.Constant(value=_column(cells))  # (n, 1)
        number, one = op.Constant(value_int=cells), op.Constant(value_int=1)
        begun = op.Greater(op.Mul(op.Add(pixel, one), number), op.Mul(cell, length))
        ended = op.GreaterOrEqual(op.Mul(pixel, number), op.Mul(op.Add(cell, one), length))
        inside = op.Cast(op.And(begun, op.Not(ended)), to=1)
        return op.Div(inside, op.ReduceSum(inside, op.Constant(value_ints=[1]), keepdims=1))

    def adaptive_avg_pool2d(self: Any, output_size: Any) -> Any:
        shape = op.Shape(self)
        rows, columns = (
            means(op.Gather(shape, op.Constant(value_ints=[axis])), cells)
            for axis, cells in zip((2, 3), output_size, strict=True)
        )
        return op.MatMul(op.MatMul(rows, self), op.Transpose(columns, perm=[1, 0]))

    return adaptive_avg_pool2d


def _resizing() -> Callable[..., Any]:
    """Bilinear resizing with a low-pass as two products with matrices of weights.

    An output pixel weighs what lies around its centre by a triangle, which is as wide as two of its own pixels, or of
    the input's if those are wider.
    """
    import onnxscript

    op: Any = onnxscript.opset20

    def number(value: float) -> Any:
        return op.Constant(value_float=value)

    def centres(length: Any) -> Any:
        zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
        return op.Add(op.Cast(op.Range(zero, op.Squeeze(length), one), to=1), number(0.5))

    def weights(before: Any, after: Any) -> Any:
        after = op.Constant(value_int=after) if isinstance(after, int) else after
        scale = op.Div(op.Cast(before, to=1), op.Cast(after, to=1))
        there = op.Unsqueeze(op.Mul(centres(after), scale), op.Constant(value_ints=[1]))  # (n, 1)
        distance = op.Div(op.Abs(op.Sub(centres(before), there)), op.Max(scale, number(1.0)))
        triangle = op.Max(op.Sub(number(1.0), distance), number(0.0))
        return op.Div(triangle, op.ReduceSum(triangle, op.Constant(value_ints=[1]), keepdims=1))

    def upsample_bilinear2d_aa(self: Any, output_size: Any, align_corners: bool, *scales: Any) -> Any:
        shape = op.Shape(self)
        rows, columns = (
            weights(op.Gather(shape, op.Constant(value_ints=[axis])), after)
            for axis, after in zip((2, 3), output_size, strict=True)
        )
        return op.MatMul(op.MatMul(rows, self), op.Transpose(columns, perm=[1, 0]))

    return upsample_bilinear2d_aa


def _column(cells: int) -> Any:
    import onnx

    return onnx.numpy_helper.from_array(np.arange(cells)[:, None])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say of themselves: that TorchScript is deprecated, that torchvision is missing, and that
    a shape was compared while it was traced. What could be wrong about the result, the certificate finds.
    """
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
