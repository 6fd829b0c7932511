"""From a picture in any form to its alpha matte as an array."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from aimmat.images import read_alpha, read_image, to_rgb
from aimmat.inference.cutout import Foreground, cut_out, foreground_colours
from aimmat.inference.fast import quick
from aimmat.inference.strategies import Hybrid, Strategy
from aimmat.schema import AimmatError, Prediction

Picture = str | PathLike[str] | Image.Image | np.ndarray | Tensor


class Predictor:
    """A network and a strategy, ready to predict; the network is put into evaluation mode on the device.

    Args:
        net: a network that gives a schema.Prediction and states its `stride`.
        strategy: strategy(net, image) -> Prediction at the image's own size; None takes Hybrid().
        device: "auto" takes CUDA where there is one, else the CPU; or any name that torch knows.
        dtype, max_memory: how the network computes, see `inference.fast.quick`.

    Raises:
        AimmatError: the device does not exist here; `quick` refuses what it is given.
    """

    def __init__(
        self,
        net: nn.Module,
        strategy: Strategy | None = None,
        device: str | torch.device = "auto",
        dtype: str = "float32",
        max_memory: float | None = None,
    ) -> None:
        self.device = _device(device)
        self.net = net.to(self.device).eval()
        self.strategy = Hybrid() if strategy is None else strategy
        self._quick = quick(self.net, dtype, max_memory)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Prediction:
        """What the network says of a batch, by the strategy.

        Args:
            images: (B, 3, H, W) in [0, 1]; of a network that is shown a trimap (B, 4, H, W), the fourth that of 0, 0.5
                and 1.

        Returns:
            The prediction on the device, every map (B, *, H, W).
        """
        return self.strategy(self._quick, images.to(self.device))

    @torch.inference_mode()
    def __call__(self, image: Picture, trimap: str | PathLike[str] | np.ndarray | None = None) -> np.ndarray:
        """Predict the alpha matte of one picture.

        Args:
            image: one of
                a path or a Pillow image of any mode, turned the way its EXIF orientation says;
                an array (H, W), (H, W, 3) or (H, W, 4), uint8, uint16 or float in [0, 1];
                a tensor (3, H, W) or (1, 3, H, W), uint8 or float in [0, 1].
                Colours are RGB; an alpha channel that comes with them is left out, not composited.
            trimap: what is known of the picture, for a network that is shown it: a path to a grey file, or an array
                (H, W) of the picture's size as it is shown. Background is 0, transition 128 (127 is welcome too),
                foreground 255; or 0, 0.5 and 1.

        Returns:
            (H, W) float32 in [0, 1], at the picture's own size.

        Raises:
            AimmatError: a file cannot be read; the network is shown a trimap and none was given, or it is not and one
                was; the trimap has another size than the picture, or other values.
            ValueError: an array or tensor of another shape or type, or with values that are out of range or NaN.
            TypeError: none of these forms.
        """
        name, needed = type(self.net).__name__, getattr(self.net, "input_channels", 3) == 4
        if needed and trimap is None:
            raise AimmatError(f"{name} mattes by a trimap and was given none: predictor(image, trimap=...)")
        if not needed and trimap is not None:
            raise AimmatError(f"{name} takes no trimap and was given one; leave it out, or load a network that does")
        batch = _batch(image)
        if trimap is not None:
            batch = torch.cat((batch, _trimap(trimap, batch.shape[-2:])), dim=1)
        alpha = self.predict(batch).alpha
        return alpha[0, 0].float().cpu().numpy()

    @torch.inference_mode()
    def cutout(
        self, image: Picture, trimap: str | PathLike[str] | np.ndarray | None = None, fg: Foreground = "ml"
    ) -> np.ndarray:
        """Cut the foreground out of one picture.

        Args:
            image, trimap: as for a call.
            fg: where the colours of the half-transparent come from, "ml", "blend" or "none"; see
                `inference.cutout.foreground_colours`.

        Returns:
            (H, W, 4) uint8, RGBA with straight colours, at the picture's own size.
            `Image.fromarray(predictor.cutout("photo.jpg")).save("cutout.png")` saves it.

        Raises:
            AimmatError, ValueError, TypeError: as for a call.
        """
        batch = _batch(image).to(self.device)
        alpha = self(batch, trimap)
        colours = foreground_colours(batch, torch.from_numpy(alpha)[None, None].to(self.device), fg)
        return cut_out((colours[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy(), alpha)


def _device(name: str | torch.device) -> torch.device:
    """Resolve "auto" and try the device out: torch only notices a missing one when it is used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise AimmatError(f"cannot compute on the device {str(name)!r} ({reason}); use 'auto' or 'cpu'") from error


