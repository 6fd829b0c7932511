"""The five errors of a predicted matte, as the AIM release counts them and as Deep Image Matting's MATLAB code does.

docs/metrics.md sets the two protocols side by side. Everything is computed from bands of rows that fit a cache, on the
mattes' device, without gradient, and summed in float64 (float32 on Apple's MPS, which has no other).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from aimmat.functional.components import connected_levels
from aimmat.functional.filters import derivative_bands, derivative_kernels, lay_out, widest_float
from aimmat.schema import SemanticClass

Mattes = Tensor | Sequence[Tensor]
MetricProtocol = Literal["aim", "matlab"]

_MAPS = {"sad": "difference", "mse": "square", "mad": "difference", "grad": "gradient", "conn": "excess"}
_PARTS = {
    "_transition": SemanticClass.TRANSITION,
    "_foreground": SemanticClass.FOREGROUND,
    "_background": SemanticClass.BACKGROUND,
}
_SIGMA = 1.4  # pixels, of the Gaussian whose derivative the gradient error takes
_MATLAB_TRUNCATE = 2.6  # 4 pixels: where the MATLAB code's Gaussian of sigma 1.4 falls below 0.01
_LEVELS = 10  # of the connectivity error: 0.1, 0.2, ... 1.0
_NOTICEABLE = math.nextafter(0.15, 0)  # what a pixel may exceed its connected level by and still count as connected


def sad(pred: Mattes, alpha: Mattes, region: Mattes | None = None, protocol: MetricProtocol = "aim") -> Tensor:
    """Sum of absolute differences, in thousands of pixels; lower is better.

    Args:
        pred: predicted alpha mattes, (B, 1, H, W), floating, values in [0, 1]; or a sequence of mattes of different
            sizes, (1, H, W) or (1, 1, H, W) each.
        alpha: true alpha mattes, same form and range.
        region: the pixels that count, bool, same form; None counts them all. Give it the transition for the "Tran."
            column.
        protocol: "aim" or "matlab", which here are one.

    Returns:
        (B,) float64 without gradient, from 0 (equal mattes) to H * W / 1000; 0 where the region is empty.

    Raises:
        TypeError: a matte is not a floating tensor, or the region not a bool one.
        ValueError: shapes or devices differ, a matte is empty, a value is not finite or outside [0, 1], or the protocol
            is unknown.

    Source:
        Rhemann et al., CVPR 2009; divided by 1000 as Table 2 of the AIM paper prints it, and as the MATLAB code does.

    >>> sad(torch.full((1, 1, 100, 100), 0.75), torch.full((1, 1, 100, 100), 0.5))
    tensor([2.5000], dtype=torch.float64)
    """
    return _over_region("sad", pred, alpha, region, protocol)


def mse(pred: Mattes, alpha: Mattes, region: Mattes | None = None, protocol: MetricProtocol = "aim") -> Tensor:
    """Mean squared error over the pixels that count; lower is better.

    Args:
        pred: predicted alpha mattes, as `sad` takes them.
        alpha: true alpha mattes, same form and range.
        region: the pixels that count, bool, same form, at least one for each matte; None counts them all.
        protocol: "aim" or "matlab", which here are one.

    Returns:
        (B,) float64 without gradient, in [0, 1].

    Raises:
        TypeError: as `sad`.
        ValueError: as `sad`, or the region of a matte is empty.

    Source:
        Rhemann et al., CVPR 2009; a plain mean, as Table 2 of the AIM paper prints it.

    >>> mse(torch.full((1, 1, 8, 8), 0.75), torch.full((1, 1, 8, 8), 0.5))
    tensor([0.0625], dtype=torch.float64)
    """
    return _over_region("mse", pred, alpha, region, protocol)


def mad(pred: Mattes, alpha: Mattes, region: Mattes | None = None, protocol: MetricProtocol = "aim") -> Tensor:
    """Mean absolute difference over the pixels that count; lower is better.

    Args:
        pred: predicted alpha mattes, as `sad` takes them.
        alpha: true alpha mattes, same form and range.
        region: the pixels that count, bool, same form, at least one for each matte; None counts them all.
        protocol: "aim" or "matlab". The MATLAB code has no such error; here it is SAD over the pixels in both.

    Returns:
        (B,) float64 without gradient, in [0, 1].

    Raises:
        TypeError, ValueError: as `mse`.

    Source:
        Table 2 of the AIM paper: SAD times 1000 over the number of pixels.

    >>> mad(torch.full((1, 1, 8, 8), 0.75), torch.full((1, 1, 8, 8), 0.5))
    tensor([0.2500], dtype=torch.float64)
    """
    return _over_region("mad", pred, alpha, region, protocol)


def gradient_error(
    pred: Mattes, alpha: Mattes, region: Mattes | None = None, protocol: MetricProtocol = "aim"
) -> Tensor:
    """Squared differences between the mattes' gradient magnitudes, summed; lower is better.

    The gradient is that of the whole matte smoothed by a Gaussian of 1.4 pixels; a region only chooses the pixels that
    are summed.

    Args:
        pred: predicted alpha mattes, as `sad` takes them.
        alpha: true alpha mattes, same form and range.
        region: the pixels that count, bool, same form; None counts them all.
        protocol: "aim" counts in tens; maps are kept in float32, each direction rounded before the other is filtered,
            as released. "matlab" counts in thousands: each matte is first stretched to the range 0 to 1 (a constant one
            has no gradient), the squares of the filter's weights sum to 1, and the outermost pixels go on beyond the
            border.

    Returns:
        (B,) float64 without gradient, at least 0; 0 where the region is empty. A missed straight edge costs 0.02 per
        pixel of its length.

    Raises:
        TypeError, ValueError: as `sad`.

    Source:
        Rhemann et al., CVPR 2009. aim: the released core/evaluate.py, "Grad." in Table 2. matlab: the evaluation code
        of Deep Image Matting (Xu et al., CVPR 2017), whose callers divide by 1000.

    >>> gradient_error(torch.full((1, 1, 8, 8), 0.75), torch.full((1, 1, 8, 8), 0.5)).round(decimals=6)
    tensor([0.], dtype=torch.float64)
    """
    return _over_region("grad", pred, alpha, region, protocol)


def connectivity_error(
    pred: Mattes, alpha: Mattes, region: Mattes | None = None, protocol: MetricProtocol = "aim"
) -> Tensor:
    """Difference in how firmly pixels hang on to the object, in thousands of pixels; lower is better.

    At each level 0.1, 0.2, ... 1.0 the largest 4-connected component of the pixels where both mattes reach the level is
    the object. A pixel's connected level is the last one before it leaves the object. A matte's excess over that level,
    where at least 0.15, is what does not hang together; the error sums how much the two excesses differ. Components are
    always those of the whole picture; a region only chooses the pixels that are summed.

    Many 8-bit values sit on a level. In float64 k / 255 is compared as the release does it, where 153 / 255 falls short
    of 0.6 by a hair; in float32 the value nearest to 0.6 is taken for 153 / 255, so that both give the same figures.
    float16 and bfloat16 are too coarse to tell on which side of a level a value lay: their figures are their own.

    Args:
        pred: predicted alpha mattes, as `sad` takes them.
        alpha: true alpha mattes, same form and range.
        region: the pixels that count, bool, same form; None counts them all.
        protocol: "aim": where no pixel reaches a level, what was connected until then counts as connected up to 1, and
            of components equally large the first by rows is the object. "matlab": it is connected up to the last level
            that is reached, the first by columns is the object, and 153 / 255 reaches 0.6. The MATLAB code sees mattes
            of 8 bits: round others before.

    Returns:
        (B,) float64 without gradient, from 0 to H * W / 1000; 0 where the region is empty.

    Raises:
        TypeError, ValueError: as `sad`.

    Source:
        Rhemann et al., CVPR 2009. aim: the released core/evaluate.py, "Conn." in Table 2. matlab: the evaluation code
        of Deep Image Matting in the copy of GCA-Matting, whose callers divide by 1000; IndexNet's copy skips levels
        that no pixel reaches, as AIM's does.

    >>> alpha = torch.zeros(1, 1, 20, 20)
    >>> alpha[..., :10, :] = 1
    >>> pred = alpha.clone()
    >>> pred[..., 15:, :] = 0.5  # 100 pixels, half opaque and cut off from the object
    >>> connectivity_error(pred, alpha)
    tensor([0.0500], dtype=torch.float64)
    """
    return _over_region("conn", pred, alpha, region, protocol)


def measure(
    pred: Mattes, alpha: Mattes, trimap: Mattes | None = None, protocol: MetricProtocol = "aim"
) -> dict[str, Tensor]:
    """All five errors over the whole picture and over regions of its trimap, at the price of measuring once.

    Args:
        pred: predicted alpha mattes, as `sad` takes them.
        alpha: true alpha mattes, same form and range.
        trimap: same form: bool, the transition; or integer, 0 background, 1 transition and 2 foreground; or None.
        protocol: "aim" or "matlab", see `gradient_error` and `connectivity_error`.

    Returns:
        `sad mse mad grad conn`, (B,) float64 each, in the unit of its own function (`sad`, `mse`, `mad`,
        `gradient_error`, `connectivity_error`); with a bool trimap also with `_transition` behind their names, with an
        integer one also with `_background` and `_foreground`. Over an empty region sums are 0 and means nan.

    Raises:
        TypeError: as `sad`, or the trimap holds neither bool nor integer values.
        ValueError: as `sad`, or the trimap holds other numbers.

    Source:
        Table 2 of the AIM paper, whose "Tran." is `sad_transition`. The release overwrites the prediction by the
        trimap and sums the whole picture: the same wherever the true alpha is 0 or 1 outside the transition.

    >>> scores = measure(torch.full((1, 1, 8, 8), 0.75), torch.full((1, 1, 8, 8), 0.5), torch.eye(8)[None, None] > 0)
    >>> scores["mad_transition"], scores["sad_transition"]
    (tensor([0.2500], dtype=torch.float64), tensor([0.0020], dtype=torch.float64))
    """
    pairs = _pairs(pred, alpha, trimap, protocol, "trimap")
    parts: dict[str, int | None] = {"": None}
    if trimap is not None:
        only_transition = all(tensor.dtype == torch.bool for tensor in _as_list(trimap))
        parts |= {"_transition": SemanticClass.TRANSITION} if only_transition else _PARTS
    return _scores(pairs, parts, tuple(_MAPS), protocol)


class _Pair(NamedTuple):
    """A matte, its truth, and what is known of its pixels."""

    pred: Tensor  # (H, W)
    alpha: Tensor  # (H, W)
    labels: Tensor | None  # (H, W) uint8: 1 in the region, or the classes of the trimap
    spans: tuple[float, float]  # the highest value of either matte less its lowest


def _over_region(error: str, pred: Mattes, alpha: Mattes, region: Mattes | None, protocol: str) -> Tensor:
    """One error over one region, (B,)."""
    pairs = _pairs(pred, alpha, region, protocol, "region")
    scores = _scores(pairs, {"": None if region is None else 1}, [error], protocol)[error]
    if region is not None and scores.isnan().any():
        raise ValueError(
            f"region must hold a pixel of every matte that a mean is asked for, got none of number "
            f"{scores.isnan().tolist().index(True)}; leave that matte out, or take sad, which is 0 there"
        )
    return scores


def _scores(
    pairs: Sequence[_Pair], parts: Mapping[str, int | None], errors: Sequence[str], protocol: str
) -> dict[str, Tensor]:
    """Errors over the parts with a label, or everywhere for None: (B,) each, under the error's name and the part's."""
    levels: Sequence[Tensor | None] = [None] * len(pairs)
    if "conn" in errors:
        levels = _connected_levels([_reached(pair, protocol) for pair in pairs], protocol)
    needed = dict.fromkeys(_MAPS[error] for error in errors)
    columns = []
    for pair, connected in zip(pairs, levels, strict=True):
        with torch.autocast(pair.pred.device.type, enabled=False):
            *sums, pixels = _sums(pair, list(needed), connected, list(parts.values()), protocol)
        totals = dict(zip(needed, sums, strict=True))
        unit = {"sad": 1000, "mse": pixels, "mad": pixels, "grad": 10 if protocol == "aim" else 1000, "conn": 1000}
        columns.append(torch.stack([totals[_MAPS[error]] / unit[error] for error in errors]))
    values = torch.stack(columns, dim=-1)  # (errors, parts, B)
    return {f"{error}{name}": values[i, j] for j, name in enumerate(parts) for i, error in enumerate(errors)}


def _sums(
    pair: _Pair, names: Sequence[str], levels: Tensor | None, parts: Sequence[int | None], protocol: str
) -> Tensor:
    """Sums of the maps of errors, and then the number of pixels, over each part: (maps + 1, parts)."""
    width, num_rows = pair.pred.shape[1], _num_rows(pair.pred)
    height = len(pair.pred)
    classes = list(_PARTS.values())
    counted = classes if parts == [None, *classes] else parts  # the classes of a trimap cover the picture
    slopes = _gradient(pair, protocol) if "gradient" in names else [pair.pred[None]]
    bands = (part for blocks in slopes for part in torch.split(blocks, num_rows, dim=1))  # (blocks, rows, columns)
    # every band uses the same memory, which stays in the cache
    maps, weights = (_widest(pair.pred.new_ones(n, num_rows * width)) for n in (len(names) + 1, len(counted)))
    total, top = torch.zeros_like(maps[:, : len(counted)]), 0
    for band in bands:
        rows = slice(top, top := min(height, top + band.shape[1]))
        pred, alpha = (_widest(matte[rows]) for matte in (pair.pred, pair.alpha))
        pixels, difference = pred.numel(), pred - alpha
        for name, flat in zip(names, maps, strict=False):
            out = flat[:pixels].view_as(pred)
            if name == "gradient":
                lay_out(band, out)
            elif name == "difference":
                torch.abs(difference, out=out)
            elif name == "square":
                torch.mul(difference, difference, out=out)
            elif levels is not None:
                connected = (levels[rows].to(torch.float32) / _LEVELS).to(pred.dtype)  # in float32 by both protocols
                torch.threshold_(torch.sub(pred, connected, out=out), _NOTICEABLE, 0)
                out.sub_(torch.threshold_(alpha - connected, _NOTICEABLE, 0)).abs_()
        for weight, part in zip(weights, counted, strict=True):
            if pair.labels is not None and part is not None:
                torch.eq(pair.labels[rows], part, out=weight[:pixels].view_as(pred))  # 1.0 there, 0.0 elsewhere
        total += maps[:, :pixels] @ weights[:, :pixels].mT
    return total if counted is parts else torch.cat([total.sum(dim=1, keepdim=True), total], dim=1)


def _gradient(pair: _Pair, protocol: str) -> Iterator[Tensor]:
    """Squared difference of the gradients' magnitudes, some rows at a time, in blocks as `lay_out` takes them."""
    mattes = pair.pred, pair.alpha
    if protocol == "aim":
        bands = [derivative_bands(matte, _SIGMA, stored=torch.float32) for matte in mattes]
    else:
        bands = [derivative_bands(matte, _SIGMA, _MATLAB_TRUNCATE, "nearest") for matte in mattes]
        smooth, slope = derivative_kernels(_SIGMA, _MATLAB_TRUNCATE)
        norm = math.hypot(*smooth) * math.hypot(*slope)
        scales = [1 / (span * norm) if span > 0 else 0.0 for span in pair.spans]  # stretching scales the gradient
    least = torch.tensor(1e-200, dtype=widest_float(pair.pred.device), device=pair.pred.device)  # a root of 0 is slow
    for both in zip(*bands, strict=True):
        pred, alpha = (torch.addcmul(least, dy, dy, out=dy).addcmul_(dx, dx).sqrt_() for dy, dx in both)
        if protocol == "matlab":
            pred, alpha = pred.mul_(scales[0]), alpha.mul_(scales[1])
        yield pred.sub_(alpha).square_()


