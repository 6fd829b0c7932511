"""Colours of the foreground and the background of a photograph whose alpha is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from aimmat.functional.filters import box_blur

_STEEPNESS = 1.5  # how much neighbours agree for a difference of alpha; smooth colours forgive an inexact matte
_EVENNESS = 1e-5  # what is added to that difference, so that they also agree where alpha is flat
_RELAXATION = 1.3  # of a sweep: above 1 it goes beyond the solution for fixed neighbours, and gets there sooner
_MOST_SWEEPS = 10
_BAND = {"cpu": 1 << 17}  # pixels solved at once: what fits a core's cache
_LARGE_BAND = 1 << 22  # other devices want long work

_Place = tuple[int, int]  # row and column in a cell of 2 x 2 pixels
_PLACES: tuple[_Place, ...] = ((0, 0), (1, 1), (0, 1), (1, 0))  # the white ones of a chessboard, then the black ones


class _Neighbour(NamedTuple):
    place: _Place  # in its cell
    here: tuple[Any, ...]  # the cells that have such a neighbour
    there: tuple[Any, ...]  # the cells that it is in


_ALL, _BUT_FIRST, _BUT_LAST = slice(None), slice(1, None), slice(None, -1)
_BEYOND = ((_BUT_FIRST, _BUT_LAST), (_BUT_LAST, _BUT_FIRST))  # here and there: the cell before, the cell after
_NEIGHBOURS = {
    (i, j): (  # two in the same cell, two beyond
        _Neighbour((i, 1 - j), (..., _ALL, _ALL), (..., _ALL, _ALL)),
        _Neighbour((1 - i, j), (..., _ALL, _ALL), (..., _ALL, _ALL)),
        _Neighbour((i, 1 - j), *((..., _ALL, cells) for cells in _BEYOND[j])),
        _Neighbour((1 - i, j), *((..., cells, _ALL) for cells in _BEYOND[i])),
    )
    for i, j in _PLACES
}


@torch.no_grad()
def estimate_foreground(image: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The colours of both layers, free of each other: smooth where alpha changes, and alpha mixes them to the image.

    Levels go from one pixel to the whole picture; each starts from the colours of the one before, which has every
    second of its pixels. With fixed neighbours j, the colours F and B of a pixel minimise

        (alpha F + (1 - alpha) B - image)^2 + sum_j 1.5 (|alpha - alpha_j| + 1e-5) ((F - F_j)^2 + (B - B_j)^2)

    which has a closed form; pixels are visited as on a chessboard, all white ones and then all black ones. In the end
    what is left of image - alpha F - (1 - alpha) B is given to them in full where alpha is 0 or 1, and less the further
    it is from both, where an error of alpha would show.

    Args:
        image: (B, 3, H, W) floating point, values in [0, 1].
        alpha: alpha matte, (B, 1, H, W), values in [0, 1].

    Returns:
        (foreground, background), each like the image, values in [0, 1]; computed in float32 or better. The foreground
        is the image where alpha is 1, the background where it is 0. Where alpha says nothing of a layer, it goes on
        smoothly; a layer that is nowhere seen has one colour. Beside the input and these two, a picture takes a quarter
        of their memory, and a fixed amount for the band of rows at work.

    Raises:
        ValueError: the shapes do not belong together, or the image is not floating point.

    Source:
        Germer, Uelwer, Conrad, Harmeling. Fast Multi-Level Foreground Estimation. ICPR 2020. The order of the pixels,
        the relaxation, the numbers of sweeps and the end are ours.

    >>> alpha = torch.linspace(0, 1, 32).expand(1, 1, 8, 32)
    >>> image = torch.cat([alpha, 1 - alpha, 0 * alpha], dim=1)  # from green to red
    >>> estimate_foreground(image, alpha)[0][0, :, 4, 16].round(decimals=2)
    tensor([1., 0., 0.])
    """
    _check(image, alpha)
    first = image[..., :1, :1].to(_precision(image))
    layers = first, first
    step = 1 << (max(image.shape[-2:]) - 1).bit_length()
    while step:
        level = image[..., ::step, ::step], alpha[..., ::step, ::step]
        layers = _solve(*level, layers, sweeps=min(step, _MOST_SWEEPS), last=step == 1)
        step //= 2
    foreground, background = layers
    return foreground.to(image.dtype), background.to(image.dtype)