def _batch(image: Picture) -> Tensor:
    """(1, 3, H, W) float in [0, 1]."""
    if isinstance(image, Tensor):
        return _batch_from_tensor(image)
    if isinstance(image, str | PathLike):
        image = read_image(image)
    elif isinstance(image, Image.Image):
        image = to_rgb(image)
    elif not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a path, a Pillow image, an array or a tensor, got {type(image).__name__}")
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.size == 0:
        raise ValueError(
            f"an array must be (H, W), (H, W, 3) or (H, W, 4) with at least one pixel, got {image.shape}; "
            f"one that is (3, H, W) becomes so with array.transpose(1, 2, 0)"
        )
    return _batch_from_tensor(torch.from_numpy(image[..., :3].transpose(2, 0, 1).copy()))


def _batch_from_tensor(image: Tensor) -> Tensor:
    batch = image if image.ndim == 4 else image[None]
    if batch.ndim != 4 or batch.shape[:2] != (1, 3) or batch.numel() == 0:
        raise ValueError(
            f"a tensor must be (3, H, W) or (1, 3, H, W) with at least one pixel, got {tuple(image.shape)}; "
            f"predict the pictures of a batch one by one"
        )
    if batch.dtype in (torch.uint8, torch.uint16):
        return batch.float().div_(torch.iinfo(batch.dtype).max)  # in place: a large picture need not exist twice
    if not batch.is_floating_point():
        raise ValueError(f"values must be uint8, uint16, or floating-point numbers in [0, 1], got {batch.dtype}")
    batch = batch.float()
    low, high = (bound.item() for bound in batch.aminmax())
    if not (low >= 0 and high <= 1):  # so written, NaN is refused too
        raise ValueError(f"floating-point values must lie in [0, 1], got {low:g} to {high:g}; divide 0..255 by 255")
    return batch


def _trimap(trimap: str | PathLike[str] | np.ndarray, size: Sequence[int]) -> Tensor:
    """(1, 1, H, W) of 0, 0.5 and 1."""
    called, levels = "the trimap", trimap
    if isinstance(levels, str | PathLike):
        called, levels = f"the trimap {trimap}", read_alpha(levels)
    if not isinstance(levels, np.ndarray):
        raise TypeError(f"trimap must be a path or an array, got {type(levels).__name__}")
    if levels.dtype != np.uint8 and not np.issubdtype(levels.dtype, np.floating):
        raise ValueError(f"{called} must hold uint8 or floating-point numbers, got {levels.dtype}")
    if levels.shape != tuple(size):
        raise AimmatError(
            f"{called} must have the picture's size, {size[0]} x {size[1]}, got {' x '.join(map(str, levels.shape))}"
        )
    values = torch.from_numpy(levels / 255 if levels.dtype == np.uint8 else levels.astype(np.float64))
    transition = (values - 0.5).abs() < 0.6 / 255  # 127 and 128
    known = (values == 0) | (values == 1)
    if not (known | transition).all():
        other = levels[~(known | transition).numpy()].flat[0]
        raise AimmatError(
            f"{called} must hold 0, 128 and 255 alone as uint8, or 0, 0.5 and 1, got {other} ({levels.dtype}); a soft "
            f"matte is none, and JPEG files blur one: save it as PNG"
        )
    return values.masked_fill(transition, 0.5).float()[None, None]
