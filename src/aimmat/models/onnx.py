"""Anybody's network from an ONNX file, measured as ours are; it is run, not trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aimmat.models.layers import Network
from aimmat.schema import AimmatError, Prediction

ACTIVATIONS = ("none", "sigmoid", "stretch")
CARD = "aimmat"  # its key in the metadata of a file that was exported here


def line(error: Exception) -> str:
    """The beginning of what a runtime says, which may be a page."""
    return " ".join(str(error).split())[:160]


def open_session(path: str) -> Any:
    """A session of ONNX Runtime, on a GPU where it has one, with as many threads as torch has.

    Raises:
        AimmatError: ONNX Runtime is not installed, or the file is missing or none that it takes.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise AimmatError("model=onnx needs ONNX Runtime; install it by pip install 'aimmat[onnx]'") from error
    if not Path(path).is_file():
        raise AimmatError(f"there is no ONNX file {path}; give one by path=FILE.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised
    there = onnxruntime.get_available_providers()
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in there]
    try:
        return onnxruntime.InferenceSession(path, options, providers=wanted)
    except Exception as error:  # ONNX Runtime has no common type of its own
        raise AimmatError(f"cannot load {path}: it is no ONNX file that ONNX Runtime takes ({line(error)})") from error


class OnnxNetwork(Network):
    """A matting or saliency network in an ONNX file, run by ONNX Runtime (the extra `onnx`).

    The file has one input (B, 3, H, W), float32; where its H and W are fixed and equal, strategies show it pictures of
    that size, else of multiples of `stride`.

    Args:
        path: the file.
        mean: of each channel, subtracted from RGB in [0, 1].
        std: of each channel, divided by after that; 1/255 makes 0 to 255.
        output: name of the output that is the matte, (B, 1, H, W) or (B, H, W); None takes the first.
        activation: what makes alpha of it: "none", it is in [0, 1] but for rounding; "sigmoid"; or "stretch", which
            maps each picture's least value to 0 and its largest to 1, as U2NET's and IS-Net's own scripts do.
        stride: what sides must be a multiple of, where the file leaves them open.

    Raises:
        AimmatError: ONNX Runtime is not installed, the file is missing, no ONNX file, or of another form.
    """

    trainable = False

    def __init__(
        self,
        *,
        path: str,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        output: str | None = None,
        activation: str = "none",
        stride: int = 32,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise AimmatError(f"onnx's activation is one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        for name, value in {"mean": mean, "std": std}.items():
            if len(value) != 3 or (name == "std" and not all(number > 0 for number in value)):
                raise AimmatError(f"onnx's {name} is three numbers{', above 0' * (name == 'std')}, got {list(value)}")
            self.register_buffer(name, torch.tensor([float(number) for number in value]).view(3, 1, 1), False)
        self.path, self.activation = str(path), activation
        self.session = open_session(self.path)
        if CARD in self.session.get_modelmeta().custom_metadata_map:
            raise AimmatError(
                f"{path} was made by python -m aimmat.export and normalises its input itself; load it by "
                f"aimmat.load({str(path)!r}), or evaluate the weights that it was made from"
            )
        self.input, self.size = _input(self.session, self.path)
        self.stride = self.size or stride
        self.output = _output(self.session, self.path, output)

    def forward(self, image: Tensor) -> Prediction:
        """Run the file's network.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], of the file's own size or multiples of the stride.

        Returns:
            alpha (B, 1, H, W), float32 on the image's device; no semantic and no matting part.

        Raises:
            AimmatError: the network fails on the picture or its output has another form.
        """
        self.check(image)
        pictures = self.normalise(image.float()).cpu().numpy()
        try:
            # One by one: a batch is often fixed to 1 in such files.
            found = [self.session.run([self.output], {self.input: picture[None]})[0] for picture in pictures]
        except Exception as error:  # ONNX Runtime has no common type of its own
            raise AimmatError(f"the network {self.path} cannot run on {tuple(image.shape)}: {line(error)}") from error
        maps = torch.from_numpy(np.stack(found)).float()
        height, width = image.shape[-2:]
        if maps.numel() != len(image) * height * width:
            raise AimmatError(
                f"the output {self.output} of {self.path} is {tuple(found[0].shape)} for a picture of {height} x "
                f"{width}, no matte of that size; set model.output to another of {', '.join(_outputs(self.session))}"
            )
        maps = maps.reshape(len(image), 1, height, width)
        if self.activation == "sigmoid":
            maps = maps.sigmoid()
        elif self.activation == "stretch":
            low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
            maps = (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)
        return Prediction(None, None, maps.clamp(0, 1).to(image.device))


def _input(session: Any, path: str) -> tuple[str, int | None]:
    """Name of the input, and the side of its picture where that is fixed."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4 or (shape[1] not in (3, None) and not isinstance(shape[1], str)):
        forms = ", ".join(f"{found.name} {found.shape}" for found in inputs)
        raise AimmatError(f"the network {path} takes {forms}; one input (B, 3, H, W) is needed")
    height, width = shape[2:]
    if isinstance(height, int) and isinstance(width, int):
        if height != width:
            raise AimmatError(f"the network {path} takes pictures of {height} x {width}; square ones are needed")
        return inputs[0].name, height
    return inputs[0].name, None


def _output(session: Any, path: str, name: str | None) -> str:
    names = _outputs(session)
    if name is not None and name not in names:
        raise AimmatError(f"the network {path} has no output {name}; its outputs are {', '.join(names)}")
    return name or names[0]


def _outputs(session: Any) -> list[str]:
    return [found.name for found in session.get_outputs()]
