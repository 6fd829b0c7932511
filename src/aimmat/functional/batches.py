"""From the uint8 layers that workers deliver to the batch that a network learns from, on the layers' device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from aimmat.functional.compositing import composite, rssn
from aimmat.functional.trimap import generalise, trimap_from_alpha
from aimmat.schema import Batch, Layers

REPRESENTATIONS = ("unified", "trimap")


def compose(
    layers: Layers,
    augment: bool,
    representation: str = "unified",
    trimap_kernel: int = 30,
    rssn_options: Mapping[str, Any] | None = None,
) -> Batch:
    """Composite a batch and derive its targets.

    Args:
        layers: foreground, background (B, 3, H, W) and alpha (B, 1, H, W), uint8; type, category, scale, seed, name;
            trimap (B, 1, H, W), class indices, where the data set has its own.
        augment: apply RSSN, drawn for each sample from its own seed; False composites as it is.
        representation: target of the semantic decoder, "unified" (equation 1; the switch UNI) or "trimap".
        trimap_kernel: width of erosion and dilation, pixels of the scene before it was resized by `scale`; of trimaps
            that are made from alpha.
        rssn_options: arguments of `aimmat.functional.rssn`.

    Returns:
        The batch, float in [0, 1].

    Raises:
        ValueError: unknown representation.
    """
    if representation not in REPRESENTATIONS:
        raise ValueError(f"representation must be one of {', '.join(REPRESENTATIONS)}, got {representation!r}")
    foreground, background, alpha = (layers[name].float() / 255 for name in ("foreground", "background", "alpha"))  # type: ignore[literal-required]
    if augment:
        generators = [torch.Generator(alpha.device).manual_seed(int(seed)) for seed in layers["seed"]]
        image, foreground, background = rssn(
            foreground, background, alpha, layers["type"], generators, scale=layers["scale"], **(rssn_options or {})
        )
    else:
        image = composite(foreground, background, alpha)
    trimap = layers["trimap"].long() if "trimap" in layers else _trimap(alpha, layers["scale"], trimap_kernel)
    return {
        "image": image,
        "alpha": alpha,
        "trimap": trimap,
        "semantic": generalise(trimap, layers["type"]) if representation == "unified" else trimap,
        "foreground": foreground,
        "background": background,
        "type": layers["type"],
        "category": layers["category"],
        "name": layers["name"],
    }


def _trimap(alpha: torch.Tensor, scale: torch.Tensor, kernel: int) -> torch.Tensor:
    """Each sample's kernel follows its own scale; samples of one kernel are done together."""
    kernels = (scale * kernel).round().clamp(min=1).long()
    trimap = torch.empty_like(alpha, dtype=torch.long)
    for size in sorted(set(kernels.tolist())):
        mine = kernels == size
        trimap[mine] = trimap_from_alpha(alpha[mine], size)
    return trimap
