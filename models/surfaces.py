"""Problems of optimization that can be drawn: surfaces over the plane."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Surface(NamedTuple):
    """A function of points (..., 2) to heights (...), with its gradient (..., 2) as derived by hand."""

    height: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]
    start: tuple[float, float]  # from which an optimizer's path shows the problem
    minima: tuple[tuple[float, float], ...]  # the lowest points


STEEPNESS = 40.0  # of the ravine: curvature across it over curvature along it, the condition number of its Hessian


def ravine(points: Tensor) -> Tensor:
    """(x^2 + STEEPNESS y^2) / 2: a rate that is stable across crawls along (Sutskever 2013, section 2)."""
    x, y = points.unbind(-1)
    return (x**2 + STEEPNESS * y**2) / 2


def ravine_gradient(points: Tensor) -> Tensor:
    """(x, STEEPNESS y)."""
    x, y = points.unbind(-1)
    return torch.stack([x, STEEPNESS * y], -1)


def saddle(points: Tensor) -> Tensor:
    """(x^2 - y^2) / 2 + y^4 / 4: flat at the origin, which is the lowest point along x and the highest along y near it;
    the minima are -1/4."""
    x, y = points.unbind(-1)
    return (x**2 - y**2) / 2 + y**4 / 4


def saddle_gradient(points: Tensor) -> Tensor:
    """(x, y^3 - y)."""
    x, y = points.unbind(-1)
    return torch.stack([x, y**3 - y], -1)


def local_minima(points: Tensor) -> Tensor:
    """20 + sum over both of z^2 - 10 cos(2 pi z): a low point near every pair of whole numbers, the lowest at 0
    (Rastrigin 1974)."""
    return (10 + points**2 - 10 * torch.cos(2 * math.pi * points)).sum(-1)


def local_minima_gradient(points: Tensor) -> Tensor:
    """2 z + 20 pi sin(2 pi z) in each coordinate."""
    return 2 * points + 20 * math.pi * torch.sin(2 * math.pi * points)


SURFACES: dict[str, Surface] = {
    "ravine": Surface(ravine, ravine_gradient, (-2.0, 0.5), ((0.0, 0.0),)),
    "saddle": Surface(saddle, saddle_gradient, (-1.5, 1e-3), ((0.0, 1.0), (0.0, -1.0))),
    "local_minima": Surface(local_minima, local_minima_gradient, (2.3, -1.7), ((0.0, 0.0),)),
}
