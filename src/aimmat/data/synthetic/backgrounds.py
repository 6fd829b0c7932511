"""Procedural backgrounds, from smooth to busy, so that texture alone does not tell a foreground."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from aimmat.data.synthetic.canvas import (
    Array,
    blur,
    fill,
    hsv,
    mix,
    noise,
    ramp,
    rgb,
    smoothstep,
    stretched,
    strokes,
    tint,
    tinted,
    to_bytes,
    warp,
)


def background(rng: Generator, height: int, width: int) -> Array:
    """A picture (H, W, 3) uint8 of a kind drawn from the generator, in or out of focus, with grain."""
    shape = height, width
    image = _KINDS[rng.integers(len(_KINDS))](rng, shape)
    if rng.uniform() < 0.45:
        image = blur(image, min(shape) * rng.uniform(0.004, 0.03))
    light = rng.uniform(0.8, 1.2) * (1 - rng.uniform(0, 0.45) * smoothstep(noise(rng, shape, 2, 1), 0.2, 1))
    grain = np.float32(rng.uniform(0, 0.035)) * rng.standard_normal(shape, np.float32)
    image = image * rgb(light) + rgb(grain)
    return to_bytes(image)


def _palette(rng: Generator, count: int) -> Array:
    """Colours (count, 3) of neighbouring hues with one stranger, dark and bright mixed."""
    hue, saturation = rng.uniform(), rng.uniform(0.1, 0.7)
    colours = [
        hsv((hue + rng.normal(0, 0.06)) % 1, saturation * rng.uniform(0.6, 1), rng.uniform(0.15, 0.95))
        for _ in range(count)
    ]
    colours[rng.integers(count)] = tint(rng, (0.1, 0.8), (0.3, 0.95))
    return np.stack(colours)


def _clouds(rng: Generator, shape: tuple[int, int]) -> Array:
    """Warped fractal noise through a palette: marble, foliage out of focus, cloth."""
    field = noise(rng, shape, rng.uniform(2, 6), int(rng.integers(1, 7)), 0.55)
    push = min(shape) * rng.uniform(0, 0.5)
    field = warp(field, push * (noise(rng, shape, 3, 2) - 0.5), push * (noise(rng, shape, 3, 2) - 0.5))
    return ramp(field, _palette(rng, int(rng.integers(3, 7))))


def _bokeh(rng: Generator, shape: tuple[int, int]) -> Array:
    """A gradient with discs of light out of focus."""
    height, width = shape
    side = min(shape)
    slope = noise(rng, shape, 2, 1)
    image = ramp(slope, _palette(rng, 3) * rng.uniform(0.3, 1))
    lights = _palette(rng, 4)
    for _ in range(rng.integers(8, 40)):
        radius = side * rng.uniform(0.01, 0.09)
        angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        disc = np.stack([np.cos(angle), np.sin(angle)], -1) * radius + rng.uniform(0, (width, height))
        x, y, w, h = cv2.boundingRect(disc.astype(np.int32))
        left, top = max(x - 2, 0), max(y - 2, 0)
        area = image[top : y + h + 3, left : x + w + 3]
        if area.size == 0:
            continue
        mask = fill(area.shape[:2], [disc - (left, top)])
        area[:] = mix(area, np.maximum(lights[rng.integers(4)], 0.3) * 1.1, mask * rng.uniform(0.15, 0.6))
    return image


def _stripes(rng: Generator, shape: tuple[int, int]) -> Array:
    """Planks, wallpaper or curtains: bands at an angle, each of its own tone, with grain along them."""
    y, x = np.indices(shape, np.float32) / np.float32(min(shape))
    turn = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    across = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    across = across * rng.uniform(4, 14) + rng.uniform(0, 9) + 0.3 * rng.choice([0, 1]) * noise(rng, shape, 2, 2)
    band = np.floor(across).astype(int)
    tones = rng.uniform(0.65, 1.05, 97).astype(np.float32)
    colours = _palette(rng, 2 if rng.uniform() < 0.5 else 1)
    image = colours[band % len(colours)] * rgb(tones[band % 97])
    gap = smoothstep(np.abs(across - band - 0.5), 0.5 - rng.uniform(0.03, 0.3), 0.5)
    grain = noise(rng, shape, 5, 6, 0.7)
    return image * rgb(1 - 0.5 * gap + 0.4 * (grain - 0.5))


def _tiles(rng: Generator, shape: tuple[int, int]) -> Array:
    """Bricks, tiles or a chequered cloth."""
    y, x = np.indices(shape, np.float32) / np.float32(min(shape))
    rows, ratio = rng.uniform(4, 11), rng.choice([1.0, 2.2])
    shear = rng.uniform(-0.2, 0.2)
    v = (y + shear * x) * rows
    u = (x - shear * y) * rows / ratio + 0.5 * (np.floor(v) % 2) * (ratio > 1)
    cell = np.floor(u).astype(int) * 7 + np.floor(v).astype(int) * 13
    tones = rng.uniform(0.7, 1.05, 101).astype(np.float32)
    colours = _palette(rng, int(rng.integers(1, 4)))
    image = colours[(np.floor(u) + np.floor(v)).astype(int) % len(colours)] * rgb(tones[cell % 101])
    edge = np.maximum(np.abs(u - np.floor(u) - 0.5), np.abs(v - np.floor(v) - 0.5))
    joint = smoothstep(edge, 0.42, 0.48)
    rough = 0.75 + 0.4 * noise(rng, shape, 8, 5, 0.7)
    return mix(image, tint(rng, (0, 0.2), (0.2, 0.9)), joint) * rgb(rough)


def _shelves(rng: Generator, shape: tuple[int, int]) -> Array:
    """Boards with books and boxes of many colours."""
    height, width = shape
    image = np.empty((*shape, 3), np.float32)
    image[:] = tint(rng, (0.1, 0.5), (0.1, 0.4))
    board, colours = tint(rng, (0.2, 0.6), (0.4, 0.8)), _palette(rng, 9)
    step = max(10, round(min(shape) * rng.uniform(0.2, 0.4)))
    for bottom in range(step - rng.integers(step // 2), height + step, step):
        x = 0
        while x < width:
            w, h = max(2, round(step * rng.uniform(0.08, 0.35))), round(step * rng.uniform(0.45, 0.85))
            if rng.uniform() < 0.88:
                across = np.sin(np.linspace(0.4, 2.6, w, dtype=np.float32))[:, None]
                colour = colours[rng.integers(9)] * rng.uniform(0.6, 1.05)
                book = image[max(bottom - h, 0) : max(bottom, 0), x : x + w]
                book[:] = colour * across[: book.shape[1]]
                book[h // 6 : h // 4] *= 0.7
            x += w
        image[max(bottom, 0) : bottom + max(1, step // 10)] = board
    return image * rgb(0.75 + 0.35 * noise(rng, shape, 3, 4))


def _landscape(rng: Generator, shape: tuple[int, int]) -> Array:
    """Sky with clouds, ridges fading with distance, a textured ground."""
    height, width = shape
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    hue = rng.choice([0.58, 0.55, 0.08, 0.95])
    top, low = hsv(hue, rng.uniform(0.3, 0.7), rng.uniform(0.5, 0.9)), hsv(hue, 0.12, rng.uniform(0.8, 1.0))
    image = mix(top, low, np.broadcast_to(y * 1.5, shape).clip(0, 1))
    clouds = smoothstep(noise(rng, shape, 2, 6, 0.55, 2.0), 0.5, 0.85)
    image = mix(image, (1, 0.98, 0.96), 0.8 * clouds)
    near = hsv(rng.uniform(0.1, 0.45), rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.6))
    count = rng.integers(2, 6)
    for depth, level in enumerate(np.linspace(rng.uniform(0.3, 0.5), rng.uniform(0.65, 0.9), count)):
        share = (depth + 1) / count
        ridge = level + rng.uniform(0.05, 0.25) * (_profile(rng, width) - 0.5)
        mask = np.clip((y - ridge) * height + 0.5, 0, 1)
        texture = 0.7 + 0.6 * noise(rng, shape, 6 + 4 * share, 6, 0.75, 1.5) * share
        image = mix(image, mix(low, near * rng.uniform(0.8, 1.2), share) * rgb(texture), mask)
    return image


def _profile(rng: Generator, width: int) -> Array:
    """A rough line (width,) in [0, 1]: hills, or the tops of trees."""
    at, line = np.arange(width), np.zeros(width)
    for octave in range(rng.integers(3, 8)):
        knots = 3 * 2**octave
        line += rng.uniform(0.4, 0.6) ** octave * np.interp(at, np.linspace(0, width, knots), rng.uniform(0, 1, knots))
    return stretched(line)


def _foliage(rng: Generator, shape: tuple[int, int]) -> Array:
    """Leaves or grass in layers from dark to bright: as fine as a fine foreground."""
    height, width = shape
    t = np.linspace(0, 1, 7)[:, None]
    colours = hsv(rng.uniform(0.08, 0.45), rng.uniform(0.3, 0.8), 1.0)
    image = tinted(0.08 + 0.2 * noise(rng, shape, 4, 4), colours)
    grass, size = rng.uniform() < 0.5, min(shape) * rng.uniform(0.08, 0.25)
    for tone in np.linspace(0.25, 0.85, 4):
        count = int(2 * height * width / size**2) + 4
        root = rng.uniform((0, 0), (width, height * (1.2 if grass else 1)), (count, 2))
        turn = rng.normal(-np.pi / 2, 0.35, count) if grass else rng.uniform(0, 6.3, count)
        way = np.stack([np.cos(turn), np.sin(turn)], -1) * size * rng.uniform(0.6, 1.3, (count, 1))
        side = np.stack([-way[:, 1], way[:, 0]], -1)[:, None] * (0.06 if grass else rng.uniform(0.2, 0.35))
        curve = root[:, None] + way[:, None] * t + side * 0.8 * t**2
        belly = side * np.sin(np.pi * t)
        mask = fill(shape, np.concatenate([curve + belly, (curve - belly)[:, ::-1]], 1))
        vein = strokes(shape, curve, 0.5)
        image = mix(image, colours * tone * rng.uniform(0.7, 1.2, 3), mask * (1 - 0.3 * vein))
    return image


def _room(rng: Generator, shape: tuple[int, int]) -> Array:
    """A wall, a floor, and frames or windows on the wall."""
    height, width = shape
    paint = tint(rng, (0.05, 0.5), (0.45, 0.95))
    wall = tinted(0.8 + 0.25 * noise(rng, shape, 2, 5, 0.6), paint)
    floor = _stripes(rng, shape) * 0.8
    level = height * rng.uniform(0.62, 0.9)
    y = np.arange(height, dtype=np.float32)[:, None]
    image = np.where((y > level)[..., None], floor, wall)
    image[(np.abs(y - level) < height * 0.012)[:, 0]] *= 0.5
    for _ in range(rng.integers(1, 5)):
        w, h = (min(shape) * rng.uniform(0.15, 0.45, 2)).astype(int)
        left, top = rng.integers(-w // 2, width - w // 3), rng.integers(0, max(1, int(level) - h // 2))
        outer = image[top : min(top + h, int(level)), max(left, 0) : left + w]
        outer[:] = tint(rng, (0, 0.6), (0.1, 0.9))
        edge = max(1, w // 12)
        inner = outer[edge:-edge, edge:-edge]
        if min(inner.shape[:2]) >= 8:
            inner[:] = _clouds(rng, inner.shape[:2])
    return image


_KINDS: tuple[Callable[[Generator, tuple[int, int]], Array], ...] = (
    _clouds,
    _clouds,
    _bokeh,
    _bokeh,
    _stripes,
    _tiles,
    _shelves,
    _landscape,
    _landscape,
    _foliage,
    _room,
)
