"""Checkpoints of the networks' public code, recognised by their names and shapes; a file for each layout."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from aimmat.weights import dim, gfm, released, shm, u2net
from aimmat.weights.layout import Imported, Layout, Recognised

# A new one joins with its line here.
LAYOUTS: tuple[Layout, ...] = (
    Layout(released.recognise, released.from_aim),
    Layout(dim.recognise, dim.from_dim),
    Layout(gfm.recognise, gfm.from_gfm),
    Layout(shm.recognise, shm.from_shm),
    Layout(u2net.recognise, u2net.from_u2net),
)


def recognise(weights: Mapping[str, Tensor]) -> tuple[Layout, Recognised] | None:
    """The layout of a file, and what it looks like.

    Args:
        weights: the file's tensors under their names.

    Returns:
        None if no layout knows the names.
    """
    for layout in LAYOUTS:
        if found := layout.recognise(weights):
            return layout, found
    return None


__all__ = ["LAYOUTS", "Imported", "Layout", "Recognised", "recognise"]
