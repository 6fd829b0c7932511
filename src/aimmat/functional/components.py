"""The largest 4-connected component at every level of a picture, for several pictures at once and on any device.

Level sets are nested: what is connected at a level stays connected below it, so one sweep from the highest level to
the lowest serves all of them. It does not look at pixels but at peaks, stretches of a row that are higher than what
lies beside them: whatever slopes down from a peak belongs to it at every level that it reaches. A matte of six million
pixels has a few ten thousand peaks, and noise one peak for three pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class _Landscape(NamedTuple):
    """A picture as runs, the level stretches of its rows, as peaks, and as the paths that lead from peak to peak."""

    starts: Tensor  # (runs,) int64, the first pixel of each in row-major order
    sizes: Tensor  # (runs,) int64, pixels
    heights: Tensor  # (runs,) uint8
    peaks: Tensor  # (runs,) int64, the peak above each; any where the height is 0
    num_peaks: int  # 1 or more
    paths: tuple[Tensor, Tensor, Tensor]  # (paths,): from a peak, to a peak, the height of the lowest run between them


def connected_levels(pictures: Sequence[Tensor], levels: int, skip_empty: bool = False) -> list[Tensor]:
    """How many levels, counted from 1, each pixel belongs to the largest component of its picture.

    The count ends below a level whose largest component is not part of the last one: none of those above can be.

    Args:
        pictures: (H, W) uint8 each, of any sizes, on one device: how many levels a pixel reaches.
        levels: how many levels there are, 255 or less.
        skip_empty: whether levels that no pixel of a picture reaches count for all that belong until then.

    Returns:
        (H, W) uint8 for each picture. Of components equally large, the one met first row by row is the largest.

    >>> picture = torch.tensor([[2, 1, 0, 2, 1], [1, 1, 0, 2, 0]], dtype=torch.uint8)
    >>> connected_levels([picture], levels=2)[0].tolist()
    [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0]]
    """
    first, scenes = [0], []
    for picture in pictures:
        scenes.append(_landscape(picture, first[-1]))
        first.append(first[-1] + scenes[-1].num_peaks)
    sizes, heights, peaks = (torch.cat(parts) for parts in zip(*(scene[1:4] for scene in scenes), strict=True))
    start, end, lowest = (torch.cat(parts) for parts in zip(*(scene.paths for scene in scenes), strict=True))
    num_peaks = torch.tensor([scene.num_peaks for scene in scenes], device=peaks.device)
    owner = torch.repeat_interleave(num_peaks, output_size=first[-1])  # (peaks,), the picture of each

    root = torch.arange(first[-1], device=peaks.device)  # the first peak of each peak's component
    area = torch.zeros_like(root)  # pixels of a component, at its root
    held = torch.zeros_like(root, dtype=torch.uint8)  # levels at which a peak is in the largest component
    largest = winner = torch.zeros_like(num_peaks)  # the root of each picture's largest component
    empty = torch.ones_like(num_peaks, dtype=torch.bool)  # whether no pixel reaches the level
    for level in range(levels, 0, -1):
        reached = _places(lowest == level)
        root = _joined(root, _at(start, reached), _at(end, reached))
        new = _places(heights == level)
        area = torch.zeros_like(area).index_add_(0, root, area)
        area.index_add_(0, _at(root, _at(peaks, new)), _at(sizes, new))
        # the first peak of a component is in its first row, so the first maximum is the component that is met first
        winner = torch.stack([area[i:j].argmax() + i for i, j in pairwise(first)])
        apart = ~empty & (_at(root, largest) != winner)
        held.masked_fill_(_at(apart, owner), 0)
        largest, empty = winner, _at(area, winner) == 0
        held.masked_fill_((root == _at(winner, owner)) & (held == 0) & ~_at(empty, owner), level)
    counts = torch.split(torch.minimum(heights, _at(held, peaks)), [len(scene.starts) for scene in scenes])
    painted = []
    for count, scene, picture in zip(counts, scenes, pictures, strict=True):
        whole = count.masked_fill(count == scene.heights.max(), levels) if skip_empty else count
        steps = torch.zeros_like(picture.flatten())
        steps[scene.starts] = torch.diff(whole, prepend=whole.new_zeros(1))  # modulo 256, as are the sums
        painted.append(steps.cumsum(0, dtype=torch.uint8).view_as(picture))
    return painted


def _landscape(picture: Tensor, first_peak: int) -> _Landscape:
    """Runs, peaks and paths of one picture; its peaks are numbered from first_peak on."""
    width, flat = picture.shape[1], picture.flatten()
    begins = torch.ones_like(flat, dtype=torch.bool)  # whether a run begins at the pixel
    torch.ne(flat[1:], flat[:-1], out=begins[1:])
    begins[::width] = True
    starts = _places(begins)
    heights = _at(flat, starts)
    left, right = _beside(heights, starts % width == 0)
    passed = ((heights > left) & (heights > right)).cumsum(0)  # peaks up to and including this run
    peaks = (first_peak - 1 + passed + (right > heights)).masked_fill_(heights == 0, first_peak)
    valley = _places((heights < left) & (heights < right))
    along = _at(peaks, valley) - 1, _at(peaks, valley), _at(heights, valley)

    # from row to row: stretches over which neither of two rows changes
    place = _places(begins[:-width] | begins[width:])
    upper = _at(begins, place).cumsum(0) - 1  # runs
    lower = _at(begins, place + width).cumsum(0) + (begins[:width].sum() - 1)
    height = torch.minimum(_at(heights, upper), _at(heights, lower))
    left, right = _beside(height, place % width == 0)
    best = _places((height > left) & (height >= right))  # a lower one only repeats the way beside it
    down = _at(peaks, _at(upper, best)), _at(peaks, _at(lower, best)), _at(height, best)

    sizes = torch.diff(starts, append=starts.new_tensor([flat.numel()]))
    paths = torch.cat([along[0], down[0]]), torch.cat([along[1], down[1]]), torch.cat([along[2], down[2]])
    return _Landscape(starts, sizes, heights, peaks, max(1, int(passed[-1])), paths)


def _beside(heights: Tensor, row_begins: Tensor) -> tuple[Tensor, Tensor]:
    """What lies left and right of each stretch, 0 beyond the ends of its row."""
    left = heights.roll(1).masked_fill_(row_begins, 0)
    return left, heights.roll(-1).masked_fill_(row_begins.roll(-1), 0)


def _joined(root: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Roots after components have been joined by paths: the smallest in each new component."""
    while True:
        start, end = _at(root, start), _at(root, end)
        apart = _places(start != end)
        if len(apart) == 0:
            return root
        start, end = _at(start, apart), _at(end, apart)
        higher = torch.maximum(start, end)
        root = root.scatter_reduce(0, higher, torch.minimum(start, end), "amin")
        while not torch.equal(above := _at(root, below := _at(root, higher)), below):
            root[higher] = above
        root = _at(root, root)


def _at(values: Tensor, places: Tensor) -> Tensor:
    return values.index_select(0, places)  # a third of the time of values[places]


def _places(mask: Tensor) -> Tensor:
    """Where a one-dimensional mask is true, (places,) int64."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))  # in a third of the time
    return mask.nonzero().squeeze(1)
