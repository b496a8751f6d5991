"""Problems of optimization that can be drawn: surfaces over the plane, and how saddle points win as dimensions grow."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Surface(NamedTuple):
    """A function of points (..., 2) to heights (...), with its gradient (..., 2) as derived by hand."""

    height: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]
    start: tuple[float, float]  # from which an optimizer's path shows the problem
    minima: tuple[tuple[float, float], ...]  # the lowest points; none where the surface falls without end


STEEPNESS = 50.0  # of the ravine: curvature across it over curvature along it, the condition number of its Hessian


def ravine(points: Tensor) -> Tensor:
    """(x^2 + STEEPNESS y^2) / 2: a rate that is stable across crawls along (Sutskever 2013, section 2)."""
    x, y = points.unbind(-1)
    return (x**2 + STEEPNESS * y**2) / 2


def ravine_gradient(points: Tensor) -> Tensor:
    """(x, STEEPNESS y)."""
    x, y = points.unbind(-1)
    return torch.stack([x, STEEPNESS * y], -1)


def saddle(points: Tensor) -> Tensor:
    """x^2 - y^2: flat at the origin, which is the lowest point along x and the highest along y."""
    x, y = points.unbind(-1)
    return x**2 - y**2


def saddle_gradient(points: Tensor) -> Tensor:
    """(2 x, -2 y)."""
    x, y = points.unbind(-1)
    return torch.stack([2 * x, -2 * y], -1)


def local_minima(points: Tensor) -> Tensor:
    """20 + sum over both of z^2 - 10 cos(2 pi z): a low point near every pair of whole numbers, the lowest at 0
    (Rastrigin 1974)."""
    return (10 + points**2 - 10 * torch.cos(2 * math.pi * points)).sum(-1)


def local_minima_gradient(points: Tensor) -> Tensor:
    """2 z + 20 pi sin(2 pi z) in each coordinate."""
    return 2 * points + 20 * math.pi * torch.sin(2 * math.pi * points)


SURFACES: dict[str, Surface] = {
    "ravine": Surface(ravine, ravine_gradient, (-8.0, 1.0), ((0.0, 0.0),)),
    "saddle": Surface(saddle, saddle_gradient, (-1.0, 1e-3), ()),
    "local_minima": Surface(local_minima, local_minima_gradient, (2.3, -1.7), ((0.0, 0.0),)),
}


def saddle_share(dimensions: int, matrices: int, seed: int) -> float:
    """The share of saddles among critical points whose Hessians are random symmetric matrices of `dimensions` rows.

    A critical point is a saddle where its Hessian has eigenvalues of both signs. Of Gaussian matrices (A + A^T) / 2,
    A of independent N(0, 1), that is 0 in one dimension, 1 / sqrt(2) in two, 1/2 + sqrt(2) / pi in three, and all but
    exp(-ln(3) d^2 / 4) of them in d (Dean & Majumdar 2006; why it matters for networks: Dauphin 2014).
    """
    drawn = np.random.default_rng(seed).normal(size=(matrices, dimensions, dimensions))
    eigenvalues = np.linalg.eigvalsh((drawn + drawn.swapaxes(1, 2)) / 2)  # matrices, dimensions; ascending
    return float(((eigenvalues[:, 0] < 0) & (eigenvalues[:, -1] > 0)).mean())
