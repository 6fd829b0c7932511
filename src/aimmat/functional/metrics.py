"""The five errors of a predicted matte, on the scales that Table 2 of the AIM paper prints."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from aimmat.functional.filters import gaussian_derivative

_SIGMA = 1.4  # pixels, of the Gaussian whose derivative the gradient error takes (released core/evaluate.py)
_LEVELS = (
    np.arange(11) * 0.1
)  # thresholds of the connectivity error; the seventh is a hair above 153 / 255, as released
_NOTICEABLE = 0.15  # a pixel closer than this to its connected level counts as connected (Rhemann et al., 2009)


def sad(pred: Tensor, alpha: Tensor, region: Tensor | None = None) -> Tensor:
    """Sum of absolute differences, in thousands of pixels; lower is better.

    Args:
        pred: predicted alpha matte, (B, 1, H, W), floating, values in [0, 1].
        alpha: true alpha matte, same shape and range.
        region: the pixels that count, (B, 1, H, W) bool; None counts them all.
            Give it the transition for the "Tran." column.

    Returns:
        (B,) float64 without gradient, from 0 (equal mattes) to H * W / 1000; 0 where the region is empty.

    Raises:
        TypeError: a matte is not a floating tensor, or the region not a bool one.
        ValueError: shapes or devices differ, a matte is empty, or a value is not finite or outside [0, 1].

    Source:
        Rhemann et al., CVPR 2009; divided by 1000 as Table 2 of the AIM paper prints it.

    >>> sad(torch.full((1, 1, 100, 100), 0.75), torch.full((1, 1, 100, 100), 0.5))
    tensor([2.5000], dtype=torch.float64)
    """
    pred, alpha = _checked(pred, alpha, region)
    return _sum((pred - alpha).abs(), region) / 1000


def mse(pred: Tensor, alpha: Tensor, region: Tensor | None = None) -> Tensor:
    """Mean squared error over the pixels that count; lower is better.

    Args:
        pred: predicted alpha matte, (B, 1, H, W), floating, values in [0, 1].
        alpha: true alpha matte, same shape and range.
        region: the pixels that count, (B, 1, H, W) bool; None counts them all.

    Returns:
        (B,) float64 without gradient, in [0, 1]; nan where the region is empty, since no pixel has an error there.

    Raises:
        TypeError, ValueError: as `sad`.

    Source:
        Rhemann et al., CVPR 2009; a plain mean, as Table 2 of the AIM paper prints it.

    >>> mse(torch.full((1, 1, 8, 8), 0.75), torch.full((1, 1, 8, 8), 0.5))
    tensor([0.0625], dtype=torch.float64)
    """
    pred, alpha = _checked(pred, alpha, region)
    return _sum((pred - alpha).square(), region) / _count(pred, region)


def mad(pred: Tensor, alpha: Tensor, region: Tensor | None = None) -> Tensor:
    """Mean absolute difference over the pixels that count; lower is better.

    Args:
        pred: predicted alpha matte, (B, 1, H, W), floating, values in [0, 1].
        alpha: true alpha matte, same shape and range.
        region: the pixels that count, (B, 1, H, W) bool; None counts them all.

    Returns:
        (B,) float64 without gradient, in [0, 1]; nan where the region is empty, since no pixel has an error there.

    Raises:
        TypeError, ValueError: as `sad`.

    Source:
        Table 2 of the AIM paper: SAD times 1000 over the number of pixels.

    >>> mad(torch.full((1, 1, 8, 8), 0.75), torch.full((1, 1, 8, 8), 0.5))
    tensor([0.2500], dtype=torch.float64)
    """
    pred, alpha = _checked(pred, alpha, region)
    return _sum((pred - alpha).abs(), region) / _count(pred, region)


def gradient_error(pred: Tensor, alpha: Tensor, region: Tensor | None = None) -> Tensor:
    """Squared differences between the mattes' gradient magnitudes, summed, in tens; lower is better.

    The gradient is that of the whole matte smoothed by a Gaussian of 1.4 pixels, kept in float32;
    a region only chooses the pixels that are summed.

    Args:
        pred: predicted alpha matte, (B, 1, H, W), floating, values in [0, 1].
        alpha: true alpha matte, same shape and range.
        region: the pixels that count, (B, 1, H, W) bool; None counts them all.

    Returns:
        (B,) float64 without gradient, at least 0; 0 where the region is empty. A missed straight edge costs
        0.02 per pixel of its length.

    Raises:
        TypeError, ValueError: as `sad`.

    Source:
        Rhemann et al., CVPR 2009. Filter and divisor 10 as in the released core/evaluate.py, whose mean over
        pictures is the "Grad." column of Table 2; other toolboxes divide by 1000 and use another filter.

    >>> gradient_error(torch.full((1, 1, 8, 8), 0.75), torch.full((1, 1, 8, 8), 0.5)).round(decimals=6)
    tensor([0.], dtype=torch.float64)
    """
    pred, alpha = _checked(pred, alpha, region)
    return _sum(_gradient_map(pred, alpha), region) / 10


def connectivity_error(pred: Tensor, alpha: Tensor, region: Tensor | None = None) -> Tensor:
    """Difference in how firmly pixels hang on to the object, in thousands of pixels; lower is better.

    At each level 0.1, 0.2, ... 1.0 the largest 4-connected component of the pixels where both mattes reach the
    level is the object. A pixel's connected level is the last one before it leaves the object (1 if it never
    does, or if no pixel reaches the next level). A matte's excess over that level, where at least 0.15, is
    what does not hang together; the error sums how much the two excesses differ. Components are always those
    of the whole picture; a region only chooses the pixels that are summed.

    Components are labelled on the CPU, one picture at a time; tensors of other devices go there and back.
    The mattes are compared with the levels in float64, and an 8-bit value such as 153 / 255 sits on a level:
    for the released figures to the last digit, divide such mattes by 255 in float64.

    Args:
        pred: predicted alpha matte, (B, 1, H, W), floating, values in [0, 1].
        alpha: true alpha matte, same shape and range.
        region: the pixels that count, (B, 1, H, W) bool; None counts them all.

    Returns:
        (B,) float64 without gradient, from 0 to H * W / 1000; 0 where the region is empty.

    Raises:
        TypeError, ValueError: as `sad`.

    Source:
        Rhemann et al., CVPR 2009, as in the released core/evaluate.py: a level that no pixel reaches is
        skipped, and the sum is divided by 1000, the scale of "Conn." in Table 2.

    >>> alpha = torch.zeros(1, 1, 20, 20)
    >>> alpha[..., :10, :] = 1
    >>> pred = alpha.clone()
    >>> pred[..., 15:, :] = 0.5  # 100 pixels, half opaque and cut off from the object
    >>> connectivity_error(pred, alpha)
    tensor([0.0500], dtype=torch.float64)
    """
    pred, alpha = _checked(pred, alpha, region)
    return _sum(_connectivity_map(pred, alpha), region) / 1000


def measure(pred: Tensor, alpha: Tensor, transition: Tensor) -> dict[str, Tensor]:
    """All five errors over the whole picture and over its transition, at the price of measuring once.

    Args:
        pred: predicted alpha matte, (B, 1, H, W), floating, values in [0, 1].
        alpha: true alpha matte, same shape and range.
        transition: where the trimap is 1, (B, 1, H, W) bool.

    Returns:
        `sad mse mad grad conn`, then the same with `_transition`, each (B,) float64 in the unit of its own
        function (`sad`, `mse`, `mad`, `gradient_error`, `connectivity_error`).

    Raises:
        TypeError, ValueError: as `sad`.

    Source:
        Table 2 of the AIM paper, whose "Tran." is `sad_transition`. The release overwrites the prediction by the
        trimap and sums the whole picture: the same wherever the true alpha is 0 or 1 outside the transition.

    >>> scores = measure(torch.full((1, 1, 8, 8), 0.75), torch.full((1, 1, 8, 8), 0.5), torch.eye(8)[None, None] > 0)
    >>> scores["mad_transition"], scores["sad_transition"]
    (tensor([0.2500], dtype=torch.float64), tensor([0.0020], dtype=torch.float64))
    """
    pred, alpha = _checked(pred, alpha, transition)
    difference = (pred - alpha).abs()
    square = difference.square()
    gradient = _gradient_map(pred, alpha)
    connectivity = _connectivity_map(pred, alpha)
    scores = {}
    for suffix, region in (("", None), ("_transition", transition.double())):
        total, pixels = _sum(difference, region), _count(pred, region)
        scores[f"sad{suffix}"] = total / 1000
        scores[f"mse{suffix}"] = _sum(square, region) / pixels
        scores[f"mad{suffix}"] = total / pixels
        scores[f"grad{suffix}"] = _sum(gradient, region) / 10
        scores[f"conn{suffix}"] = _sum(connectivity, region) / 1000
    return scores


def _sum(error: Tensor, region: Tensor | None) -> Tensor:
    """Sum of an error map over the region, (B,) float64."""
    error = error.flatten(1).double()
    return error.sum(dim=1) if region is None else torch.linalg.vecdot(error, region.flatten(1).double())


def _count(matte: Tensor, region: Tensor | None) -> Tensor:
    """Number of pixels that count, (B,) float64."""
    return _sum(torch.ones_like(matte) if region is None else region, None)


def _gradient_map(pred: Tensor, alpha: Tensor) -> Tensor:
    """Squared difference of gradient magnitudes, (B, 1, H, W) float32."""
    # float32, as the release keeps its maps, and half the time of float64; rounding is up to 1e-5 of a small sum
    dy, dx = gaussian_derivative(torch.cat([pred, alpha]).float(), sigma=_SIGMA)
    pred_magnitude, alpha_magnitude = dy.square_().add_(dx.square_()).sqrt_().chunk(2)
    return (pred_magnitude - alpha_magnitude).square_()


def _connectivity_map(pred: Tensor, alpha: Tensor) -> Tensor:
    """Difference of the two mattes' excess over the connected level, (B, 1, H, W) float64."""
    shared = torch.minimum(pred, alpha).cpu().numpy()
    levels = torch.from_numpy(np.stack([_connected_level(matte) for matte in shared[:, 0]])[:, None]).to(pred.device)
    pred_excess, alpha_excess = pred - levels, alpha - levels
    for excess in (pred_excess, alpha_excess):
        excess.masked_fill_(excess < _NOTICEABLE, 0)
    return pred_excess.sub_(alpha_excess).abs_()


