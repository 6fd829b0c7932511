"""From a picture and its matte to a cut-out: colours without the old background, alone or on a new one."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from torch import Tensor

from aimmat.images import to_uint8
from aimmat.schema import AimmatError

Foreground = Literal["ml", "blend", "none"]


def foreground_colours(image: Tensor, alpha: Tensor, fg: Foreground = "ml") -> Tensor:
    """Colours of the foreground alone; where alpha is between 0 and 1, a picture's own are mixed with what is behind.

    Args:
        image: (B, 3, H, W) in [0, 1].
        alpha: (B, 1, H, W) in [0, 1].
        fg: "ml" solves for them on several levels, "blend" blurs them outwards, which is quicker and coarser; "none"
            returns the picture's own, whose edges keep a halo of the old background.

    Returns:
        (B, 3, H, W) in [0, 1].

    Raises:
        AimmatError: none of these words.
    """
    if fg not in get_args(Foreground):
        raise AimmatError(f"fg must be {', '.join(get_args(Foreground)[:-1])} or none, got {fg!r}")
    if fg == "none":
        return image
    from aimmat.functional.foreground import blend_foreground, estimate_foreground

    return (blend_foreground if fg == "blend" else estimate_foreground)(image, alpha)[0]


def cut_out(colours: np.ndarray, alpha: np.ndarray, premultiplied: bool = False) -> np.ndarray:
    """Colours and alpha in one picture.

    Args:
        colours: of the foreground, (H, W, 3) uint8.
        alpha: (H, W), floating-point values in [0, 1].
        premultiplied: multiply the colours by alpha, as compositing programs store them; PNG and WebP mean straight
            ones.

    Returns:
        (H, W, 4) uint8. Nothing of the picture is left where alpha is 0: straight colours are black there too.

    >>> cut_out(np.full((1, 3, 3), 200, np.uint8), np.array([[0, 0.5, 1]]))[..., [0, 3]].tolist()
    [[[0, 0], [200, 128], [200, 255]]]
    """
    levels = to_uint8(alpha)
    if premultiplied:
        colours = _to_levels(colours * alpha[..., None].astype(np.float32))
    else:
        colours = colours * (levels[..., None] > 0)
    return np.dstack([colours, levels])


def lay_on(background: np.ndarray, colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The foreground on another background.

    Args:
        background: (H, W, 3) uint8, or a colour, (3,) uint8.
        colours: of the foreground, (H, W, 3) uint8.
        alpha: (H, W), floating-point values in [0, 1].

    Returns:
        (H, W, 3) uint8.

    >>> lay_on(np.zeros(3, np.uint8), np.full((1, 3, 3), 200, np.uint8), np.array([[0, 0.5, 1]]))[..., 0].tolist()
    [[0, 100, 200]]
    """
    weight = alpha[..., None].astype(np.float32)
    return _to_levels(weight * colours + (1 - weight) * background)


def _to_levels(colours: np.ndarray) -> np.ndarray:
    levels: np.ndarray = np.rint(colours).astype(np.uint8)
    return levels
