"""Composition of layers into an image, and the RSSN route: resolution, sharpness and noise of real photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from aimmat.functional.filters import box_blur
from aimmat.schema import ImageType


def composite(foreground: Tensor, background: Tensor, alpha: Tensor) -> Tensor:
    """Lay a foreground over a background: alpha * foreground + (1 - alpha) * background.

    Args:
        foreground: (B, 3, H, W), values in [0, 1].
        background: same shape and range.
        alpha: alpha matte, (B, 1, H, W), values in [0, 1].

    Returns:
        (B, 3, H, W), values in [0, 1].

    Raises:
        ValueError: the shapes do not belong together.

    >>> composite(torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1), torch.full((1, 1, 1, 1), 0.25)).flatten()
    tensor([0.2500, 0.2500, 0.2500])
    """
    _check_layers(foreground, background, alpha)
    return alpha * foreground + (1 - alpha) * background


class Treatment(NamedTuple):
    """What RSSN does to one sample."""

    denoise: bool  # take the denoised layers, those that there are
    resample: str | None  # the layer that goes through a lower resolution, "foreground" or "background"
    blur: float  # width of the box over the background, pixels of the layers; 0 leaves it sharp
    noise: bool


def draw_rssn(
    image_type: Tensor,
    generators: Sequence[torch.Generator],
    *,
    scale: float | Tensor = 1.0,
    type_wise: bool = True,
    denoise_probability: float = 0.5,
    resample_probability: float = 0.1,
    blur_probability: float = 0.5,
    blur_kernels: Sequence[int] = (20, 30, 40, 50, 60),
    noise_probability: float = 0.5,
) -> list[Treatment]:
    """Draw what `rssn` does to each sample of a batch; takes six numbers of each generator.

    Args:
        image_type: (B,) int64, `ImageType.number`.
        generators: one a sample.
        scale: pixels of the layers per pixel of the original composite, one for all or (B,); a crop of 640 pixels
            shown at 320 has 0.5. The blur shrinks with it.
        type_wise: blur the background of every NS image; otherwise NS is drawn like the others.
        denoise_probability: of taking the denoised layers, those that there are.
        resample_probability: of one layer going through a lower resolution.
        blur_probability: of a background out of focus.
        blur_kernels: widths of the box in pixels of the original composite, drawn evenly.
        noise_probability: of noise.

    Raises:
        ValueError: scale is neither one for all nor one for each.

    >>> draw_rssn(torch.tensor([2]), [torch.Generator().manual_seed(0)])  # SO, STM or NS: 0, 1, 2
    [Treatment(denoise=True, resample=None, blur=30.0, noise=False)]
    """
    batch, device = len(generators), generators[0].device
    scale = torch.as_tensor(scale)
    if scale.shape not in ((), (batch,)):
        raise ValueError(
            f"scale must be one for all or one for each of {batch} samples, got shape {tuple(scale.shape)}; "
            f"scale=1.0 leaves the blur as drawn"
        )
    draws = torch.stack([torch.rand(6, generator=generator, device=device) for generator in generators]).tolist()
    treatments = []
    for numbers, kind, zoom in zip(draws, image_type.tolist(), scale.expand(batch).tolist(), strict=True):
        denoise, resample, layer, blur, kernel, noise = numbers
        blurred = blur < blur_probability or (type_wise and kind == ImageType.NS.number)
        treatments.append(
            Treatment(
                denoise=denoise < denoise_probability,
                resample=("foreground" if layer < 0.5 else "background") if resample < resample_probability else None,
                blur=blur_kernels[int(kernel * len(blur_kernels))] * zoom if blurred else 0.0,
                noise=noise < noise_probability,
            )
        )
    return treatments


def rssn(
    foreground: Tensor,
    background: Tensor,
    alpha: Tensor,
    image_type: Tensor,
    generators: Sequence[torch.Generator],
    *,
    denoised_foreground: Tensor | None = None,
    denoised_background: Tensor | None = None,
    resample_factor: int = 2,
    noise_sigma: float = 10 / 255,
    **draws: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Composite as RSSN does, so that a composite differs less from a photograph than a plain one.

    In this order: both layers without their noise, where such copies exist; one of the two layers, drawn evenly,
    through a lower resolution; the background out of focus (a box blur); one and the same noise on both layers. Only
    then are they composited, so image = alpha * foreground + (1 - alpha) * background holds for what is returned.
    A sample depends on its own layers and generator alone, not on the batch it comes in.

    Args:
        foreground: (B, 3, H, W) floating point, values in [0, 1].
        background: same shape and range.
        alpha: alpha matte, (B, 1, H, W), values in [0, 1].
        image_type: (B,) int64, `ImageType.number`.
        generators: one a sample, on the device of the layers.
        denoised_foreground: the foreground without its noise, same shape and range; None where there is none.
        denoised_background: the background without its noise, same shape and range; None where there is none.
        resample_factor: by how much lower the resolution is.
        noise_sigma: standard deviation of the Gaussian noise, per pixel and channel, at the size of these layers.
        draws: scale, probabilities and kernels, arguments of `draw_rssn`.

    Returns:
        (image, foreground, background), each (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: the shapes do not belong together, or there is not one type and one generator a sample.

    Source:
        AIM paper, section 4.2, with Li et al., "Bridging Composite and Real", IJCV 2022: kernels, noise and the
        probabilities of blur, noise and denoising. There, backgrounds of high resolution answer the discrepancy of
        resolution; resampling, its probability and its factor are ours. The released code lets noise wrap around at
        black and white and blurs every type alike; here it is clipped, and NS is always blurred, as the paper says.
    """
    _check_layers(foreground, background, alpha)
    for denoised in (denoised_foreground, denoised_background):
        if denoised is not None:
            _check_layers(denoised, foreground, alpha)
    batch, device = len(foreground), foreground.device
    if image_type.shape != (batch,) or [generator.device.type for generator in generators] != [device.type] * batch:
        raise ValueError(
            f"rssn needs one image type and one generator on {device.type} for each of {batch} samples, got types of "
            f"shape {tuple(image_type.shape)} and generators on {[str(g.device) for g in generators]}; make "
            f"torch.Generator(device).manual_seed(seed) for each"
        )
    foregrounds, backgrounds = list(torch.split(foreground, 1)), list(torch.split(background, 1))  # (1, 3, H, W) each
    for i, treatment in enumerate(draw_rssn(image_type, generators, **draws)):
        if treatment.denoise:
            if denoised_foreground is not None:
                foregrounds[i] = denoised_foreground[i : i + 1]
            if denoised_background is not None:
                backgrounds[i] = denoised_background[i : i + 1]
        if treatment.resample:
            layers = foregrounds if treatment.resample == "foreground" else backgrounds
            layers[i] = _resample(layers[i], resample_factor)
        if treatment.blur:
            backgrounds[i] = box_blur(backgrounds[i], [treatment.blur])
        if treatment.noise:
            grain = noise_sigma * torch.randn(foreground.shape[1:], generator=generators[i], device=device)
            foregrounds[i] = (foregrounds[i] + grain).clamp(0, 1)
            backgrounds[i] = (backgrounds[i] + grain).clamp(0, 1)
    foreground, background = torch.cat(foregrounds), torch.cat(backgrounds)
    return composite(foreground, background, alpha), foreground, background


def _check_layers(foreground: Tensor, background: Tensor, alpha: Tensor) -> None:
    if alpha.shape != (len(foreground), 1, *foreground.shape[2:]) or background.shape != foreground.shape:
        raise ValueError(
            f"foreground and background must be (B, 3, H, W) and alpha (B, 1, H, W), got {tuple(foreground.shape)}, "
            f"{tuple(background.shape)} and {tuple(alpha.shape)}; crop or resize them to one size first"
        )


def _resample(image: Tensor, factor: int) -> Tensor:
    """Through 1 / factor of the resolution and back: means of blocks, then bilinear."""
    small = F.avg_pool2d(image, factor, ceil_mode=True)
    return F.interpolate(small, size=image.shape[-2:], mode="bilinear", align_corners=False)
