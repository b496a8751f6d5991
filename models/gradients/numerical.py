"""Gradients from function values alone: differences, and what they say of kinks. Everything in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Scalar = Callable[[Tensor], Tensor]  # a tensor of any shape to a number
Form = Literal["forward", "central"]

EPSILON = torch.finfo(torch.float64).eps  # 2.2e-16: the spacing of numbers at 1
_ORDER: dict[Form, int] = {"forward": 1, "central": 2}  # the power of h in the truncation error


def step_size(value: float, form: Form = "central") -> float:
    """The step h for the coordinate whose value this is: about eps^(1/3) max(1, |x|), for the forward form eps^(1/2).

    A difference is wrong by truncation, which falls with h (h^2 f'''/6 for the central form, h f''/2 for the forward
    one), and by rounding, which grows as h shrinks (about eps |f| / h). Where derivatives are about as large as the
    function the two are equal there (Nocedal & Wright 2006, section 8.1). A power of two, so that x + h and x - h are
    as far apart as they claim to be.
    """
    wanted = EPSILON ** (1 / (_ORDER[form] + 1)) * max(1.0, abs(value))
    return float(2.0 ** round(math.log2(wanted)))


def numerical_gradient(function: Scalar, at: Tensor, *, form: Form = "central", step: float | None = None) -> Tensor:
    """The gradient of `function` by differences, in the shape of `at`.

    Costs 2P evaluations for P numbers in the central form, (f(x + h) - f(x - h)) / 2h, and P + 1 in the forward form,
    (f(x + h) - f(x)) / h. `step` is h for all coordinates (None: that of `step_size`).
    """
    gradient = torch.empty(at.numel(), dtype=torch.float64)
    value = float("nan") if form == "central" else moved(function, at, 0, 0.0)
    for index, coordinate in enumerate(at.reshape(-1).tolist()):
        h = step_size(coordinate, form) if step is None else step
        ahead = moved(function, at, index, h)
        if form == "central":
            gradient[index] = (ahead - moved(function, at, index, -h)) / (2 * h)
        else:
            gradient[index] = (ahead - value) / h
    return gradient.reshape(at.shape)


def moved(function: Scalar, at: Tensor, index: int, by: float) -> float:
    """The function with one coordinate, counted through the whole tensor, moved by so much."""
    point = at.detach().to(torch.float64, copy=True).contiguous()
    point.view(-1)[index] += by
    with torch.no_grad():
        return float(function(point))


def slope(gradient: Tensor, direction: Tensor) -> float:
    """The slope in a direction: the gradient's dot product with the direction, made one long."""
    return float((gradient * direction).sum() / direction.norm())


# Values are rounded to some ten spacings, since they are long sums.
_ROUNDING = 32
# The error that a kink makes in the central difference is at most 3.5 times the roughness, so that with this share of
# the slopes what is not found harms nothing.
_ROUGH = 1e-7


@dataclass(frozen=True)
class Slopes:
    """What five values, at x - h, x - h/2, x, x + h/2 and x + h, say of a function along one coordinate."""

    central: float  # (f(x + h) - f(x - h)) / 2h
    left: float  # (f(x) - f(x - h)) / h
    right: float  # (f(x + h) - f(x)) / h
    roughness: float  # by how much the five miss every smooth function, as a slope: of the size of a kink's jump
    resolution: float  # the least slope that is told from rounding

    def is_rough(self, typical: float) -> bool:
        """Whether there is a kink within the step, by the size that slopes have here."""
        return self.roughness > max(_ROUGH * typical, self.resolution)


def slopes(function: Scalar, at: Tensor, index: int, value: float) -> Slopes:
    """One coordinate's slopes, by four evaluations; `value` is f(x).

    Of a smooth function the central differences at h and h/2 agree but for h^2 f'''/8, and the one-sided slopes differ
    by h f'', so by half of it at h/2. A kink at a distance d < h/2, whose slopes differ by J, breaks the first by
    J d / 2h and the second by J |1 - 3 d / h|, one of them by a seventh of J or more; one at d > h/2 breaks the second
    by J (1 - d / h). So a kink is found from values alone: a wrong gradient cannot pass for one.
    """
    h = step_size(at.reshape(-1)[index].item())
    far_left, near_left, near_right, far_right = (moved(function, at, index, by) for by in (-h, -h / 2, h / 2, h))
    central, nearer = (far_right - far_left) / (2 * h), (near_right - near_left) / h
    bend = (far_right - 2 * value + far_left) / h  # right slope less left slope: h f''
    bend_nearer = (near_right - 2 * value + near_left) / (h / 2)
    return Slopes(
        central=central,
        left=(value - far_left) / h,
        right=(far_right - value) / h,
        roughness=max(abs(central - nearer), abs(bend - 2 * bend_nearer)),
        resolution=_ROUNDING * EPSILON * max(abs(value), abs(far_left), abs(far_right)) / h,
    )
