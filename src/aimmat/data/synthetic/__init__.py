"""Procedural scenes drawn from a seed: any number, any size, exact alpha, no file needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from aimmat.data.synthetic import diffuse, meticulous, opaque
from aimmat.data.synthetic.backgrounds import background
from aimmat.data.synthetic.canvas import Canvas
from aimmat.schema import Category, ImageType, Scene

__all__ = ["FAMILIES", "scene"]

_DRAWINGS: dict[str, tuple[ImageType, Category, Callable[[Generator, Canvas], None]]] = {
    "quadruped": (ImageType.SO, Category.ANIMAL, opaque.quadruped),
    "fluffy": (ImageType.SO, Category.ANIMAL, opaque.fluffy),
    "portrait": (ImageType.SO, Category.PORTRAIT, opaque.portrait),
    "chair": (ImageType.SO, Category.FURNITURE, opaque.chair),
    "table": (ImageType.SO, Category.FURNITURE, opaque.table),
    "robot": (ImageType.SO, Category.TOY, opaque.robot),
    "rings": (ImageType.SO, Category.TOY, opaque.rings),
    "fruit": (ImageType.SO, Category.FRUIT, opaque.fruit),
    "potted": (ImageType.SO, Category.PLANT, opaque.potted),
    "glass": (ImageType.STM, Category.TRANSPARENT, meticulous.glass),
    "crystal": (ImageType.STM, Category.TRANSPARENT, meticulous.crystal),
    "bag": (ImageType.STM, Category.TRANSPARENT, meticulous.bag),
    "veil": (ImageType.STM, Category.TRANSPARENT, meticulous.veil),
    "lace": (ImageType.STM, Category.TRANSPARENT, meticulous.lace),
    "basket": (ImageType.STM, Category.FURNITURE, meticulous.basket),
    "wheel": (ImageType.STM, Category.TOY, meticulous.wheel),
    "fern": (ImageType.STM, Category.PLANT, meticulous.fern),
    "dandelion": (ImageType.STM, Category.PLANT, meticulous.dandelion),
    "twigs": (ImageType.STM, Category.PLANT, meticulous.twigs),
    "smoke": (ImageType.NS, Category.OTHER, diffuse.smoke),
    "fog": (ImageType.NS, Category.OTHER, diffuse.fog),
    "flames": (ImageType.NS, Category.OTHER, diffuse.flames),
    "net": (ImageType.NS, Category.OTHER, diffuse.net),
    "fence": (ImageType.NS, Category.OTHER, diffuse.fence),
    "rain": (ImageType.NS, Category.OTHER, diffuse.rain),
    "sparks": (ImageType.NS, Category.OTHER, diffuse.sparks),
    "snow": (ImageType.NS, Category.OTHER, diffuse.snow),
    "raindrops": (ImageType.NS, Category.TRANSPARENT, diffuse.raindrops),
}

FAMILIES = {name: (image_type, category) for name, (image_type, category, _) in _DRAWINGS.items()}


def scene(
    seed: int,
    size: int | tuple[int, int] = 512,
    image_type: ImageType | None = None,
    category: Category | None = None,
    family: str | None = None,
) -> Scene:
    """Draw one scene; the same arguments give the same bytes.

    Args:
        seed: from 0 upwards; each seed is another picture.
        size: (height, width) in pixels, each at least 32; an int means a square.
        image_type: draw only families of this type.
        category: draw only families of this category.
        family: draw this family, a key of `FAMILIES`.

    Returns:
        The scene in layers. Background and foreground share nothing but the seed. The foreground's colour is
        continued past the edge of the matte, so it is valid at every pixel.

    Raises:
        ValueError: for a negative seed, a side below 32, an unknown family, or a pair of type and category that no
            family has.

    >>> scene(0, (32, 48), ImageType.NS).alpha.shape
    (32, 48)
    >>> FAMILIES["smoke"]
    (<ImageType.NS: 'NS'>, <Category.OTHER: 'other'>)
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 32:
        raise ValueError(
            f"a synthetic scene needs a size of (height, width), each at least 32 pixels, got {size!r}; (64, 96) is one"
        )
    height, width = sides
    if seed < 0:
        raise ValueError(f"the seed of a synthetic scene must be 0 or more, got {seed}; abs(seed) is one")
    choice = _matching(image_type, category, family)
    rng = np.random.default_rng(seed)
    name = choice[rng.integers(len(choice))]
    kind, shown, draw = _DRAWINGS[name]
    canvas = Canvas(rng, height, width)
    draw(rng, canvas)
    foreground, alpha = canvas.layers()
    return Scene(foreground, alpha, background(rng, height, width), kind, shown, f"{name}_{seed}")


def _matching(image_type: ImageType | None, category: Category | None, family: str | None) -> list[str]:
    """Names of the families that fit all three wishes."""
    if family is not None and family not in FAMILIES:
        raise ValueError(f"there is no synthetic family {family!r}; the families are {', '.join(FAMILIES)}")
    names = [
        name
        for name, (kind, shown) in FAMILIES.items()
        if family in (None, name) and image_type in (None, kind) and category in (None, shown)
    ]
    if not names:
        asked = ", ".join(
            f"{key}={value}"
            for key, value in {"image_type": image_type, "category": category, "family": family}.items()
            if value is not None
        )
        possible = ", ".join(dict.fromkeys(f"{kind} {shown}" for kind, shown in FAMILIES.values()))
        raise ValueError(f"no synthetic family has {asked}; the possible pairs of type and category are {possible}")
    return names
