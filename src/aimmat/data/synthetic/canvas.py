"""What procedural drawing needs: a canvas of colour and alpha, anti-aliased shapes, shading, noise and colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

Array = Any  # a NumPy array: the type stubs of OpenCV and NumPy agree on nothing narrower

_SCALE = 4  # shapes are drawn at four times the size, then averaged down
_SHIFT = 4  # fractional bits of the coordinates that OpenCV gets


class Canvas:
    """A foreground in the making: colour (H, W, 3) and alpha (H, W), float32 in [0, 1].

    Shapes are given in units: the origin is the middle of the object, x to the right, y down, and the object fits
    in [-1, 1] x [-1, 1]. Where a unit falls in the picture (shift, turn, mirroring) is drawn once a canvas.
    """

    def __init__(self, rng: Generator, height: int, width: int) -> None:
        self.shape = height, width
        self.colour = np.zeros((height, width, 3), np.float32)
        self.alpha = np.zeros((height, width), np.float32)
        self.unit = min(height, width) / 2 * rng.uniform(0.78, 0.98)  # pixels in a unit
        turn = np.deg2rad(rng.uniform(-9, 9))
        mirror = rng.choice([-1, 1])
        self._axes = self.unit * np.array(
            [[mirror * np.cos(turn), mirror * np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
        )
        room = np.array([width, height]) / 2 - self.unit
        self._middle = np.array([width, height]) / 2 + room * rng.uniform(-0.8, 0.8, 2)
        azimuth, rise = rng.uniform(-2.6, -0.5), rng.uniform(0.5, 1.0)
        self.light = np.array(
            [np.cos(azimuth) * np.cos(rise), np.sin(azimuth) * np.cos(rise), np.sin(rise)], np.float32
        )

    def sink(self) -> None:
        """Move the object so that y = 1 falls on the lower border, for what the frame cuts off."""
        self._middle[1] = self.shape[0] - self.unit

    def pixels(self, points: ArrayLike) -> Array:
        """Pixel coordinates (..., 2) of points in units (..., 2)."""
        return np.asarray(points, float) @ self._axes + self._middle

    def units(self) -> tuple[Array, Array]:
        """The x and y in units of every pixel, each (H, W) float32."""
        y, x = np.indices(self.shape, np.float32)
        inverse = np.linalg.inv(self._axes).astype(np.float32)
        x += np.float32(0.5 - self._middle[0])
        y += np.float32(0.5 - self._middle[1])
        return x * inverse[0, 0] + y * inverse[1, 0], x * inverse[0, 1] + y * inverse[1, 1]

    def fill(self, *outlines: Array) -> Array:
        """Coverage (H, W) in [0, 1] of closed outlines (N, 2) in units; where two overlap the coverage is 1."""
        return fill(self.shape, moved(outlines, self.pixels))

    def strokes(self, lines: Sequence[Array] | Array, width: float, closed: bool = False) -> Array:
        """Coverage (H, W) in [0, 1] of lines (N, 2), or (M, N, 2) at once, of one width, all in units."""
        return strokes(self.shape, moved(lines, self.pixels), width * self.unit, closed)

    def paint(self, mask: Array, colour: ArrayLike, shade: Array | float = 1.0, gloss: Array | None = None) -> None:
        """Lay colour * shade + gloss over what is there, with opacity mask (H, W); colour is (3,) or (H, W, 3)."""
        area = around(mask, 0)
        mask, alpha = mask[area], self.alpha[area]
        total = mask + alpha - mask * alpha
        share = np.divide(mask, total, out=np.zeros_like(mask), where=total > 0)
        colour = np.asarray(colour, np.float32)
        lit = share * (shade if np.isscalar(shade) else np.asarray(shade)[area])
        added = tinted(lit, colour) if colour.ndim == 1 else colour[area] * rgb(lit)
        if gloss is not None:
            added += rgb(share * gloss[area])
        self.colour[area] = self.colour[area] * rgb(1 - share) + added
        self.alpha[area] = total

    def solid(
        self, mask: Array, colour: ArrayLike, shine: float = 0.08, roundness: float = 1.0, ambient: float = 0.42
    ) -> None:
        """Paint the mask as a rounded body; shine from 0 (matt) to 1 (polished)."""
        shade, gloss = self.relief(mask, roundness, ambient)
        self.paint(mask, colour, shade, shine * gloss)

    def relief(
        self, mask: Array, roundness: float = 1.0, ambient: float = 0.42, shine: float = 24.0
    ) -> tuple[Array, Array]:
        """Shade and gloss, each (H, W), of the mask blown up like a cushion.

        roundness: share of the half width over which the surface bends; small is a flat plate with round rims.
        """
        shade, gloss = np.ones(self.shape, np.float32), np.zeros(self.shape, np.float32)
        area = around(mask, 2)
        inside = cv2.copyMakeBorder((mask[area] > 0.5).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
        reach = max(float(depth.max()) * roundness, 1.0)
        depth = np.minimum(depth / reach, 1)
        height = np.sqrt(np.maximum(depth * (2 - depth), 0)) * reach
        height = blur(height, max(reach * 0.12, 0.6))
        shade[area], gloss[area] = self.lit(height, ambient, shine)
        return shade, gloss

    def lit(self, height: Array, ambient: float = 0.42, shine: float = 24.0) -> tuple[Array, Array]:
        """Shade and gloss of a height field in pixels, under the scene's light; seen from straight above."""
        dx, dy = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
        norm = 1 / np.sqrt(dx * dx + dy * dy + 1)
        facing = np.maximum((self.light[2] - dx * self.light[0] - dy * self.light[1]) * norm, 0)
        half = self.light + np.array([0, 0, 1], np.float32)
        half /= np.linalg.norm(half)
        mirrored = np.maximum((half[2] - dx * half[0] - dy * half[1]) * norm, 0)
        return ambient + (1.08 - ambient) * facing, mirrored**shine

    def layers(self) -> tuple[Array, Array]:
        """Foreground (H, W, 3) and alpha (H, W) as uint8; the colour is continued where nothing was painted."""
        known: Array = self.alpha
        colour: Array = self.colour * rgb(self.alpha)
        levels = []
        for _ in range(3):  # means of 4, 16 and 64 pixels
            small = -(-known.shape[1] // 4), -(-known.shape[0] // 4)
            known, colour = (cv2.resize(layer, small, interpolation=cv2.INTER_AREA) for layer in (known, colour))
            levels.append((known, colour))
        beyond: Array = np.empty_like(colour)
        beyond[:] = colour.sum((0, 1)) / max(float(known.sum()), 1e-6)
        for known, colour in reversed(levels):  # the finest mean that is known, softly continued
            beyond = cv2.resize(beyond, known.shape[::-1], interpolation=cv2.INTER_LINEAR)
            there = known > 1e-4
            beyond[there] = colour[there] / known[there, None]
        beyond = cv2.resize(beyond, self.shape[::-1], interpolation=cv2.INTER_LINEAR)
        cv2.copyTo(self.colour, (self.alpha > 0).view(np.uint8), beyond)
        return to_bytes(beyond), to_bytes(self.alpha)


def around(mask: Array, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the box around what is above 0, with a margin of pixels on each side."""
    left, top, width, height = cv2.boundingRect((mask > 0).view(np.uint8))
    rows, columns = (
        slice(max(top - margin, 0), top + height + margin),
        slice(max(left - margin, 0), left + width + margin),
    )
    return rows, columns


def to_bytes(image: Array) -> Array:
    """[0, 1] to 0..255, clipped and rounded."""
    return cv2.convertScaleAbs(np.clip(image, 0, 1), alpha=255)


def rgb(field: Array) -> Array:
    """A field (H, W) as a grey picture (H, W, 3); faster to compute with than a broadcast last axis."""
    return cv2.cvtColor(np.asarray(field, np.float32), cv2.COLOR_GRAY2RGB)


def blur(image: Array, sigma: float) -> Array:
    """Gaussian blur; a wide one works on a smaller copy."""
    step = int(sigma // 2)
    if step < 2 or step * 4 > min(image.shape[:2]):
        return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    size = image.shape[1::-1]
    small = cv2.resize(image, (-(-size[0] // step), -(-size[1] // step)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)


def tinted(field: Array, colour: Array) -> Array:
    """A field (H, W) times a colour (3,): (H, W, 3) float32."""
    return cv2.transform(np.asarray(field, np.float32), np.asarray(colour, np.float32)[:, None])


def moved(shapes: Sequence[Array] | Array, move: Callable[[Array], Array]) -> Sequence[Array] | Array:
    """Shapes (N, 2), or (M, N, 2) at once, with all their points moved in one call."""
    if isinstance(shapes, np.ndarray):
        return move(shapes)
    return np.split(move(np.concatenate(shapes)), np.cumsum([len(shape) for shape in shapes])[:-1])


def fill(shape: tuple[int, int], outlines: Sequence[Array] | Array) -> Array:
    """Coverage (H, W) of closed outlines (N, 2) in pixels; where two overlap the coverage is 1."""

    def draw(image: Array, fixed: list[Array]) -> None:
        for outline in fixed:
            cv2.fillPoly(image, [outline], 255, cv2.LINE_AA, _SHIFT)

    return _coverage(shape, outlines, 1, draw)


def strokes(shape: tuple[int, int], lines: Sequence[Array] | Array, width: float, closed: bool = False) -> Array:
    """Coverage (H, W) of lines in pixels; a line thinner than the raster becomes fainter instead."""
    fine = width * _SCALE
    drawn = 1 if fine < 1.5 else max(3, 2 * round((fine - 1) / 2) + 1)  # OpenCV draws thickness 2 k as 2 k + 1 pixels

    def draw(image: Array, fixed: list[Array]) -> None:
        cv2.polylines(image, fixed, closed, 255, max(1, drawn - 1), cv2.LINE_8, _SHIFT)

    opacity = max(0.4, min(1, fine / drawn)) if drawn <= 3 else 1
    return _coverage(shape, lines, width / 2 + 1, draw) * np.float32(opacity)


def _coverage(
    shape: tuple[int, int], shapes: Sequence[Array] | Array, margin: float, draw: Callable[[Array, list[Array]], None]
) -> Array:
    """What draw paints of the shapes (N, 2) on a finer raster, as means (H, W) float32 in [0, 1]."""
    coverage = np.zeros(shape, np.float32)
    points = np.concatenate(shapes)
    left, top = np.maximum(np.floor(points.min(0) - margin), 0).astype(int)
    right, bottom = np.minimum(np.ceil(points.max(0) + margin), shape[::-1]).astype(int)
    if left < right and top < bottom:
        image = np.zeros(((bottom - top) * _SCALE, (right - left) * _SCALE), np.uint8)
        fixed = moved(shapes, lambda p: np.round(((p - (left, top)) * _SCALE - 0.5) * (1 << _SHIFT)).astype(np.int32))
        draw(image, list(fixed))
        mean = cv2.resize(image, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        coverage[top:bottom, left:right] = mean.astype(np.float32) / 255
    return coverage


def noise(
    rng: Generator, shape: tuple[int, int], cells: float, octaves: int = 4, gain: float = 0.5, stretch: float = 1
) -> Array:
    """Fractal value noise (H, W) float32, stretched to exactly [0, 1].

    cells: bumps of the coarsest octave along the short side. stretch: above 1 lengthens the bumps along x.
    """
    side = min(shape)
    rows, columns = max(2, round(cells * shape[0] / side)), max(2, round(cells * shape[1] / side / stretch))
    field: Array = rng.standard_normal((rows, columns), np.float32)
    for octave in range(1, octaves):
        if rows * 2 > shape[0] or columns * 2 > shape[1]:
            break
        rows, columns = rows * 2, columns * 2
        field = cv2.resize(field, (columns, rows), interpolation=cv2.INTER_CUBIC)
        field += np.float32(gain**octave) * rng.standard_normal((rows, columns), np.float32)
    field = cv2.resize(field, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return stretched(field)


def stretched(field: Array) -> Array:
    """The field moved and scaled to exactly [0, 1]."""
    low = field.min()
    return ((field - low) / max(float(field.max() - low), 1e-9)).astype(np.float32)


def warp(field: Array, dx: Array, dy: Array) -> Array:
    """The field sampled at (x + dx, y + dy), mirrored beyond its border."""
    y, x = np.indices(dx.shape, np.float32)
    return cv2.remap(field, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def smoothstep(field: Array, low: float, high: float) -> Array:
    """0 below low, 1 above high, a smooth rise between."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(first: ArrayLike, second: ArrayLike, share: Array | float) -> Array:
    """first where share is 0, second where it is 1; a share (H, W) makes a picture of two colours."""
    first, second = np.asarray(first, np.float32), np.asarray(second, np.float32)
    share = np.asarray(share, np.float32)
    if share.ndim == 2:
        if first.ndim == second.ndim == 1:
            return cv2.transform(share, np.stack([second - first, first], 1))
        share = rgb(share)
    return first + share * (second - first)


def hsv(hue: float, saturation: float, value: float) -> Array:
    """RGB (3,) in [0, 1]; the hue turns once from 0 to 1."""
    sector = np.array([0, 4, 2], np.float32)
    wheel = np.clip(np.abs((hue * 6 + sector) % 6 - 3) - 1, 0, 1)
    return (value * (1 + saturation * (wheel - 1))).astype(np.float32)


def tint(
    rng: Generator, saturation: tuple[float, float] = (0.3, 0.9), value: tuple[float, float] = (0.35, 0.95)
) -> Array:
    """A colour of any hue, RGB (3,)."""
    return hsv(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))


def ramp(field: Array, colours: ArrayLike) -> Array:
    """A picture (H, W, 3) from a field in [0, 1] through evenly spaced colours (K, 3)."""
    colours = np.asarray(colours, np.float32)
    at, stops = np.linspace(0, 1, 256), np.linspace(0, 1, len(colours))
    table = np.stack([np.interp(at, stops, colours[:, c]) for c in range(3)], -1).astype(np.float32)
    return cv2.LUT(cv2.merge([to_bytes(field)] * 3), table[None])


def ellipse(centre: ArrayLike, rx: float, ry: float, turn: float = 0.0, power: float = 2.0, count: int = 72) -> Array:
    """Outline (count, 2) of a superellipse; power 2 is an ellipse, 4 nearly a rounded box. turn in radians."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    x, y = rx * np.sign(c) * np.abs(c) ** (2 / power), ry * np.sign(s) * np.abs(s) ** (2 / power)
    return np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], -1) + np.asarray(centre)


def blob(rng: Generator, centre: ArrayLike, radius: float, rough: float = 0.1, count: int = 96) -> Array:
    """Outline (count, 2) of a wobbly disc; rough is the relative size of the wobble."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    orders = np.arange(2, 8)
    size = rng.normal(0, rough, orders.size) / orders**0.8
    r = radius * (1 + (size * np.cos(np.outer(angle, orders) + rng.uniform(0, 6.3, orders.size))).sum(-1))
    return np.stack([r * np.cos(angle), r * np.sin(angle)], -1) + np.asarray(centre)


def bezier(start: ArrayLike, bend: ArrayLike, end: ArrayLike, count: int = 8) -> Array:
    """Quadratic curves (..., count, 2) from control points (..., 2)."""
    t = np.linspace(0, 1, count)[:, None]
    p, q, r = (np.asarray(point, float)[..., None, :] for point in (start, bend, end))
    return (1 - t) ** 2 * p + 2 * t * (1 - t) * q + t**2 * r


def ribbon(spine: Array, widths: ArrayLike) -> Array:
    """Outline (2 N, 2) of a band along spine (N, 2); widths are half widths, spread evenly along it."""
    widths = np.atleast_1d(np.asarray(widths, float))
    half = np.interp(np.linspace(0, 1, len(spine)), np.linspace(0, 1, widths.size), widths)[:, None]
    along = np.gradient(spine, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    side = np.stack([-along[:, 1], along[:, 0]], -1) * half
    return np.concatenate([spine + side, (spine - side)[::-1]])


def symmetric(x: ArrayLike, y: ArrayLike) -> Array:
    """A smooth closed outline (M, 2), mirrored at x = 0, from the corners of its right half; the ends lie on x = 0."""
    half = np.stack([x, y], -1)
    return rounded(np.concatenate([half, half[-2:0:-1] * (-1, 1)]))


def rounded(points: Array) -> Array:
    """A closed outline (N, 2) with its corners cut three times: (8 N, 2)."""
    for _ in range(3):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], 1).reshape(-1, 2)
    return points
