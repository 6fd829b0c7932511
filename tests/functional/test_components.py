import numpy as np
import pytest
import torch
from scipy import ndimage

from aimmat.functional.components import connected_levels


def levels_by_hand(picture, levels, skip_empty=False):
    """Level by level, with SciPy's labels, which run in raster order."""
    held, object_ = np.zeros(picture.shape, np.uint8), np.ones(picture.shape, bool)
    for level in range(1, levels + 1):
        labels, count = ndimage.label(picture >= level)
        if count == 0:
            break
        largest = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
        object_ &= largest
        held[object_] = level
    return np.where(skip_empty & (held == picture.max()), levels, held)


def spiral(size):
    """One path of pixels that winds from a corner to the middle."""
    picture = np.zeros((size, size), np.uint8)
    y, x, dy, dx = 0, 0, 0, 1
    picture[0, 0] = 1
    for length in [size - 1, *(step for step in range(size - 1, 0, -2) for _ in range(2))]:
        for _ in range(length):
            y, x = y + dy, x + dx
            picture[y, x] = 1
        dy, dx = dx, -dy
    return picture


def steps(size):
    """Levels that rise along rows and fall down columns, with every height next to every other."""
    y, x = np.mgrid[:size, :size]
    return ((x * 7 + y * 3) % 11).astype(np.uint8)


PICTURES = {
    "spiral": spiral(41),
    "spiral of levels": spiral(41) * np.random.default_rng(0).integers(1, 11, (41, 41), dtype=np.uint8),
    "checkerboard": np.indices((12, 13)).sum(0).astype(np.uint8) % 2 * 5,
    "comb": np.tile([[7, 0, 9, 0]], (30, 10)).astype(np.uint8) + (np.arange(30) == 29)[:, None].astype(np.uint8),
    "steps": steps(23),
    "empty": np.zeros((4, 5), np.uint8),
    "full": np.full((4, 5), 10, np.uint8),
    "row": np.array([[0, 1, 3, 3, 2, 0, 3, 3, 0]], np.uint8),
    "column": np.array([[0, 1, 3, 3, 2, 0, 3, 3, 0]], np.uint8).T,
    "pixel": np.array([[4]], np.uint8),
    **{f"noise {n}": np.random.default_rng(n).integers(0, n, (19, 31), dtype=np.uint8) for n in (2, 3, 6, 12)},
    **{f"small {n}": np.random.default_rng(n).integers(0, 4, (4, 5), dtype=np.uint8) for n in range(40)},
}


@pytest.mark.parametrize("skip_empty", [False, True])
@pytest.mark.parametrize("name", PICTURES)
def test_levels_are_those_of_labelling_level_by_level(name, skip_empty):
    picture = torch.from_numpy(PICTURES[name])
    counted = connected_levels([picture], 11, skip_empty)[0]
    assert counted.dtype == torch.uint8
    assert counted.tolist() == levels_by_hand(PICTURES[name], 11, skip_empty).tolist()


def test_pictures_of_one_call_do_not_see_each_other():
    together = connected_levels([torch.from_numpy(picture) for picture in PICTURES.values()], 11)
    for levels, picture in zip(together, PICTURES.values(), strict=True):
        assert torch.equal(levels, connected_levels([torch.from_numpy(picture)], 11)[0])


def test_of_equal_components_the_first_in_raster_order_counts():
    picture = torch.tensor([[0, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0]], dtype=torch.uint8)
    assert connected_levels([picture], 1)[0].tolist() == [[0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert connected_levels([picture.mT.contiguous()], 1)[0].mT.tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]


def test_touching_corners_do_not_connect():
    assert connected_levels([torch.eye(3, dtype=torch.uint8)], 1)[0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
