"""Salient opaque foregrounds (SO): each public function paints one onto a canvas."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from aimmat.data.synthetic.canvas import (
    Array,
    Canvas,
    around,
    bezier,
    blur,
    ellipse,
    hsv,
    mix,
    noise,
    ramp,
    rgb,
    ribbon,
    smoothstep,
    strokes,
    symmetric,
    tint,
)


def quadruped(rng: Generator, canvas: Canvas) -> None:
    """A furry animal seen from the side."""
    coat = _coat(rng, canvas)
    length, leg, plump = rng.uniform(0.45, 0.62), rng.uniform(0.3, 0.55), rng.uniform(0.2, 0.34)
    top = 0.9 - leg - plump
    thick = rng.uniform(0.055, 0.1)
    hip, chest = -length, length * 0.75
    masks = []
    for step, dim in ((0.06, 0.62), (-0.04, 1.0)):  # the far legs, then the near ones
        legs = []
        for x in (hip + step, chest - step):
            foot = x + rng.uniform(-0.1, 0.12)
            spine = bezier((x, top), (x + rng.uniform(-0.08, 0.08), top + plump), (foot, 0.88), 12)
            legs.append(ribbon(spine, [thick * 2, thick * 1.5, thick, thick * 0.9]))
            legs.append(ellipse((foot + thick * 0.5, 0.88), thick * 1.5, thick * 0.8))
        masks.append((canvas.fill(*legs), dim))
    bend, end = rng.uniform((-0.5, -0.4), (0.2, 0.6))
    tail = bezier((hip, top), (hip - 0.35, top + bend), (hip - 0.32, top + end), 16)
    masks.insert(1, (canvas.fill(ribbon(tail, [0.06, 0.07, 0.06, 0.01])), 0.9))
    body = canvas.fill(
        ellipse(((hip + chest) / 2, top), (chest - hip) / 2 + 0.1, plump * 0.9, power=2.4),
        ellipse((chest - 0.02, top), plump * 0.95, plump * 1.05),
        ellipse((hip + 0.05, top), plump * 0.95, plump),
    )
    masks.append((body, 1.0))
    hx, hy, hr = chest + rng.uniform(0.18, 0.3), top - rng.uniform(0.25, 0.45), rng.uniform(0.16, 0.22)
    neck = bezier((chest - 0.1, top), (chest + 0.1, top - 0.1), (hx - 0.03, hy), 10)
    masks.append((canvas.fill(ribbon(neck, [0.24, 0.17, hr * 0.8])), 1.0))
    masks.append((_ear(canvas, hx - hr * 0.55, hy - hr * 0.6, -0.5, hr), 0.7))
    muzzle = ellipse((hx + hr * 0.95, hy + hr * 0.35), hr * 0.62, hr * 0.45, 0.2)
    masks.append((canvas.fill(ellipse((hx, hy), hr * 1.05, hr), muzzle), 1.0))
    masks.append((_ear(canvas, hx - hr * 0.2, hy - hr * 0.8, 0.05, hr), 0.95))
    for mask, dim in masks:
        _furry(rng, canvas, mask, coat * dim, rng.uniform(0.03, 0.05))
    _eye(canvas, hx + hr * 0.3, hy - hr * 0.15, hr * 0.17, (0.25, 0.13, 0.05))
    nose = canvas.fill(ellipse((hx + hr * 1.45, hy + hr * 0.2), hr * 0.16, hr * 0.13))
    canvas.solid(nose, (0.1, 0.08, 0.08), 1.0)


def fluffy(rng: Generator, canvas: Canvas) -> None:
    """The round head and chest of a long-haired animal, from the front."""
    canvas.sink()
    coat, pale = _coat(rng, canvas), hsv(rng.uniform(0.03, 0.12), rng.uniform(0.05, 0.3), rng.uniform(0.75, 1))
    hair = rng.uniform(0.07, 0.15)
    chest = canvas.fill(ellipse((0, 0.85), rng.uniform(0.5, 0.66), 0.62, power=2.3))
    _furry(rng, canvas, chest, coat * 0.85, hair * 1.3)
    wide, tall = rng.uniform(0.46, 0.58), rng.uniform(0.42, 0.5)
    spread, lift, size = rng.uniform(0.6, 0.8), rng.uniform(0.5, 0.8), rng.uniform(0.26, 0.42)
    for side in (-1, 1):
        ear = _ear(canvas, side * wide * spread, -0.15 - tall * lift, side * 0.45, size)
        _furry(rng, canvas, ear, coat * 0.8, hair * 0.5)
    head = canvas.fill(ellipse((0, -0.12), wide, tall, power=rng.uniform(1.9, 2.5)))
    _furry(rng, canvas, head, coat, hair)
    muzzle = canvas.fill(ellipse((0, 0.1), wide * 0.44, tall * 0.38))
    _furry(rng, canvas, muzzle, mix(coat, pale, 0.75), hair * 0.45)
    eye, apart = rng.uniform(0.055, 0.09), wide * rng.uniform(0.38, 0.46)
    for side in (-1, 1):
        _eye(canvas, side * apart, -0.16, eye, hsv(rng.uniform(0.06, 0.35), 0.7, 0.7))
    nose = canvas.fill(ellipse((0, 0.02), 0.09, 0.06, power=1.8))
    canvas.solid(nose, hsv(0.02, rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.5)), 1.0)
    mouth = [bezier((0, 0.07), (0, 0.17), (side * 0.11, 0.15)) for side in (-1, 1)]
    canvas.paint(canvas.strokes(mouth, 0.014), (0.12, 0.07, 0.07))
    start = np.array([(side * 0.13, 0.08 + 0.03 * k) for side in (-1, 1) for k in range(4)])
    end = start + [(side * rng.uniform(0.4, 0.6), 0.06 * k - 0.1) for side in (-1, 1) for k in range(4)]
    canvas.paint(0.85 * canvas.strokes(bezier(start, (start + end) / 2 - (0, 0.06), end), 0.007), pale)


def portrait(rng: Generator, canvas: Canvas) -> None:
    """Head, shoulders and hair, strand by strand."""
    canvas.sink()
    skin = hsv(rng.uniform(0.04, 0.08), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.98))
    hair = hsv(rng.uniform(0.02, 0.12), rng.uniform(0.2, 0.75), rng.choice([0.12, 0.25, 0.45, 0.75]))
    wide, top, long = rng.uniform(0.25, 0.3), -0.32, rng.choice([0.0, 0.45, 1.0])
    _hair(rng, canvas, hair * 0.8, wide, top, long)
    cloth = _pattern(rng, canvas)
    neck = canvas.fill(ribbon(np.array([(0, -0.1), (0, 0.2), (0, 0.5)]), [wide * 0.55, wide * 0.5, wide * 0.8]))
    canvas.solid(neck, skin * 0.8)
    broad = rng.uniform(0.62, 0.8)
    body = symmetric([0, 0.17, 0.3, broad * 0.8, broad, broad * 1.05, 0], [0.42, 0.3, 0.36, 0.47, 0.7, 1.5, 1.5])
    canvas.solid(canvas.fill(body), cloth, 0.06, 0.7)
    for side in (-1, 1):
        ear = canvas.fill(ellipse((side * wide * 0.98, top + 0.04), 0.05, 0.085))
        canvas.solid(ear, skin * 0.85)
    x = np.array([0, 0.75, 1, 0.88, 0.5, 0]) * wide
    face = symmetric(x, top + np.array([-0.37, -0.28, 0, 0.18, 0.36, 0.42]))
    canvas.solid(canvas.fill(face), skin, 0.12, ambient=0.55)
    _features(rng, canvas, skin, hair, wide, top)
    _fringe(rng, canvas, hair, wide, top, long)


def chair(rng: Generator, canvas: Canvas) -> None:
    """A chair of posts and boards."""
    wood = _wood_colour(rng)
    seat = wood if rng.uniform() < 0.5 else tint(rng)
    w, d, t = rng.uniform(0.34, 0.45), rng.uniform(0.34, 0.42), rng.uniform(0.03, 0.05)
    high = rng.uniform(0.75, 0.95)
    parts = [((x * (w - t), 0.45, z * (d - t)), (t, 0.45, t), wood) for x in (-1, 1) for z in (-1, 1)]
    parts += [((0, -0.03, 0), (w, t * 1.3, d), seat)]
    parts += [((x * (w - t), -high / 2 - 0.05, -d + t), (t, high / 2, t), wood) for x in (-1, 1)]
    count = rng.integers(2, 6)
    if rng.uniform() < 0.5:
        parts += [
            ((0, -high * (k + 1) / count, -d + t), (w - t, high / count * 0.3, t * 0.6), wood) for k in range(count)
        ]
    else:
        parts += [((0, -high, -d + t), (w, 0.07, t), wood)]
        parts += [
            ((x, -high / 2, -d + t), (t * 0.6, high / 2, t * 0.6), wood) for x in np.linspace(-w, w, count + 3)[1:-1]
        ]
    if rng.uniform() < 0.5:
        parts += [((0, 0.6, z * (d - t)), (w, t * 0.6, t * 0.6), wood) for z in (-1, 1)]
    _boxes(rng, canvas, parts)


def table(rng: Generator, canvas: Canvas) -> None:
    """A table or a cabinet with drawers."""
    wood = _wood_colour(rng)
    w, d, t = rng.uniform(0.6, 0.8), rng.uniform(0.35, 0.5), rng.uniform(0.03, 0.06)
    parts: list[_Box] = [((0, -0.3, 0), (w, t, d), wood * 1.05)]
    parts += [((x * (w - 2 * t), 0.2, z * (d - 2 * t)), (t, 0.48, t), wood * 0.95) for x in (-1, 1) for z in (-1, 1)]
    rows = rng.integers(0, 4)
    if rows:
        deep = rows * 0.15
        parts.append(((0, -0.27 + deep / 2 + t, 0), (w - 2 * t, deep / 2, d - t), wood * 0.85))
        front = tint(rng) if rng.uniform() < 0.5 else wood * 1.1
        for k in range(rows):
            y = -0.26 + t + deep * (k + 0.5) / rows
            parts += [((x * w / 2, y, d - t + 0.015), (w / 2 - 2.4 * t, 0.058, 0.015), front) for x in (-1, 1)]
            parts += [((x * w / 2, y, d - t + 0.05), (0.04, 0.012, 0.015), wood * 0.4) for x in (-1, 1)]
    _boxes(rng, canvas, parts)


def robot(rng: Generator, canvas: Canvas) -> None:
    """A toy robot of rounded plates."""
    main, second = tint(rng, (0.4, 0.9), (0.5, 0.95)), tint(rng, (0.1, 0.9), (0.5, 0.95))
    dark = tint(rng, (0, 0.3), (0.15, 0.35))

    def plate(centre: ArrayLike, w: float, h: float, colour: Array, power: float = 5) -> None:
        canvas.solid(canvas.fill(ellipse(centre, w, h, power=power)), colour, 0.35, 0.35)

    w, h, head = rng.uniform(0.3, 0.42), rng.uniform(0.28, 0.36), rng.uniform(0.2, 0.28)
    for side in (-1, 1):
        plate((side * w * 0.5, 0.68), 0.09, 0.22, dark)
        plate((side * w * 0.55, 0.9), 0.17, 0.09, second)
        swing = rng.uniform(-0.5, 0.5)
        shoulder = np.array([side * (w + 0.07), 0.0])
        hand = shoulder + 0.42 * np.array([side * np.sin(abs(swing)), np.cos(swing) * rng.choice([1, 1, -1])])
        arm = canvas.fill(ribbon(np.linspace(shoulder, hand, 8), 0.06))
        canvas.solid(arm, dark)
        plate(hand, 0.1, 0.1, second, power=3)
        plate(shoulder, 0.1, 0.1, main, power=2)
        plate((side * head * 1.2, -0.56), 0.05, 0.09, second)
    antenna = bezier((0, -0.75), (0.02, -0.85), (rng.uniform(-0.08, 0.08), -0.93))
    canvas.paint(canvas.strokes([antenna], 0.025), dark)
    plate(antenna[-1], 0.045, 0.045, second, power=2)
    plate((0, -0.24), 0.1, 0.1, dark)
    plate((0, 0.2), w, h, main)
    plate((0, 0.2), w * 0.65, h * 0.5, second)
    for k in range(rng.integers(2, 5)):
        plate((-w * 0.4 + 0.13 * k, 0.2 + 0.08 * (-1) ** k), 0.045, 0.045, tint(rng, (0.6, 1), (0.7, 1)), power=2)
    plate((0, -0.52), head * 1.2, head, main)
    plate((0, -0.54), head * 0.95, head * 0.55, dark)
    for side in (-1, 1):
        plate((side * head * 0.42, -0.55), 0.07, 0.07, hsv(rng.uniform(), 0.25, 1.0), power=2)
        plate((side * head * 0.42, -0.55), 0.03, 0.03, dark * 0.4, power=2)
    canvas.paint(canvas.strokes([np.array([(x, -0.52 + head * 0.78) for x in (-0.12, 0.12)])], 0.03), dark)


def rings(rng: Generator, canvas: Canvas) -> None:
    """A tower of stacked rings with a ball on top."""
    count = rng.integers(4, 7)
    height = 1.5 / (count + 1)
    hue, foot = rng.uniform(), rng.uniform(0.65, 0.85)
    for k in range(count):
        y, w = 0.85 - height * (k + 0.5), foot + (0.28 - foot) * k / count
        mask = canvas.fill(ellipse((rng.uniform(-0.04, 0.04), y), w, height * 0.58, rng.uniform(-0.06, 0.06), 2.8))
        canvas.solid(mask, hsv((hue + k * 0.17) % 1, rng.uniform(0.55, 0.9), rng.uniform(0.7, 1)), 0.4)
    ball = canvas.fill(ellipse((0, 0.85 - height * (count + 0.55)), height * 0.85, height * 0.85))
    canvas.solid(ball, hsv(hue, 0.8, 0.9), 0.6)


def fruit(rng: Generator, canvas: Canvas) -> None:
    """One to four round fruits with skin, stem and leaf."""
    count = rng.integers(1, 5)
    base = rng.uniform(0.34, 0.42) if count > 1 else rng.uniform(0.6, 0.78)
    places = np.array([(0, 0.05)] if count == 1 else [(-0.4, 0.3), (0.42, 0.36), (0.02, -0.28), (-0.02, 0.52)][:count])
    hue, second = rng.choice([0.0, 0.02, 0.08, 0.13, 0.25, 0.3, 0.78]), rng.uniform(-0.07, 0.09)
    tall, waist = rng.uniform(0.86, 1.12), rng.choice([0.0, 0.0, 0.22])
    order = np.argsort(places[:, 1], kind="stable")
    for x, y in places[order]:
        radius = base * rng.uniform(0.9, 1.1)
        angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        up = np.maximum(-np.sin(angle), 0)
        r = radius * (1 - waist * up * (1 - 0.4 * up) + 0.02 * np.cos(3 * angle + rng.uniform(0, 6)))
        dent = 1 - 0.13 * np.exp(-(((angle - 1.5 * np.pi) / 0.28) ** 2))
        mask = canvas.fill(np.stack([x + r * np.cos(angle), y + tall * r * dent * np.sin(angle)], -1))
        skin = ramp(
            noise(rng, canvas.shape, 2, 5, 0.6),
            [hsv((hue + s) % 1, rng.uniform(0.65, 0.95), rng.uniform(0.65, 0.95)) for s in (0, second, 0)],
        )
        freckles = smoothstep(noise(rng, canvas.shape, 40, 2), 0.62, 0.8)
        shade, gloss = canvas.relief(mask)
        canvas.paint(mask, mix(skin, skin * 0.4 + 0.5, 0.35 * freckles), shade, rng.uniform(0.1, 0.6) * gloss)
        head = np.array([x, y - tall * radius * (0.84 - 0.5 * waist)])
        hollow = canvas.fill(ellipse(head, radius * 0.16, radius * 0.06))
        canvas.paint(0.5 * hollow, skin * 0.35)
        end = head - (rng.uniform(-0.1, 0.1), radius * 0.38)
        stem = bezier(head, head - (0, radius * 0.2), end)
        canvas.solid(canvas.fill(ribbon(stem, [0.018, 0.015, 0.025])), (0.3, 0.2, 0.1))
        if rng.uniform() < 0.6:
            tip = head + radius * np.array([rng.choice([-1, 1]) * 0.75, rng.uniform(-0.45, -0.1)])
            _leaf(rng, canvas, head - (0, radius * 0.15), tip, 0.3, hsv(0.3, 0.7, 0.5))


def potted(rng: Generator, canvas: Canvas) -> None:
    """A pot with broad leaves."""
    green = hsv(rng.uniform(0.2, 0.42), rng.uniform(0.4, 0.8), rng.uniform(0.35, 0.65))
    count, width = rng.integers(9, 18), rng.uniform(0.16, 0.34)
    turns = rng.permutation(np.linspace(-1.45, 1.45, count)) + rng.normal(0, 0.1, count)
    for k, turn in enumerate(turns):
        reach = rng.uniform(0.65, 1.2) * (0.75 + 0.25 * np.cos(turn))
        tip = np.array([np.sin(turn) * reach * 0.95, 0.35 - np.cos(turn) * reach])
        root = np.array([rng.uniform(-0.12, 0.12), 0.42])
        _leaf(rng, canvas, root, tip, width, green * rng.uniform(0.7, 1.15) * (0.55 + 0.55 * k / count))
    if rng.uniform() < 0.4:
        for turn in rng.uniform(-1, 1, rng.integers(2, 6)):
            petal = tint(rng, (0.3, 0.8), (0.8, 1))
            centre = np.array([np.sin(turn) * 0.8, 0.3 - np.cos(turn) * rng.uniform(0.7, 1.1)])
            for angle in np.linspace(0, 2 * np.pi, 7)[:-1]:
                _leaf(rng, canvas, centre, centre + 0.15 * np.array([np.cos(angle), np.sin(angle)]), 0.5, petal)
            canvas.solid(canvas.fill(ellipse(centre, 0.04, 0.04)), (0.9, 0.7, 0.2))
    rim, foot = rng.uniform(0.34, 0.44), rng.uniform(0.22, 0.32)
    pot = canvas.fill(np.array([(-rim, 0.42), (rim, 0.42), (foot, 0.96), (0, 0.99), (-foot, 0.96)]))
    clay = _pattern(rng, canvas)
    canvas.solid(pot, clay, 0.15)
    edge = canvas.fill(ellipse((0, 0.44), rim * 1.1, 0.07, power=5))
    canvas.solid(edge, clay * 0.9)


_Box = tuple[tuple[float, float, float], tuple[float, float, float], Array]  # centre, half sizes, colour


def _coat(rng: Generator, canvas: Canvas) -> Array:
    """The colours of a coat (H, W, 3): plain, brindled, striped or spotted."""
    hue, dark = rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.5)
    first = hsv(hue, rng.uniform(0.05, 0.65), rng.uniform(0.45, 0.95))
    second = hsv(hue, rng.uniform(0.1, 0.6), dark)
    kind = rng.integers(4)
    field = noise(rng, canvas.shape, rng.uniform(3, 6), 4)
    if kind == 0:
        share = 0.35 * field
    elif kind == 1:
        x, y = canvas.units()
        share = smoothstep(np.sin(x * rng.uniform(15, 24) + 7 * field + 2 * y), 0.0, 0.5)
    elif kind == 2:
        share = smoothstep(noise(rng, canvas.shape, rng.uniform(9, 15), 2), 0.52, 0.6)
    else:
        share = smoothstep(field, 0.45, 0.6)
    return mix(first, second, share)


def _furry(rng: Generator, canvas: Canvas, mask: Array, coat: Array, length: float) -> None:
    """Paint a mask with shading and hair: strokes all over it, and finer ones that reach past its edge."""
    reach = length * canvas.unit
    rows, columns = around(mask, int(reach))
    soft = blur(mask[rows, columns], max(reach * 0.6, 1.0))
    inside = np.flatnonzero(mask[rows, columns] > 0.5)
    rim = inside[soft.flat[inside] < 0.72]
    if rim.size == 0:
        return
    out = -np.stack([cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)], -1).reshape(-1, 2)
    width = soft.shape[1]

    def hairs(places: Array, count: int, scale: float) -> Array:
        chosen = places[rng.integers(len(places), size=count)]
        root = np.stack([columns.start + chosen % width, rows.start + chosen // width], -1) + rng.uniform(
            0, 1, (count, 2)
        )
        way = out[chosen] / np.maximum(np.linalg.norm(out[chosen], axis=1, keepdims=True), 1e-3)
        way += rng.normal((0, 0.45), 0.3, (count, 2))  # hair falls
        tip = root + way * reach * scale * rng.uniform(0.4, 1.2, (count, 1))
        return bezier(root, (root + tip) / 2 + rng.normal(0, 0.1, (count, 2)) * reach, tip, 4)

    area = inside.size / (reach * canvas.unit)
    tone = np.zeros(canvas.shape, np.float32)
    for sign in (-0.3, 0.25):
        tone += sign * strokes(canvas.shape, hairs(inside, 20 + int(14 * area), 1.0), max(0.008 * canvas.unit, 0.5))
    count = 40 + int(2 * rim.size / max(reach, 1.5))
    short = strokes(canvas.shape, hairs(rim, count, 0.8), max(0.011 * canvas.unit, 0.6))
    fine = strokes(canvas.shape, hairs(rim, count, 1.4), 0.0045 * canvas.unit)
    shade, _ = canvas.relief(mask, 1.0, 0.5)
    canvas.paint(np.maximum(np.maximum(mask, short), fine), coat, shade * (1 + tone))


def _ear(canvas: Canvas, x: float, y: float, turn: float, size: float) -> Array:
    """Mask of an ear that stands at (x, y)."""
    tip = np.array([x, y]) + size * np.array([np.sin(turn), -np.cos(turn)])
    spine = bezier((x, y + size * 0.4), (x, y), tip, 10)
    return canvas.fill(ribbon(spine, [size * 0.5, size * 0.45, size * 0.3, 0.01]))


def _eye(canvas: Canvas, x: float, y: float, size: float, iris: ArrayLike) -> None:
    """An eye with a catch-light."""
    for radius, colour in ((1.15, (0.06, 0.04, 0.04)), (0.95, iris), (0.6, (0.02, 0.02, 0.02))):
        canvas.paint(canvas.fill(ellipse((x, y), size * radius, size * radius)), colour)
    canvas.paint(canvas.fill(ellipse((x + size * 0.3, y - size * 0.35), size * 0.25, size * 0.25)), (1, 1, 1))


def _features(rng: Generator, canvas: Canvas, skin: Array, hair: Array, wide: float, top: float) -> None:
    """Eyes, brows, nose and mouth."""
    eye_y = top + rng.uniform(0.0, 0.05)
    iris = hsv(rng.uniform(0.05, 0.6), 0.5, 0.45)
    for side in (-1, 1):
        x = side * wide * 0.45
        white = canvas.fill(ellipse((x, eye_y), 0.062, 0.03))
        canvas.paint(white, (0.93, 0.91, 0.89))
        for radius, colour in ((0.03, iris), (0.014, (0.03, 0.03, 0.03))):
            canvas.paint(white * canvas.fill(ellipse((x, eye_y), radius, radius)), colour)
        lid = bezier((x - 0.065, eye_y), (x, eye_y - 0.055), (x + 0.065, eye_y))
        canvas.paint(canvas.strokes([lid], 0.014), (0.1, 0.06, 0.05))
        brow = bezier((x - side * 0.07, eye_y - 0.085), (x, eye_y - 0.12), (x + side * 0.08, eye_y - 0.08))
        canvas.paint(0.8 * canvas.strokes([brow], 0.022), hair * 0.7)
        cheek = canvas.fill(ellipse((x * 1.15, top + 0.16), 0.075, 0.06))
        canvas.paint(0.25 * blur(cheek, canvas.unit * 0.03), skin * (1, 0.72, 0.68))
    nose = bezier((0.015, eye_y + 0.03), (0.055, top + 0.17), (-0.02, top + 0.19))
    canvas.paint(0.55 * canvas.strokes([nose], 0.02), skin * 0.65)
    smile = top + rng.uniform(-0.01, 0.05)
    left, right = (-0.09, top + 0.265), (0.09, top + 0.265)
    lips = np.concatenate([bezier(left, (0, smile + 0.25), right), bezier(right, (0, smile + 0.33), left)])
    canvas.paint(0.9 * canvas.fill(lips), skin * (0.9, 0.5, 0.5))


def _hair(rng: Generator, canvas: Canvas, colour: Array, wide: float, top: float, long: float) -> None:
    """The hair behind the head: short and on end (long is 0), or falling to the chin or past the shoulders."""
    count = 500
    turn = rng.uniform(-1.8, 1.8, count)
    way = np.stack([np.sin(turn), -np.cos(turn)], -1)
    scalp = way * (wide * 1.02, 0.41) + (0, top + 0.02)
    if long:
        side = np.sin(turn) * (wide * rng.uniform(0.9, 1.5) + 0.05)
        tip = np.stack([side + rng.normal(0, 0.03, count), top + 0.75 * long + rng.normal(0.28, 0.06, count)], -1)
        bend = np.stack([side * 1.15, np.full(count, top - 0.15)], -1)
    else:
        tip = scalp + way * rng.uniform(0.03, rng.uniform(0.08, 0.3), (count, 1))
        bend = (scalp + tip) / 2 + rng.normal(0, 0.03, (count, 2))
    arc = np.linspace(-1.8, 1.8, 20)
    mass = np.stack([np.sin(arc) * wide * 1.06, top + 0.02 - np.cos(arc) * 0.42], -1)
    canvas.paint(canvas.fill(mass), colour * 0.8)
    _strands(rng, canvas, bezier(scalp, bend, tip, 14), colour)


def _fringe(rng: Generator, canvas: Canvas, colour: Array, wide: float, top: float, long: float) -> None:
    """The hair before the head, combed to both sides of a parting."""
    parting = wide * rng.uniform(-0.6, 0.6)
    low = top - rng.uniform(0.14, 0.24)
    arc = np.linspace(-1.5, 1.5, 24)
    cap = np.stack([np.sin(arc) * wide * 1.05, top - np.cos(arc) * 0.41], -1)
    brow = [
        bezier((side * wide * 1.03, top), (side * wide * 0.9, low - 0.02), (parting, low - 0.1), 8)[::step]
        for side, step in ((1, 1), (-1, -1))
    ]
    canvas.paint(canvas.fill(np.concatenate([cap, *brow])), colour * 0.85)
    count = 360
    u, side = rng.uniform(0, 1, (count, 1)), rng.choice([-1, 1], (count, 1))
    start = np.concatenate([parting + 0.02 * side + 0 * u, top - 0.38 + 0.14 * u], 1)
    bend = np.concatenate([side * wide * (1.15 - 0.3 * u), top - 0.46 + 0.2 * u], 1)
    fall = rng.uniform((0.98, -0.05), (1.12, 0.1 + 0.35 * long), (count, 2))
    tip = np.concatenate([side * wide * fall[:, :1], top + fall[:, 1:]], 1)
    _strands(rng, canvas, bezier(start, bend, tip, 14), colour)


def _strands(rng: Generator, canvas: Canvas, lines: Array, colour: Array) -> None:
    """Paint strands (M, N, 2) in four tones, some of them astray, straight or wavy."""
    count, length = lines.shape[:2]
    along = np.linspace(0, 1, length)
    lines[..., 0] += rng.choice([0.0, 0.0, 0.015, 0.03]) * np.sin(11 * along + rng.uniform(0, 2, (count, 1))) * along
    sheen = 0.7 + 0.6 * noise(rng, canvas.shape, 4, 3)
    for k, tone in enumerate((0.75, 1.0, 0.85, 1.25)):
        canvas.paint(canvas.strokes(lines[k::4], 0.013), colour * tone, sheen)
    stray = lines[: count // 6] + rng.normal(0, 0.06, (count // 6, 1, 2)) * along[:, None]
    canvas.paint(0.9 * canvas.strokes(stray, 0.005), colour * 1.2, sheen)


def _pattern(rng: Generator, canvas: Canvas) -> Array:
    """Cloth or glaze (H, W, 3): plain, striped, checked or dotted."""
    first, second = tint(rng, (0.1, 0.8), (0.3, 0.95)), tint(rng, (0.1, 0.8), (0.2, 0.95))
    x, y = canvas.units()
    rate = rng.uniform(18, 45)
    kind = rng.integers(4)
    across, down = np.sin(x * rate), np.sin(y * rate)
    bands = (np.zeros_like(x), down, across * down, np.maximum(across, down) - 0.6)[kind]
    weave = 0.88 + 0.24 * noise(rng, canvas.shape, 12, 4, 0.8)
    return mix(first, second, smoothstep(bands, 0.0, 0.25)) * rgb(weave)


def _wood_colour(rng: Generator) -> Array:
    """Wood, or paint."""
    if rng.uniform() < 0.7:
        return hsv(rng.uniform(0.04, 0.1), rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.8))
    return tint(rng, (0.05, 0.6), (0.3, 0.95))


def _boxes(rng: Generator, canvas: Canvas, boxes: list[_Box]) -> None:
    """Paint boxes (centre, half sizes, colour) as seen from the front, above and a little aside."""
    yaw, pitch = rng.uniform(0.25, 0.75) * rng.choice([-1, 1]), rng.uniform(0.2, 0.5)
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    tip = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    view = turn @ tip
    grain = 0.72 + 0.45 * noise(rng, canvas.shape, 9, 5, 0.7, rng.choice([0.3, 4.0]))
    light = np.array([rng.choice([-0.5, 0.5]), -0.75, 0.55])
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    faces = []
    for centre, half, colour in boxes:
        for axis in range(3):
            for sign in (-1, 1):
                corners = np.insert(square, axis, sign, axis=1) * half + centre
                normal = np.zeros(3)
                normal[axis] = sign
                if (normal @ view)[2] > 0:
                    depth, bright = float((np.array(centre) @ view)[2]), max(float(normal @ light), 0)
                    faces.append((depth, corners @ view, colour * (0.55 + 0.5 * bright)))
    points = np.concatenate([face[1] for face in faces])
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    scale = 1.9 / (high - low).max()
    for _, seen, colour in sorted(faces, key=lambda face: face[0]):  # far boxes first
        flat = (seen[:, :2] - (low + high) / 2) * scale * (1 + 0.06 * seen[:, 2:])
        edges = canvas.strokes([flat], 1 / canvas.unit, True)  # a pixel wide: no gap to the next face
        canvas.paint(np.maximum(canvas.fill(flat), edges), colour, grain)


def _leaf(rng: Generator, canvas: Canvas, root: Array, tip: Array, width: float, colour: Array) -> None:
    """A leaf with a vein."""
    size = float(np.linalg.norm(tip - root))
    spine = bezier(root, (root + tip) / 2 + rng.normal(0, 0.16, 2) * size, tip, 16)
    mask = canvas.fill(ribbon(spine, np.array([0.03, 0.5, 0.95, 1.0, 0.8, 0.4, 0.0]) * width * size / 2))
    canvas.solid(mask, colour, ambient=0.55)
    canvas.paint(0.5 * mask * canvas.strokes([spine], max(0.008, 0.03 * size * width)), colour * 1.5 + 0.05)