def _connected_levels(reached: Sequence[Tensor], protocol: str) -> list[Tensor]:
    """The connected level of each pixel in tenths, (H, W) uint8 for each picture."""
    device = reached[0].device
    home = device if device.type == "cuda" else torch.device("cpu")  # others may lack a kernel for integers
    if protocol == "matlab":  # components are met column by column
        columns = [counts.to(home).mT.contiguous() for counts in reached]
        return [levels.mT.contiguous().to(device) for levels in connected_levels(columns, _LEVELS)]
    rows = [counts.to(home) for counts in reached]
    return [levels.to(device) for levels in connected_levels(rows, _LEVELS, skip_empty=True)]


def _reached(pair: _Pair, protocol: str) -> Tensor:
    """How many of the ten levels both mattes reach, (H, W) uint8."""
    counts = torch.empty(pair.pred.shape, dtype=torch.uint8, device=pair.pred.device)
    for band, *mattes in zip(*(torch.split(m, _num_rows(m)) for m in (counts, pair.pred, pair.alpha)), strict=True):
        pred, alpha = (_compared(matte, protocol) for matte in mattes)
        # the quotient is a whole number or more exactly where a value is the rounded multiple of 0.1 or more
        band.copy_(torch.minimum(pred, alpha).div_(torch.tensor(0.1, dtype=pred.dtype, device=pred.device)))
    return counts


