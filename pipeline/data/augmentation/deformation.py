"""Elastic deformation: a smooth field of displacements, added to the map before the one resampling.

Random vectors on a coarse grid, with cubic B-splines between them (Ronneberger 2015, U-Net, section 3.1, with splines
for its bicubic interpolation). Every displacement is a weighted mean of 4 x 4 vectors, so it is bounded by them.
"""

from typing import TYPE_CHECKING, cast

import numpy as np

from pipeline.data.augmentation.strengths import Array, Numbers

if TYPE_CHECKING:
    from torch import Tensor

CELLS = 4  # of the grid along a side
_POINTS = CELLS + 3  # a cubic spline reaches one beyond either end
_KNOT_DEVIATION = 0.5  # of the spline at a knot, for vectors of deviation 1: (1 + 16 + 1) / 36


def vectors(numbers: Numbers, side: int) -> Array:
    """The grid's vectors in pixels, (B, 2, points, points): x and y; zero where nothing is on."""
    drawn = numbers.normal("elastic", 2 * _POINTS**2).reshape(-1, 2, _POINTS, _POINTS)
    return (numbers.strength("elastic") * side / _KNOT_DEVIATION)[:, None, None, None] * drawn


def basis(places: Array, side: int) -> Array:
    """How much each grid line counts at `places` (any shape, in pixels; pixel centres are whole): (..., points)."""
    at = np.clip((places + 0.5) / side, 0, 1) * CELLS
    distance = np.abs(at[..., None] - (np.arange(_POINTS) - 1))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.maximum(2 - distance, 0) ** 3 / 6
    return cast(Array, np.where(distance < 1, inner, outer))


def displacements(vectors: "Tensor", side: int) -> "Tensor":
    """Vectors (B, 2, points, points) to one a pixel: (B, 2, side, side). Added up line by line, without BLAS."""
    import torch

    weights = torch.from_numpy(basis(np.arange(side, dtype=np.float64), side)).to(vectors)  # side, points
    lines = sum(vectors[..., line, None] * weights[:, line] for line in range(_POINTS))  # B, 2, points, side
    return sum(lines[:, :, line, None, :] * weights[:, line, None] for line in range(_POINTS))  # type: ignore


def displacements_at(vectors: Array, x: Array, y: Array, side: int) -> Array:
    """At any points: vectors (B, 2, points, points), x and y (B, n) in pixels of what is seen: (B, 2, n)."""
    return cast(Array, np.einsum("bcij,bni,bnj->bcn", vectors, basis(y, side), basis(x, side)))
