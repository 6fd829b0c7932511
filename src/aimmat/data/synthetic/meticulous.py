"""Salient transparent or meticulous foregrounds (STM): each function paints one onto a canvas."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from aimmat.data.synthetic.canvas import (
    Canvas,
    bezier,
    blob,
    blur,
    ellipse,
    hsv,
    mix,
    noise,
    ribbon,
    smoothstep,
    symmetric,
    tint,
    tinted,
    warp,
)


def glass(rng: Generator, canvas: Canvas) -> None:
    """A glass, a vase or a bottle: a body of revolution that shows what is behind it."""
    profiles = (
        ([0, 0.1, 0.35, 0.5, 0.75, 1], [0.13, 0.13, 0.16, 0.3, 0.33, 0.3]),  # bottle
        ([0, 0.3, 0.45, 0.5, 0.93, 1], [0.36, 0.42, 0.3, 0.045, 0.06, 0.33]),  # wine glass
        ([0, 0.5, 1], [0.42, 0.38, 0.32]),  # tumbler
        ([0, 0.15, 0.45, 0.8, 1], [0.28, 0.14, 0.4, 0.36, 0.2]),  # vase
    )
    at, widths = profiles[rng.integers(len(profiles))]
    radius = np.array(widths) * rng.uniform(0.85, 1.2)
    t = np.linspace(0, 1, 64)
    r = cv2.GaussianBlur(np.interp(t, at, radius).reshape(-1, 1), (1, 15), 0, borderType=cv2.BORDER_REPLICATE)[:, 0]
    y = -0.92 + 1.8 * t
    x, row = canvas.units()
    here = np.interp(row, y, r).astype(np.float32)
    across = np.clip(x / here, -1, 1)
    lip = r[-1] * 0.16
    body = canvas.fill(
        np.concatenate([np.stack([r, y], -1), ellipse((0, y[-1]), r[-1], lip)[:36], np.stack([-r, y], -1)[::-1]])
    )
    thick = 1 / np.sqrt(np.maximum(1.02 - across**2, 0.02))  # path through a thin wall
    base = 0.6 * smoothstep(row, y[-1] - 0.1, y[-1] + lip)
    alpha = np.clip(rng.uniform(0.05, 0.16) + 0.075 * (thick - 1) + base, 0, 0.85)
    bands = noise(rng, (8, 256), 0.3, 1)[4]
    tone = np.interp(across, np.linspace(-1, 1, 256), bands).astype(np.float32)
    hue = tint(rng, (0.0, 0.4), (0.75, 1))
    colour = tinted(0.25 + 0.9 * tone * (1 - 0.55 * np.abs(across) ** 6), hue)
    if rng.uniform() < 0.5:
        level = rng.uniform(-0.5, 0.2)
        drink = tint(rng, (0.4, 0.95), (0.4, 0.95))
        wet = smoothstep(row, level, level + 0.015)
        alpha += wet * rng.uniform(0.2, 0.5) * np.sqrt(np.maximum(1 - across**2, 0))
        colour = mix(colour, tinted(0.6 + 0.5 * tone, drink), 0.85 * wet)
    canvas.paint(body * np.clip(alpha, 0, 0.9), colour)
    for at_x, wide, strong in ((rng.uniform(-0.75, -0.5), 0.09, 0.85), (rng.uniform(0.4, 0.7), 0.04, 0.6)):
        broken = smoothstep(np.sin((row + 0.92) * rng.uniform(1.5, 4)), 0.1, 0.5)
        canvas.paint(body * strong * np.exp(-(((across - at_x) / wide) ** 2)) * broken, (1, 1, 1))
    canvas.paint(0.75 * canvas.strokes([ellipse((0, y[0]), r[0], r[0] * 0.16)], 0.016, True), mix(hue, (1, 1, 1), 0.6))
    sides = [np.stack([s * r, y], -1) for s in (-0.985, 0.985)]
    canvas.paint(0.5 * canvas.strokes(sides, 0.012), hue * 0.45)


def crystal(rng: Generator, canvas: Canvas) -> None:
    """A cut stone: facets that mirror and let light through."""
    hue, field = tint(rng, (0.1, 0.8), (0.7, 1)), noise(rng, canvas.shape, 4, 3)
    pale = mix(hue, (1, 1, 1), field)
    count = rng.integers(6, 11)
    radius = np.array([rng.uniform(0.7, 0.9), rng.uniform(0.75, 0.95)])
    angle = 2 * np.pi * (np.arange(count) + rng.uniform(-0.2, 0.2, count)) / count
    rings = [
        np.stack([np.cos(angle + turn), np.sin(angle + turn)], -1) * radius * share
        for turn, share in ((0, 1), (np.pi / count, 0.68), (0, 0.38))
    ]
    facets = [rings[2]]
    for outer, inner, step in ((rings[0], rings[1], 0), (rings[1], rings[2], 1)):
        for k in range(count):
            after = (k + 1) % count
            near = (k + step) % count
            facets += [
                np.stack([outer[k], outer[after], inner[near]]),
                np.stack([inner[k], inner[after], outer[(k + 1 - step) % count]]),
            ]
    for facet in facets:
        bright = rng.uniform() ** 2
        alpha = 0.1 + 0.5 * bright + rng.uniform(0, 0.3) * field
        canvas.paint(canvas.fill(facet) * alpha, pale, 0.4 + 0.7 * bright)
    canvas.paint(0.4 * canvas.strokes(facets, 0.008, True), mix(hue, (1, 1, 1), 0.6))


def bag(rng: Generator, canvas: Canvas) -> None:
    """A thin plastic bag with two handles and many creases."""
    wide = rng.uniform(0.5, 0.65)
    x = np.array([0, 0.35, 0.5, 0.85, 0.95, 1.15, 1, 0]) * wide
    outline = symmetric(x, np.array([-0.28, -0.3, -0.95, -0.95, -0.2, 0.4, 0.9, 0.95]) + rng.normal(0, 0.03, 8))
    body = canvas.fill(outline)
    push = canvas.unit * 0.5
    bend = [push * (noise(rng, canvas.shape, 3, 3) - 0.5) for _ in range(2)]
    folds = 1 - 2 * np.abs(warp(noise(rng, canvas.shape, 5, 4, 0.55), *bend) - 0.5)
    crease = smoothstep(folds, 0.8, 1.0)
    inside = blur(body, canvas.unit * 0.05)
    rim = body * (1 - smoothstep(inside, 0.5, 0.95))
    alpha = body * np.clip(rng.uniform(0.1, 0.3) + 0.18 * folds + 0.45 * crease + 0.25 * rim, 0, 0.92)
    shade, gloss = canvas.lit(folds * canvas.unit * 0.35, 0.6, 12)
    canvas.paint(alpha, tint(rng, (0, 0.5), (0.85, 1)), shade, 0.4 * gloss)
    shine = body * smoothstep(gloss * warp(noise(rng, canvas.shape, 9, 3), *bend), 0.35, 0.7)
    canvas.paint(0.7 * shine, (1, 1, 1))
    if rng.uniform() < 0.4:
        print_mask = body * canvas.fill(blob(rng, (0, 0.35), 0.25, 0.2))
        canvas.paint(print_mask * (0.35 + 0.3 * folds), tint(rng, (0.5, 0.9)), shade)


def veil(rng: Generator, canvas: Canvas) -> None:
    """A hanging veil of fine weave with folds and a hem."""
    x, y = canvas.units()
    top, low = rng.uniform(0.2, 0.5), rng.uniform(0.7, 0.95)
    t = np.linspace(0, 1, 40)
    edge = np.interp(t, [0, 1], [top, low]) + 0.05 * np.sin(t * rng.uniform(3, 9) + rng.uniform(0, 6))
    sway = 0.12 * np.sin(t * rng.uniform(1, 4))
    hang = -0.92 + 1.75 * t
    hem_x = np.linspace(1, -1, 60)
    waves = rng.integers(3, 8)
    hem = np.stack([sway[-1] + edge[-1] * hem_x, hang[-1] + 0.06 * np.sin(hem_x * waves * 2 + 1)], -1)
    left, right = np.stack([sway - edge, hang], -1), np.stack([sway + edge, hang], -1)
    body = canvas.fill(np.concatenate([right, hem, left[::-1]]))
    bend = noise(rng, canvas.shape, 3, 3)
    spread = np.interp(y, hang, edge).astype(np.float32)
    across = (x - np.interp(y, hang, sway).astype(np.float32)) / spread
    phase = across * rng.uniform(7, 16) + 5 * bend
    folds = (0.5 + 0.5 * np.sin(phase)) ** 2
    weave = 0.85 + 0.15 * np.sin(x * 150) * np.sin(y * 150)
    alpha = body * np.clip((rng.uniform(0.15, 0.3) + 0.5 * folds) * weave, 0, 0.92)
    shade, gloss = canvas.lit(0.12 * canvas.unit * folds, 0.55, 10)
    canvas.paint(alpha, tint(rng, (0, 0.35), (0.8, 1)), shade, 0.2 * gloss)
    for lift in (0.0, 0.03, 0.06):
        canvas.paint(rng.uniform(0.4, 0.85) * canvas.strokes([hem - (0, lift)], 0.014), (0.97, 0.96, 0.93))


def lace(rng: Generator, canvas: Canvas) -> None:
    """A lace doily: threads, mesh and petals around a centre."""
    fold, petals = rng.integers(7, 15), rng.integers(2, 5)
    thread, squash = rng.uniform(0.01, 0.016), rng.uniform(0.6, 1.0)
    squeeze = np.array([1, squash])
    angle = np.linspace(0, 2 * np.pi, 361)
    curves, nets = [], []
    radii = np.sort(rng.uniform(0.15, 0.85, petals))
    centres = np.arange(fold) * 2 * np.pi / fold
    for k, radius in enumerate([*radii, 0.92]):
        swing, sharp = rng.uniform(0.02, 0.09), rng.integers(1, 3)
        for gap in (0, 0.03):
            r = radius + gap - swing * np.abs(np.cos(angle * fold * sharp / 2))
            curves.append(np.stack([r * np.cos(angle), r * np.sin(angle)], -1) * squeeze)
        if k % 2 == 0:
            inner = radius * 0.75
            curves += [ellipse((inner * np.cos(c), inner * np.sin(c)), 0.07, 0.045, c) * squeeze for c in centres]
    spokes = int(rng.integers(28, 60))
    for lean in (-1, 1):
        twist = lean * rng.uniform(0.5, 1.4)
        r = np.linspace(0.06, 0.84, 24)
        turn = np.arange(spokes)[:, None] * 2 * np.pi / spokes + twist * r
        nets += list(np.stack([r * np.cos(turn), r * np.sin(turn)], -1) * squeeze)
    colour = tint(rng, (0, 0.25), (0.75, 1))
    texture = 0.75 + 0.3 * noise(rng, canvas.shape, 6, 5, 0.8)
    canvas.paint(canvas.strokes(nets, thread * 0.4), colour * 0.92, texture)
    canvas.paint(canvas.strokes(curves, thread, True), colour, texture)
    flowers = [ellipse((radii[-1] * np.cos(c), radii[-1] * np.sin(c)), 0.05, 0.05) * squeeze for c in centres]
    canvas.paint(0.95 * canvas.fill(*flowers), colour, texture)


def basket(rng: Generator, canvas: Canvas) -> None:
    """A basket of wire with a handle."""
    metal = mix(tint(rng, (0, 0.6), (0.3, 0.9)), (0.7, 0.7, 0.72), rng.uniform(0, 0.8))
    wide, foot, tall = rng.uniform(0.6, 0.85), rng.uniform(0.35, 0.55), rng.uniform(0.7, 1.0)
    wire, flat = rng.uniform(0.016, 0.028), rng.uniform(0.18, 0.3)
    top, low = 0.85 - tall, 0.8
    rows, posts = rng.integers(4, 9), rng.integers(18, 40)
    t = np.linspace(0, 1, rows)
    width = wide + (foot - wide) * t**1.3
    angle = np.linspace(0, np.pi, 48)
    turn = np.linspace(0, np.pi, posts)
    lean = rng.choice([0.0, 0.25])
    for side, dim in ((-1, 0.5), (1, 1.0)):  # the far half, then the near one
        shade = dim * (0.8 + 0.4 * noise(rng, canvas.shape, 4, 3))
        lines = [
            np.stack([w * np.cos(angle), top + (low - top) * s + side * flat * w * np.sin(angle)], -1)
            for w, s in zip(width, t, strict=True)
        ]
        fine = np.linspace(0, 1, 12)
        w = wide + (foot - wide) * fine**1.3
        posts_at = turn[:, None] + lean * fine
        lines_up = np.stack([w * np.cos(posts_at), top + (low - top) * fine + side * flat * w * np.sin(posts_at)], -1)
        canvas.paint(canvas.strokes(lines_up, wire * 0.7), metal, shade)
        canvas.paint(canvas.strokes(lines, wire), metal * 1.05, shade)
        if side == -1:
            floor = [ellipse((0, low), s * foot, s * foot * flat) for s in (0.3, 0.6, 0.9)]
            canvas.paint(canvas.strokes(floor, wire * 0.7, True), metal, shade)
    canvas.paint(canvas.strokes([ellipse((0, top), wide, wide * flat)], wire * 1.8, True), metal * 1.1, shade)
    if rng.uniform() < 0.6:
        arc = np.stack([wide * np.cos(angle), top - (0.9 + top) * np.sin(angle)], -1)
        canvas.paint(canvas.strokes([arc], wire * 2), metal, shade)


def wheel(rng: Generator, canvas: Canvas) -> None:
    """A bicycle wheel."""
    squash = np.array([rng.uniform(0.45, 1.0), 1.0])
    metal, tyre = hsv(0.6, 0.05, rng.uniform(0.55, 0.9)), tint(rng, (0, 0.5), (0.08, 0.3))
    count = 4 * rng.integers(5, 10)
    rim = np.arange(count) * 2 * np.pi / count
    lean = np.where(np.arange(count) % 2, 1, -1) * rng.uniform(0.4, 1.2)
    hub = np.stack([np.cos(rim + lean), np.sin(rim + lean)], -1) * 0.07
    spokes = np.stack([hub, np.stack([np.cos(rim), np.sin(rim)], -1) * 0.83], 1) * squash
    canvas.paint(canvas.strokes(spokes, rng.uniform(0.009, 0.014)), metal, 0.7 + 0.5 * noise(rng, canvas.shape, 6, 3))
    for radius, width, colour in ((0.82, 0.05, metal), (0.9, 0.07, tyre)):
        ring = canvas.strokes([ellipse((0, 0), radius, radius, count=120) * squash], width, True)
        canvas.solid(ring, colour, 0.3)
    for radius, tone in ((0.1, 0.8), (0.05, 0.4)):
        disc = canvas.fill(ellipse((0, 0), radius, radius) * squash)
        canvas.solid(disc, metal * tone, 0.4)


def fern(rng: Generator, canvas: Canvas) -> None:
    """Fronds of many small leaves."""
    hue, count = rng.uniform(0.2, 0.4), rng.integers(2, 5)
    texture = 0.7 + 0.5 * noise(rng, canvas.shape, 8, 4)
    for turn in rng.permutation(np.linspace(-1.0, 1.0, count)):
        green = hsv(hue + rng.normal(0, 0.02), rng.uniform(0.5, 0.85), rng.uniform(0.35, 0.75))
        tip = np.array([np.sin(turn), -np.cos(turn)]) * rng.uniform(1.3, 1.75) + (0, 0.85)
        spine = bezier((0, 0.92), (np.sin(turn) * 0.3, 0.0), np.clip(tip, -0.97, 0.97), 28)
        along = np.gradient(spine, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        size = rng.uniform(0.22, 0.34) * np.sin(np.linspace(0.35, np.pi * 0.98, 28)) ** 0.8
        for side in (-1, 1):
            out = side * np.stack([-along[:, 1], along[:, 0]], -1)
            ends = spine + (0.8 * out + 0.55 * along) * size[:, None]
            twigs = bezier(spine[4:], (spine + out * size[:, None] * 0.5)[4:], ends[4:], 9)
            mask = canvas.fill(
                *(ribbon(twig, [0.005, s * 0.045, s * 0.05, 0.001]) for twig, s in zip(twigs, size[4:], strict=True))
            )
            canvas.paint(0.96 * mask, green * (1.0 if side == 1 else 0.82), texture)
        canvas.paint(canvas.strokes([spine], 0.014), green * 0.6)


def dandelion(rng: Generator, canvas: Canvas) -> None:
    """The seed head of a dandelion on its stem."""
    centre, radius = np.array([rng.uniform(-0.15, 0.15), -0.3]), rng.uniform(0.5, 0.64)
    green = hsv(rng.uniform(0.18, 0.3), 0.5, rng.uniform(0.4, 0.65))
    stem = canvas.fill(ribbon(bezier(centre, (0, 0.4), (rng.uniform(-0.2, 0.2), 1.0), 20), [0.022, 0.028]))
    canvas.solid(stem, green)
    count = rng.integers(110, 190)
    turn, depth = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.uniform(0.02, 1, count))
    keep = np.abs(((turn - rng.uniform(0, 6.28)) + np.pi) % (2 * np.pi) - np.pi) > rng.choice([0.0, 0.5])
    way = np.stack([np.cos(turn), np.sin(turn)], -1)[keep] * depth[keep, None] * radius
    rays = centre + np.stack([0 * way, 0.8 * way], 1)
    canvas.paint(0.9 * canvas.strokes(rays, 0.006), (0.75, 0.7, 0.6))
    white = hsv(0.12, rng.uniform(0, 0.15), rng.uniform(0.88, 1))
    spread = np.arctan2(way[:, 1], way[:, 0])[:, None] + rng.uniform(-1.25, 1.25, (way.shape[0], 22))
    root = centre + way * 0.8
    hairs = np.stack([np.cos(spread), np.sin(spread)], -1) * rng.uniform(0.09, 0.15, (*spread.shape, 1))
    tufts = root[:, None, None] + np.stack([0 * hairs, hairs], 2)
    canvas.paint(0.75 * canvas.strokes(tufts.reshape(-1, 2, 2), 0.005), white)
    canvas.paint(canvas.strokes(centre + np.stack([0.1 * way, 0.28 * way], 1), 0.014), (0.35, 0.24, 0.14))
    heart = canvas.fill(ellipse(centre, 0.06, 0.06))
    canvas.solid(heart, (0.5, 0.45, 0.3))


def twigs(rng: Generator, canvas: Canvas) -> None:
    """A bare tree or a bush in blossom."""
    bark = hsv(rng.uniform(0.04, 0.12), rng.uniform(0.15, 0.5), rng.uniform(0.2, 0.55))
    texture = 0.7 + 0.5 * noise(rng, canvas.shape, 9, 5, 0.7)
    starts, ways, width = np.array([[0.0, 0.98]]), np.array([[0.0, -0.5]]), 0.075
    ends = starts
    for _ in range(7):
        ends = starts + ways
        bends = starts + ways / 2 + rng.normal(0, 0.12, ways.shape) * np.linalg.norm(ways, axis=1, keepdims=True)
        canvas.paint(canvas.strokes(bezier(starts, bends, ends), width), bark, texture)
        count = 2 + (rng.uniform(size=len(ways)) < 0.45)
        parent = np.repeat(np.arange(len(ways)), count)
        turn = rng.normal(0, 0.55, len(parent))
        c, s = np.cos(turn), np.sin(turn)
        way = ways[parent] * rng.uniform(0.6, 0.85, (len(parent), 1))
        ways = np.stack([c * way[:, 0] - s * way[:, 1], s * way[:, 0] + c * way[:, 1]], -1)
        starts, width = ends[parent], width * 0.64
    if rng.uniform() < 0.5:
        petal = tint(rng, (0.2, 0.7), (0.7, 1))
        chosen = ends[rng.uniform(size=len(ends)) < 0.5]
        canvas.paint(
            0.95 * canvas.fill(*(blob(rng, (px, py), rng.uniform(0.012, 0.03), 0.2, 12) for px, py in chosen)),
            petal,
            texture,
        )