def _compared(matte: Tensor, protocol: str) -> Tensor:
    """A matte in the precision in which it is compared with levels."""
    if protocol == "matlab":
        return matte.float()
    if matte.dtype == torch.float32:
        matte = matte.masked_fill(matte == 0.6, 0.59)  # 153 / 255 is below 6 * 0.1, its neighbour in float32 above
    return _widest(matte)


def _num_rows(matte: Tensor) -> int:
    """How many rows are worked on together: on a CPU what fits the cache of a core, elsewhere what fits memory."""
    return max(1, (2**16 if matte.device.type == "cpu" else 2**22) // matte.shape[1])


def _widest(matte: Tensor) -> Tensor:
    return matte.to(widest_float(matte.device))


def _pairs(pred: Mattes, alpha: Mattes, region: Mattes | None, protocol: str, name: str) -> list[_Pair]:
    """The mattes one by one, or the sentence that says what is wrong with them."""
    if protocol not in get_args(MetricProtocol):
        raise ValueError(f"protocol must be {' or '.join(get_args(MetricProtocol))}, got {protocol!r}")
    batches = {"pred": pred, "alpha": alpha} | ({} if region is None else {name: region})
    lists = {key: _as_list(batch) for key, batch in batches.items()}
    lengths = [len(tensors) for tensors in lists.values()]
    if len(set(lengths)) > 1 or lengths[0] == 0:
        raise ValueError(
            f"{', '.join(lists)} must be tensors or sequences of one length, got {', '.join(map(str, lengths))} "
            f"tensors; give one for each matte"
        )
    pairs: list[_Pair] = []
    for tensors in zip(*lists.values(), strict=True):
        given = dict(zip(lists, tensors, strict=True))
        _check(given)
        planes = {key: tensor.detach().flatten(0, -3) for key, tensor in given.items()}
        spans = [_spans(key, planes[key]) for key in ("pred", "alpha")]
        labels = repeat(None) if region is None else _labels(planes[name])
        pairs += map(_Pair, planes["pred"], planes["alpha"], labels, zip(*spans, strict=True))
    return pairs


def _as_list(mattes: Mattes) -> list[Tensor]:
    return list(mattes) if isinstance(mattes, Sequence) else [mattes]


def _labels(region: Tensor) -> Tensor:
    """A bool region or a trimap as uint8."""
    if region.dtype == torch.bool:
        return region.contiguous().view(torch.uint8)
    low, high = torch.stack(region.aminmax()).tolist()
    if not 0 <= low <= high <= 2:
        raise ValueError(
            f"trimap must hold 0 background, 1 transition and 2 foreground, got {low} to {high}; "
            f"levels of 0, 128 and 255 become these with trimap // 127"
        )
    return region.to(torch.uint8)


def _check(given: Mapping[str, Tensor]) -> None:
    """Types, shapes and devices of pred, alpha and, where there is one, the region or trimap."""
    for name, tensor in given.items():
        kind = f"{tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor).__name__
        floating = isinstance(tensor, Tensor) and tensor.is_floating_point()
        if name in ("pred", "alpha") and not floating:
            cure = (
                "an 8-bit matte becomes one with matte / 255" if kind.startswith("torch.") else "use torch.from_numpy"
            )
            raise TypeError(f"{name} must be a floating tensor, got {kind}; {cure}")
        if name == "region" and kind != "torch.bool":
            raise TypeError(f"region must be a bool tensor, got {kind}; a trimap becomes one with trimap == 1")
        if name == "trimap" and (floating or not isinstance(tensor, Tensor)):
            raise TypeError(f"trimap must be a bool or an integer tensor, got {kind}; convert it with trimap.long()")
    pred, alpha, *region = given.values()
    if pred.shape != alpha.shape or pred.ndim not in (3, 4) or pred.shape[-3] != 1 or pred.numel() == 0:
        raise ValueError(
            f"pred and alpha must be alpha mattes of one shape (B, 1, H, W) with at least one pixel, "
            f"got {tuple(pred.shape)} and {tuple(alpha.shape)}; a bare (H, W) matte becomes one with matte[None, None]"
        )
    if region and region[0].shape != pred.shape:
        raise ValueError(
            f"{list(given)[2]} must have the shape of the mattes, {tuple(pred.shape)}, got {tuple(region[0].shape)}; "
            f"say of each pixel where it belongs"
        )
    devices = sorted({str(tensor.device) for tensor in given.values()})
    if len(devices) > 1:
        raise ValueError(
            f"{', '.join(given)} must be on one device, got {' and '.join(devices)}; "
            f"move them with tensor.to(pred.device)"
        )


def _spans(name: str, planes: Tensor) -> list[float]:
    """The highest value of each plane less its lowest, once all are known to be in range."""
    bounds = [torch.stack([_widest(bound) for bound in plane.aminmax()]) for plane in planes]  # nan if any pixel is
    extremes = torch.stack(bounds).tolist()
    for low, high in extremes:
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"{name} must hold finite values in [0, 1], got {low:.9g} to {high:.9g}; "
                f"divide an 8-bit matte by 255, clamp one that overshoots, and find where a nan came from"
            )
    return [high - low for low, high in extremes]