@torch.no_grad()
def blend_foreground(image: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The colours of both layers from means of what lies around; rougher than `estimate_foreground`.

    Each layer's mean over a square of 90 pixels comes from the image, weighted by alpha or its rest. The foreground is
    its mean plus alpha times what both means leave of the image; then the same with its mean over 6 pixels.

    Args:
        image: (B, 3, H, W) floating point, values in [0, 1].
        alpha: alpha matte, (B, 1, H, W), values in [0, 1].

    Returns:
        (foreground, background), each like the image, values in [0, 1]; computed in float32 or better. The foreground
        is the image where alpha is 1, and black further than 3 pixels from where alpha is above 0; the background is a
        blurred one.

    Raises:
        ValueError: the shapes do not belong together, or the image is not floating point.

    Source:
        Forte. Approximate Fast Foreground Colour Estimation. ICIP 2021. Wide means at a sixth of the size, and one
        of them for the background, are ours.

    >>> blend_foreground(torch.full((1, 3, 1, 1), 0.25), torch.ones(1, 1, 1, 1))[0].flatten()
    tensor([0.2500, 0.2500, 0.2500])
    """
    _check(image, alpha)
    (batch, _, height, width), dtype = image.shape, _precision(image)
    small = image.new_empty((batch, 7, -(-height // 6), -(-width // 6)), dtype=dtype)
    for rows, _ in _bands(image, multiple=6, halo=0):
        picture, matte = image[..., rows, :].to(dtype), alpha[..., rows, :].to(dtype)
        layers = torch.cat([matte * picture, (1 - matte) * picture, matte], 1)
        small[..., rows.start // 6 : -(-rows.stop // 6), :] = F.avg_pool2d(layers, 6, ceil_mode=True)
    near, far, weight = torch.split(box_blur(small, [15.0] * batch), [3, 3, 1], dim=1)
    means = torch.cat([near / (weight + 1e-5), far / (1 - weight + 1e-5)], 1).clamp_(0, 1)

    foreground, background = torch.empty_like(image), torch.empty_like(image)
    for rows, around in _bands(image, multiple=6, halo=12):  # enlarging reaches 3 pixels, the narrow mean 3 more
        picture, matte = image[..., around, :].to(dtype), alpha[..., around, :].to(dtype)
        wide = F.interpolate(means[..., around.start // 6 : -(-around.stop // 6), :], scale_factor=6, mode="bilinear")
        near, far = torch.split(wide[..., : picture.shape[-2], : picture.shape[-1]], 3, dim=1)
        near = _with_rest(near, far, picture, matte)
        near, weight = torch.split(box_blur(torch.cat([matte * near, matte], 1), [6.0] * batch), [3, 1], dim=1)
        near = _with_rest(near / (weight + 1e-5), far, picture, matte)
        inside = slice(rows.start - around.start, rows.stop - around.start)
        foreground[..., rows, :], background[..., rows, :] = near[..., inside, :], far[..., inside, :]
    return foreground, background


def _with_rest(foreground: Tensor, background: Tensor, image: Tensor, alpha: Tensor) -> Tensor:
    return torch.addcmul(foreground, _rest(foreground, background, image, alpha), alpha).clamp_(0, 1)


def _rest(foreground: Tensor, background: Tensor, image: Tensor, alpha: Tensor) -> Tensor:
    """What both layers leave of the image."""
    return torch.addcmul(image, foreground, alpha, value=-1).addcmul_(background, 1 - alpha, value=-1)


def _solve(
    image: Tensor, alpha: Tensor, coarse: tuple[Tensor, Tensor], sweeps: int, last: bool
) -> tuple[Tensor, Tensor]:
    """One level, in bands of rows: a sweep carries colours by two pixels, so bands that overlap give what one does."""
    like = coarse[0]
    foreground, background = like.new_empty(image.shape), like.new_empty(image.shape)
    for rows, around in _bands(image, multiple=2, halo=2 * sweeps):
        picture, matte = (_places(layer[..., around, :].to(like)) for layer in (image, alpha))
        start = torch.cat([layer[..., around.start // 2 : (around.stop + 1) // 2, :] for layer in coarse], 1)
        colours = dict.fromkeys(_PLACES, start)  # (B, 6, h / 2, w / 2) each, foreground and background
        for place in _PLACES * sweeps:
            colours[place] = _swept(place, colours, picture[place], matte)
        first = (rows.start - around.start) // 2
        for (i, j), both in colours.items():
            if last:
                sureness = (2 * matte[i, j] - 1).square_()
                _correct(both, picture[i, j], matte[i, j], 2 * sureness.square() / (1 + sureness))
                both.clamp_(0, 1)
            for layer, part in zip((foreground, background), torch.split(both, 3, dim=1), strict=True):
                out = layer[..., rows, :][..., i::2, j::2]
                out.copy_(part[..., first : first + out.shape[-2], : out.shape[-1]])
    return foreground, background


def _swept(place: _Place, colours: dict[_Place, Tensor], image: Tensor, matte: dict[_Place, Tensor]) -> Tensor:
    """The colours at one place of all cells, their neighbours fixed, and beyond that by the relaxation.

    With the neighbours' weighted mean m = (F, B), the sum W of their weights, and v = (alpha, 1 - alpha), the least
    squares are solved by m + v (image - v m) / (W + v v).
    """
    alpha = matte[place]
    weights = [(alpha[here] - matte[other][there]).abs_().add_(_EVENNESS) for other, here, there in _NEIGHBOURS[place]]
    total = weights[0] + weights[1]
    for weight, (_, here, _) in zip(weights[2:], _NEIGHBOURS[place][2:], strict=True):
        total[here] += weight
    mean = colours[_NEIGHBOURS[place][0].place] * (weights[0] / total)
    for weight, (other, here, there) in zip(weights[1:], _NEIGHBOURS[place][1:], strict=True):
        mean[here].addcmul_(colours[other][there], weight.div_(total[here]))
    _correct(mean, image, alpha, 1 / (_STEEPNESS * total + alpha.square() + (1 - alpha).square()))
    return torch.lerp(colours[place], mean, _RELAXATION).clamp_(0, 1)


def _correct(both: Tensor, image: Tensor, alpha: Tensor, share: Tensor) -> None:
    """Add to both layers what they leave of the image, by their part in it, times a share."""
    foreground, background = torch.split(both, 3, dim=1)
    rest = _rest(foreground, background, image, alpha).mul_(share)
    foreground.addcmul_(rest, alpha)
    background.addcmul_(rest, 1 - alpha)


def _bands(image: Tensor, multiple: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Rows of a picture, some at a time from a multiple on, and the same with up to `halo` more on either side."""
    batch, _, height, width = image.shape
    rows = max(1, _BAND.get(image.device.type, _LARGE_BAND) // (batch * width * multiple)) * multiple
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        yield slice(top, bottom), slice(max(0, top - halo), min(height, bottom + halo))


def _places(layer: Tensor) -> dict[_Place, Tensor]:
    """The pixels at each place of the cells; an odd side is made even by its last line."""
    height, width = layer.shape[-2:]
    if height % 2 or width % 2:
        layer = F.pad(layer, (0, width % 2, 0, height % 2), mode="replicate")
    return {(i, j): layer[..., i::2, j::2].contiguous() for i, j in _PLACES}


def _precision(image: Tensor) -> torch.dtype:
    return torch.promote_types(image.dtype, torch.float32)


def _check(image: Tensor, alpha: Tensor) -> None:
    if (
        image.dim() != 4
        or image.shape[1] != 3
        or alpha.shape != (len(image), 1, *image.shape[2:])
        or not image.numel()
        or not (image.is_floating_point() and alpha.is_floating_point())
    ):
        raise ValueError(
            f"image and alpha must be floating point of shapes (B, 3, H, W) and (B, 1, H, W), got {image.dtype} of "
            f"{tuple(image.shape)} and {alpha.dtype} of {tuple(alpha.shape)}; an 8-bit image becomes one with "
            f"image / 255, a bare (H, W) matte with alpha[None, None]"
        )