def _connected_level(shared: np.ndarray) -> np.ndarray:
    """Last level at which each pixel still belongs to the largest component, (H, W) float32 as released."""
    # Level sets are nested, so a level's largest component lies inside the former's or clear of it. While it lies
    # inside, a pixel's level is the number of components that held it; once clear, no pixel can stay any longer.
    held = np.zeros(shared.shape, np.uint8)
    left, top, width, height = cv2.boundingRect((shared >= _LEVELS[1]).view(np.uint8))
    if width == 0:
        return np.ones(shared.shape, np.float32)
    window = np.s_[top : top + height, left : left + width]  # the other pixels leave at the first level
    values = _LEVELS.astype(np.float32)
    for step in range(1, len(_LEVELS)):
        count, labels = cv2.connectedComponents((shared[window] >= _LEVELS[step]).view(np.uint8), connectivity=4)
        if count == 1:  # background only, here and at every level above
            values[step - 1] = 1
            break
        # labels run in raster order, and on a tie the first component wins
        largest = labels == (1 if count == 2 else 1 + np.bincount(labels.ravel())[1:].argmax())
        if held[window].flat[largest.argmax()] < step - 1:
            break
        held[window] += largest
    return values.take(held)


def _checked(pred: Tensor, alpha: Tensor, region: Tensor | None) -> tuple[Tensor, Tensor]:
    """The two mattes as float64 without gradient, or the sentence that says what is wrong with them."""
    for name, matte in (("pred", pred), ("alpha", alpha)):
        if not isinstance(matte, Tensor) or not matte.is_floating_point():
            raise TypeError(
                f"{name} must be a floating tensor, got {_kind(matte)}; an 8-bit matte becomes one with matte / 255"
            )
    if region is not None and (not isinstance(region, Tensor) or region.dtype != torch.bool):
        raise TypeError(f"region must be a bool tensor, got {_kind(region)}; a trimap becomes one with trimap == 1")
    if pred.shape != alpha.shape or pred.ndim != 4 or pred.shape[1] != 1 or pred.numel() == 0:
        raise ValueError(
            f"pred and alpha must be alpha mattes of one shape (B, 1, H, W) with at least one pixel, "
            f"got {tuple(pred.shape)} and {tuple(alpha.shape)}; a bare (H, W) matte becomes one with matte[None, None]"
        )
    if region is not None and region.shape != pred.shape:
        raise ValueError(
            f"region must have the shape of the mattes, {tuple(pred.shape)}, got {tuple(region.shape)}; "
            f"give a flag for each pixel"
        )
    devices = {str(tensor.device) for tensor in (pred, alpha, region) if tensor is not None}
    if len(devices) > 1:
        raise ValueError(
            f"pred, alpha and region must be on one device, got {' and '.join(sorted(devices))}; "
            f"move them with tensor.to(pred.device)"
        )
    pred, alpha = pred.detach().double(), alpha.detach().double()
    for name, matte in (("pred", pred), ("alpha", alpha)):
        low, high = torch.stack(matte.aminmax()).tolist()  # nan if any pixel is
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"{name} must hold finite values in [0, 1], got {low:g} to {high:g}; "
                f"divide an 8-bit matte by 255, clamp one that overshoots, and find where a nan came from"
            )
    return pred, alpha


def _kind(thing: object) -> str:
    """How an error message names what came."""
    return f"{thing.dtype}" if isinstance(thing, Tensor) else type(thing).__name__
