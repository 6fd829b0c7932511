"""Non-salient foregrounds (NS) that fill the frame: each public function paints one onto a canvas."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from aimmat.data.synthetic.canvas import (
    Array,
    Canvas,
    bezier,
    blur,
    fill,
    mix,
    noise,
    ramp,
    smoothstep,
    stretched,
    strokes,
    tint,
    warp,
)


def smoke(rng: Generator, canvas: Canvas) -> None:
    """Billows of smoke."""
    field = _billow(rng, canvas, rng.uniform(2, 4), rng.uniform(0.2, 0.6))
    alpha = smoothstep(field, rng.uniform(0.1, 0.25), rng.uniform(0.8, 1.0)) * rng.uniform(0.65, 0.95)
    shade, _ = canvas.lit(blur(field, canvas.unit * 0.03) * canvas.unit * 0.7, 0.55)
    canvas.paint(np.maximum(alpha, 0.015), tint(rng, (0, 0.25), (0.4, 0.95)), shade * (0.8 + 0.3 * field))


def fog(rng: Generator, canvas: Canvas) -> None:
    """Fog that thickens towards one side."""
    y, x = np.indices(canvas.shape, np.float32) / np.float32(max(canvas.shape))
    turn = rng.uniform(0, 2 * np.pi)
    slope = stretched(x * np.cos(turn) + y * np.sin(turn))
    field = 0.55 * noise(rng, canvas.shape, 2, 5, 0.45, 1.8) + 0.45 * slope
    low = rng.uniform(0.05, 0.3)
    alpha = low + (rng.uniform(0.55, 0.9) - low) * smoothstep(field, 0.15, 0.85)
    canvas.paint(alpha, mix(tint(rng, (0, 0.3), (0.6, 0.95)), (0.9, 0.92, 0.95), noise(rng, canvas.shape, 2, 2)))


def flames(rng: Generator, canvas: Canvas) -> None:
    """Tongues of fire across the frame."""
    height, _ = canvas.shape
    field = noise(rng, canvas.shape, rng.uniform(3, 5), 5, 0.5)
    sway = canvas.unit * 0.5 * (noise(rng, canvas.shape, 3, 3) - 0.5)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    rise = warp(field, sway * (1.3 - y), np.broadcast_to((0.35 * height * (1 - y)), canvas.shape).astype(np.float32))
    heat = np.clip(1.5 * rise + 0.75 * y - 0.75, 0, 1)
    alpha = smoothstep(heat, 0.05, 0.7) * 0.92
    colours = np.array([(0.5, 0.08, 0.02), (0.9, 0.25, 0.03), (1.0, 0.6, 0.1), (1.0, 0.9, 0.5), (1, 1, 0.9)])
    if rng.uniform() < 0.2:
        colours = colours[:, ::-1]  # blue gas flames
    canvas.paint(np.maximum(alpha, 0.02 * y), ramp(heat, colours))


def net(rng: Generator, canvas: Canvas) -> None:
    """A knotted net hung across the frame."""
    mesh = rng.uniform(0.1, 0.3)
    thread = mesh * rng.uniform(0.07, 0.15)
    lean = rng.uniform(0.5, 1.05)
    grid = _parallel(canvas, mesh, lean) + _parallel(canvas, mesh, -lean)
    height, width = canvas.shape
    sag = rng.uniform(0.1, 0.3) * canvas.unit
    waves = [(rng.normal(0, sag / (k + 1)), rng.uniform(0, 6.3), rng.normal(0, 2.5 * (k + 1), 2)) for k in range(4)]

    def hung(points: Array) -> Array:
        u = points / (width, height)
        shift = sum(a * np.sin(u @ w + p) for a, p, w in waves)
        return points + np.stack([0.5 * shift, shift], -1)

    colour = tint(rng, (0, 0.7), (0.2, 0.95))
    shade = 0.65 + 0.55 * noise(rng, canvas.shape, 5, 5, 0.7)
    threads = [hung(line) for line in grid]
    canvas.paint(strokes(canvas.shape, threads, thread * canvas.unit), colour, shade)
    knots = np.stack([line[::2] for line in threads]).reshape(-1, 1, 2)
    canvas.paint(
        strokes(canvas.shape, np.concatenate([knots, knots + 0.01], 1), 2.2 * thread * canvas.unit), colour * 0.9, shade
    )


def fence(rng: Generator, canvas: Canvas) -> None:
    """Bars, a grid or chain links between the viewer and everything else."""
    metal = mix(tint(rng, (0, 0.8), (0.2, 0.9)), (0.6, 0.62, 0.65), rng.uniform(0, 1))
    bar = rng.uniform(0.02, 0.06)
    turn = rng.normal(0, 0.08)
    kinds = {"bars": (0.0, np.pi / 2), "grid": (0.0, np.pi / 2), "links": (np.pi / 4, -np.pi / 4)}
    kind = rng.choice(list(kinds))
    for k, lean in enumerate(kinds[kind]):
        gap = bar * rng.uniform(3.5, 8) * (4 if kind == "bars" and k == 0 else 1)
        lines = _parallel(canvas, gap, lean + turn)
        if kind == "links":
            lines = [line + rng.normal(0, 0.004 * canvas.unit, line.shape) for line in lines]
        mask = strokes(canvas.shape, lines, bar * canvas.unit * (0.55 if kind == "links" else 1))
        shade, gloss = canvas.relief(mask)
        canvas.paint(
            mask, metal * (1, 0.9)[k], shade * (0.75 + 0.4 * noise(rng, canvas.shape, 6, 5, 0.7)), 0.35 * gloss
        )


def rain(rng: Generator, canvas: Canvas) -> None:
    """Streaks of rain in three depths, with a little mist."""
    slant, white = rng.normal(0, 0.35), tint(rng, (0, 0.2), (0.75, 1))
    canvas.paint(rng.uniform(0.03, 0.12) + 0.1 * noise(rng, canvas.shape, 3, 4), white * 0.85)
    for count, long, wide, strong in ((420, 0.1, 0.006, 0.35), (200, 0.2, 0.009, 0.5), (60, 0.4, 0.014, 0.6)):
        start = rng.uniform(-0.15, 1, (count, 2)) * canvas.shape[::-1]
        way = np.array([slant, 1.0]) * canvas.unit * long * rng.uniform(0.6, 1.4, (count, 1))
        drops = strokes(canvas.shape, np.stack([start, start + way], 1), wide * canvas.unit)
        canvas.paint(blur(drops, 0.5 + 0.004 * canvas.unit) * strong * 1.3, white)


def sparks(rng: Generator, canvas: Canvas) -> None:
    """Sparks flying from a source, each with its glow."""
    source = rng.uniform(0.1, 0.9, 2) * canvas.shape[::-1]
    count, size = rng.integers(250, 500), max(canvas.shape)
    turn, reach = rng.uniform(0, 2 * np.pi, count), size * rng.uniform(0.05, 1, count) ** 0.8
    way = np.stack([np.cos(turn), np.sin(turn)], -1)
    tail = source + way * (reach - size * rng.uniform(0.02, 0.12, count))[:, None]
    tip = source + way * reach[:, None] + np.stack([np.zeros(count), 0.12 * reach**2 / size], -1)
    lines = bezier(tail, (tail + tip) / 2, tip, 5)
    hot = ramp(np.linspace(0, 1, 4)[None], [(1, 0.35, 0.05), (1, 0.7, 0.2), (1, 0.95, 0.7)])[0]
    thin, thick = lines[: count * 3 // 4], lines[count * 3 // 4 :]
    trails = np.maximum(
        strokes(canvas.shape, thin, 0.008 * canvas.unit), strokes(canvas.shape, thick, 0.018 * canvas.unit)
    )
    glow = 1.5 * (blur(trails, canvas.unit * 0.03) + blur(trails, canvas.unit * 0.12))
    haze = rng.uniform(0.02, 0.08) + 0.12 * noise(rng, canvas.shape, 3, 5)
    canvas.paint(np.clip(haze + 0.6 * glow, 0, 0.8), hot[0])
    canvas.paint(0.95 * trails, mix(hot[1], hot[3], smoothstep(glow, 0.1, 0.8)))


def snow(rng: Generator, canvas: Canvas) -> None:
    """Snowflakes near and far."""
    canvas.paint(rng.uniform(0.03, 0.15) + 0.12 * noise(rng, canvas.shape, 3, 4), (0.9, 0.93, 0.97))
    wind = rng.normal(0, 0.03, 2) * canvas.unit
    for count, wide, focus in ((500, 0.012, 0.0), (220, 0.025, 0.008), (60, 0.06, 0.025), (14, 0.13, 0.06)):
        place = rng.uniform(-0.05, 1.05, (count, 1, 2)) * canvas.shape[::-1]
        flakes = strokes(canvas.shape, np.concatenate([place, place + wind * wide * 20 + 0.01], 1), wide * canvas.unit)
        flakes = blur(flakes, 0.4 + focus * canvas.unit)
        canvas.paint(flakes * rng.uniform(0.6, 0.95), (0.97, 0.98, 1.0))


def raindrops(rng: Generator, canvas: Canvas) -> None:
    """Drops of water on a pane that covers the frame."""
    pane = rng.uniform(0.05, 0.15) + 0.12 * noise(rng, canvas.shape, 3, 5, 0.6)
    canvas.paint(pane, tint(rng, (0, 0.2), (0.6, 0.9)))
    count = rng.integers(60, 200)
    sizes = canvas.unit * np.clip(rng.lognormal(-3.4, 0.7, count), 0.01, 0.14)
    places = rng.uniform(0, 1, (count, 2)) * canvas.shape[::-1]
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    r = sizes[:, None] * (
        1
        + 0.06 * np.sin(2 * angle + rng.uniform(0, 6, (count, 1)))
        + 0.05 * np.sin(3 * angle + rng.uniform(0, 6, (count, 1)))
    )
    drops = fill(canvas.shape, places[:, None] + np.stack([r * np.cos(angle), 1.12 * r * np.sin(angle)], -1))
    shade, gloss = canvas.relief(drops, 0.6, 0.0, 60)
    rim = drops * (1 - smoothstep(blur(drops, canvas.unit * 0.012), 0.5, 1))
    canvas.paint(
        drops * np.clip(0.12 + 0.8 * np.abs(shade - 0.75) + 0.25 * rim, 0, 0.85),
        mix((0.05, 0.06, 0.08), (0.95, 0.97, 1), smoothstep(shade, 0.5, 0.95)),
    )
    canvas.paint(drops * np.clip(2 * gloss - 0.9, 0, 0.95), (1, 1, 1))


def _billow(rng: Generator, canvas: Canvas, cells: float, push: float) -> Array:
    """Fractal noise bent by fractal noise, in [0, 1]."""
    amount = push * min(canvas.shape)
    dx, dy = (amount * (noise(rng, canvas.shape, cells, 4) - 0.5) for _ in range(2))
    return stretched(warp(noise(rng, canvas.shape, cells, 7, 0.55), dx, dy))


def _parallel(canvas: Canvas, gap: float, turn: float) -> list[Array]:
    """Straight lines in pixels, gap units apart, that fill the frame."""
    height, width = canvas.shape
    reach = float(np.hypot(height, width)) / 2
    way, side = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    along = np.linspace(-reach, reach, 24)[:, None] * way
    step = gap * canvas.unit
    return [np.array([width, height]) / 2 + along + side * offset for offset in np.arange(-reach, reach, step)]
