"""Outlines of plane shapes about the origin, in a disc of radius 1: which points are inside, and the outline itself.

Each is a function of `proportion`, a number in [-1, 1] an image: how thick a cross is, how pointed a star. A depth is
about the signed distance to the outline, above zero outside. Nothing here but operations that IEEE 754 rounds in one
way (see `exact`), in whatever precision the points have.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.raw.exact import cos_sin

Numbers = Any  # an array of either precision, which NumPy's types do not follow through arithmetic

_STEPS = 24  # points on each straight edge of an outline
_ROUND = np.stack(cos_sin(np.arange(96) / 96), axis=1)  # points of the unit circle


class Shape(NamedTuple):
    depth: Callable[[Numbers, Numbers, Numbers], Numbers]  # x, y (B, H, W), proportion (B, 1, 1) -> (B, H, W)
    outline: Callable[[Numbers], Numbers]  # proportion (B,) -> points whose hull is that of the shape: (B, P, 2)


def _distance(x: Numbers, y: Numbers) -> Numbers:
    return np.sqrt(x * x + y * y)


def _polygon(corners: Sequence[tuple[float, float]], proportion: Numbers) -> Numbers:
    """Points along the edges, the same for every image."""
    ends = np.array(corners)
    share = (np.arange(_STEPS) / _STEPS)[:, None]
    points = np.concatenate([(1 - share) * a + share * b for a, b in zip(ends, np.roll(ends, -1, 0), strict=True)])
    return np.broadcast_to(points, (len(proportion), *points.shape))


def _alike(points: Numbers) -> Callable[[Numbers], Numbers]:
    return lambda proportion: np.broadcast_to(points, (len(proportion), *points.shape))


# --- round shapes -----------------------------------------------------------------------------------------------------

_RADIUS = 0.88


def _circle(x: Numbers, y: Numbers, proportion: Numbers) -> Numbers:
    return _distance(x, y) - _RADIUS


def _ring(x: Numbers, y: Numbers, proportion: Numbers) -> Numbers:
    distance = _distance(x, y)
    return np.maximum(distance - _RADIUS, 0.55 - 0.15 * proportion - distance)


def _bite(proportion: Numbers) -> Numbers:
    """How far right of the crescent's middle lies that of the disc cut out of it, which has a radius of 0.7."""
    return 0.45 + 0.1 * proportion


def _crescent(x: Numbers, y: Numbers, proportion: Numbers) -> Numbers:
    return np.maximum(_distance(x, y) - _RADIUS, 0.7 - _distance(x - _bite(proportion), y))


def _crescent_outline(proportion: Numbers) -> Numbers:
    points = np.broadcast_to(_RADIUS * _ROUND, (len(proportion), *_ROUND.shape))
    eaten = _distance(points[:, :, 0] - _bite(proportion)[:, None], points[:, :, 1]) < 0.7
    return np.where(eaten[:, :, None], np.array([-_RADIUS, 0.0]), points)


_HEART, _BELOW, _MIDDLE = 0.5, 0.08, 0.5 / 2**0.5  # half an edge of its square; that square's shift; its discs' middles


def _heart(x: Numbers, y: Numbers, proportion: Numbers) -> Numbers:
    """A square on its corner and a disc on each of its upper edges."""
    x, y = np.abs(x), y + _BELOW
    return np.minimum((x + np.abs(y)) * 2**-0.5, _distance(x - _MIDDLE, y - _MIDDLE)) - _HEART


_HEART_OUTLINE = np.concatenate(
    [_HEART * _ROUND + (side * _MIDDLE, _MIDDLE - _BELOW) for side in (-1, 1)]
    + [_polygon([(-2 * _MIDDLE, -_BELOW), (0, -2 * _MIDDLE - _BELOW), (2 * _MIDDLE, -_BELOW)], np.zeros(1))[0]]
)

# --- shapes with corners ----------------------------------------------------------------------------------------------

_HALF_EDGE = 0.74
_SQUARE = [(-_HALF_EDGE, -_HALF_EDGE), (_HALF_EDGE, -_HALF_EDGE), (_HALF_EDGE, _HALF_EDGE), (-_HALF_EDGE, _HALF_EDGE)]


def _square(x: Numbers, y: Numbers, proportion: Numbers) -> Numbers:
    return np.maximum(np.abs(x), np.abs(y)) - _HALF_EDGE


_SLOPE = 0.75**0.5
_TRIANGLE = [(-_SLOPE, -0.5), (_SLOPE, -0.5), (0.0, 1.0)]


def _triangle(x: Numbers, y: Numbers, proportion: Numbers) -> Numbers:
    return np.maximum(_SLOPE * np.abs(x) + 0.5 * y, -y) - 0.5


_ARM = 0.88


def _thickness(proportion: Numbers) -> Numbers:
    return 0.28 + 0.09 * proportion


def _cross(x: Numbers, y: Numbers, proportion: Numbers) -> Numbers:
    x, y, half = np.abs(x), np.abs(y), _thickness(proportion)
    return np.maximum(np.minimum(x, y) - half, np.maximum(x, y) - _ARM)


def _cross_outline(proportion: Numbers) -> Numbers:
    """The ends of its four arms."""
    along = _thickness(proportion)[:, None] * (2 * np.arange(_STEPS + 1) / _STEPS - 1)
    end = np.full_like(along, _ARM)
    return np.concatenate(
        [np.stack(pair, axis=2) for pair in ((along, end), (along, -end), (end, along), (-end, along))], axis=1
    )


_TIPS = [(float(x), float(y)) for x, y in zip(*cos_sin(0.25 + np.arange(5) / 5), strict=True)]
(_COS36, _SIN36) = (float(value[0]) for value in cos_sin(np.array([0.1])))


def _star(x: Numbers, y: Numbers, proportion: Numbers) -> Numbers:
    """Folded along its axes until one half of one arm is left: its edge runs from the tip (0, 1) to an inner corner."""
    x = np.abs(x)
    over = 2 * np.maximum(_COS36 * x - _SIN36 * y, 0)
    x, y = x - over * _COS36, y + over * _SIN36
    over = 2 * np.maximum(-_COS36 * x - _SIN36 * y, 0)
    x, y = np.abs(x + over * _COS36), y + over * _SIN36 - 1
    inner = 0.45 + 0.09 * proportion
    across, down = inner * _SIN36, inner * _COS36 - 1
    return (y * across - x * down) / _distance(across, down)


SHAPES: dict[str, Shape] = {
    "circle": Shape(_circle, _alike(_RADIUS * _ROUND)),
    "crescent": Shape(_crescent, _crescent_outline),
    "cross": Shape(_cross, _cross_outline),
    "heart": Shape(_heart, _alike(_HEART_OUTLINE)),
    "ring": Shape(_ring, _alike(_RADIUS * _ROUND)),
    "square": Shape(_square, lambda proportion: _polygon(_SQUARE, proportion)),
    "star": Shape(_star, lambda proportion: _polygon(_TIPS, proportion)),
    "triangle": Shape(_triangle, lambda proportion: _polygon(_TRIANGLE, proportion)),
}
