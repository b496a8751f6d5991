"""Where a function has a corner: found by walking from a point along a line, since points drawn at random miss them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.gradients import automatic, numerical
from models.gradients.check import Function, one_thread

_PACES = 64
_REACH = 1.0  # how far to walk, in steps as long as a random direction
_HALVINGS = 30  # of the pace in which the slope changes most: to 1e-11
_JUMP = 1e-4  # of the slope, relative: what is left of a bend on so short a way is a millionth of that


@dataclass(frozen=True)
class Corner:
    """Where along the line a corner lies, and what every way says of the slope there."""

    distance: float
    left: float  # slopes of the line before and after it, by forward mode
    right: float
    central: float  # what a central difference across it says: the mean of the two
    is_found: bool  # whether the five values of the gradient check give it away


def corner(function: Function, seed: int = 0) -> Corner | None:
    """A corner on the line x + t v, 0 < t < 1, with v drawn from `seed`; None where the line has none.

    The slope along the line is exact (forward mode). Where it changes most, the way is halved again and again: a
    bend's change goes to nothing, a corner's stays. Costs about 130 passes.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = {
        name: torch.randn(at.shape, generator=generator, dtype=torch.float64) * at.std(correction=0)
        for name, at in function.at.items()
    }

    def line(t: Tensor) -> Tensor:
        return function.value({name: at + t * direction[name] for name, at in function.at.items()})

    def slope(t: float) -> float:
        return automatic.tangent(line, _number(t), _number(1.0))[1].item()

    with one_thread():
        places = [_REACH * pace / _PACES for pace in range(_PACES + 1)]
        slopes = [slope(t) for t in places]
        most = max(range(_PACES), key=lambda pace: abs(slopes[pace + 1] - slopes[pace]))
        start, end, left, right = places[most], places[most + 1], slopes[most], slopes[most + 1]
        for _ in range(_HALVINGS):
            middle = (start + end) / 2
            between = slope(middle)
            if abs(between - left) > abs(right - between):
                end, right = middle, between
            else:
                start, left = middle, between
        if abs(right - left) <= _JUMP * max(abs(left), abs(right)):
            return None
        seen = numerical.slopes(line, _number(middle), 0, line(_number(middle)).item())
    typical = max(abs(left), abs(right))
    return Corner(middle, left, right, seen.central, seen.is_rough(typical))


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
