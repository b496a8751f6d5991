"""The gradient check: reverse mode against central differences, tensor by tensor, with kinks found and told."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from models.gradients import automatic, numerical

TOLERANCE = 1e-6  # of the relative error |a - n| / (|a| + |n|), by norms over a tensor's coordinates
MOST_LEFT_OUT = 0.25  # share of a tensor's coordinates: beyond it the rest says too little of the tensor
COORDINATES = 12  # drawn from each tensor; of functions of many tensors fewer, but 3 at least
_IN_ALL = 150
_SHORTER = (16, 64)  # where there is a kink within the step: this share of it, then that


@dataclass(frozen=True)
class Function:
    """What is checked: a number as a function of float64 tensors by name."""

    name: str
    value: Callable[[Mapping[str, Tensor]], Tensor]
    at: dict[str, Tensor]


@dataclass(frozen=True)
class Kink:
    """A coordinate within whose step the function has a corner: a difference across it says nothing of the gradient."""

    index: int  # through the whole tensor
    left: float  # slopes on both sides
    right: float
    gradient: float  # what reverse mode says: a value between the two, or one of them


@dataclass(frozen=True)
class TensorCheck:
    """One tensor's gradient, at the coordinates that were drawn."""

    name: str
    shape: tuple[int, ...]
    checked: int  # coordinates, those at kinks among them
    kinks: int  # coordinates with a kink within the step
    left_out: int  # of these, the ones that have it within every shorter step, too
    kink: Kink | None  # the one with the largest jump, for an example
    error: float  # reverse mode against central differences, where there is no kink; 0 where both are zero
    forward_error: (
        float  # forward mode against reverse mode, by the slope in a direction in which all numbers take part
    )
    is_zero: bool  # both gradients are smaller than what rounding lets differences tell

    @property
    def problem(self) -> str | None:
        """What is wrong with it, in words; None where nothing is."""
        if not self.error <= TOLERANCE:  # NaN is wrong too
            return f"relative error {self.error:.1e}, reverse mode against central differences"
        if not self.forward_error <= TOLERANCE:
            return f"relative error {self.forward_error:.1e}, forward mode against reverse mode"
        if self.left_out == self.checked or self.left_out > max(1, MOST_LEFT_OUT * self.checked):
            return f"{self.left_out} of {self.checked} coordinates are at kinks: too few are left to judge by"
        return None


@dataclass(frozen=True)
class Cost:
    """What each way costs for all P numbers, in processor time on one thread.

    Of differences and forward mode: what those that were checked took, in proportion.
    """

    parameters: int  # P
    evaluation_seconds: float
    numerical_seconds: float  # 2P evaluations
    forward_seconds: float  # P passes with one tangent
    reverse_seconds: float  # one pass

    @property
    def reverse_evaluations(self) -> float:
        """How many evaluations take as long as the one pass of reverse mode."""
        return self.reverse_seconds / self.evaluation_seconds


@dataclass(frozen=True)
class Check:
    """All tensors of one function."""

    name: str
    tensors: tuple[TensorCheck, ...]
    cost: Cost

    @property
    def problems(self) -> list[str]:
        return [f"{tensor.name}: {tensor.problem}" for tensor in self.tensors if tensor.problem]

    @property
    def worst(self) -> TensorCheck:
        """The tensor with the largest error; NaN is larger than any."""
        return max(self.tensors, key=lambda tensor: (tensor.error != tensor.error, tensor.error))


def relative_error(a: Tensor, n: Tensor) -> float:
    """|a - n| / (|a| + |n|) by norms; 0 where both are exactly zero."""
    size = (a.norm() + n.norm()).item()
    return (a - n).norm().item() / size if size else 0.0


def check(function: Function, *, coordinates: int = COORDINATES, seed: int = 0) -> Check:
    """Compare the gradients of every tensor at up to `coordinates` of its numbers, drawn from `seed`.

    Costs one tangent a tensor, and four evaluations a coordinate; four more where a kink is within the step: a
    sixteenth of it may end before the kink, or a 64th, beyond which rounding would tell. Both gradients count as zero
    where their norms are below what rounding lets a difference of values tell (32 eps |f| / h a coordinate): a bias
    before a batch normalization.
    """
    generator = torch.Generator().manual_seed(seed)
    coordinates = min(coordinates, max(3, _IN_ALL // len(function.at)))
    with one_thread():
        gradients, value = torch.func.grad_and_value(function.value)(function.at)
        tensors, numerical_seconds, forward_seconds, drawn = [], 0.0, 0.0, 0
        for name, at in function.at.items():
            one = _of_one(function, name)
            indices = torch.randperm(at.numel(), generator=generator)[:coordinates].tolist()
            direction = torch.randn(at.shape, generator=generator, dtype=torch.float64)
            automatic.tangent(one, at, direction)  # the first pass of a kind warms up
            begun = time.process_time()
            found = [numerical.slopes(one, at, index, value.item()) for index in indices]
            between = time.process_time()
            typical = math.sqrt(sum(slopes.central**2 for slopes in found) / len(found))
            rough = [place for place, slopes in enumerate(found) if slopes.is_rough(typical)]
            again: dict[int, numerical.Slopes] = {}
            for shorter in _SHORTER:
                again |= {place: numerical.slopes(one, at, indices[place], value.item(), shorter) for place in rough}
                rough = [place for place in rough if again[place].is_rough(typical)]
            begun_forward = time.process_time()
            forward = automatic.tangent(one, at, direction)[1]
            forward_seconds += time.process_time() - begun_forward
            numerical_seconds += between - begun
            drawn += len(indices)
            tensors.append(
                _judged(
                    name, at, indices, gradients[name], found, again, (forward, (gradients[name] * direction).sum())
                )
            )
        reverse_seconds = least_seconds(lambda: torch.func.grad(function.value)(function.at))
        evaluation_seconds = least_seconds(lambda: function.value(function.at))
    parameters = sum(at.numel() for at in function.at.values())
    cost = Cost(
        parameters, evaluation_seconds, 2 * parameters * numerical_seconds / (4 * drawn),
        parameters * forward_seconds / len(function.at), reverse_seconds,
    )  # fmt: skip
    return Check(function.name, tuple(tensors), cost)


def _of_one(function: Function, name: str) -> numerical.Scalar:
    return lambda tensor: function.value({**function.at, name: tensor})


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for what is too small to share: where other work holds the cores, threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def least_seconds(work: Callable[[], object], repetitions: int = 5) -> float:
    """The least processor time of several: where other work waits for the same cores, a clock would count that, too."""
    seconds = []
    for _ in range(repetitions):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return min(seconds)


def _judged(
    name: str,
    at: Tensor,
    indices: list[int],
    gradient: Tensor,
    found: list[numerical.Slopes],
    again: dict[int, numerical.Slopes],
    along: tuple[Tensor, Tensor],
) -> TensorCheck:
    """One tensor's row.

    again: what the shorter step says, by the place among the indices, where the first one meets a kink.
    along: the slope in one direction by forward mode, and by the gradient of reverse mode.
    """
    analytic = gradient.reshape(-1)[indices]
    final = [again.get(place, slopes) for place, slopes in enumerate(found)]
    central = torch.tensor([slopes.central for slopes in final], dtype=torch.float64)
    typical = central.square().mean().sqrt().item()
    smooth = torch.tensor([place not in again or not slopes.is_rough(typical) for place, slopes in enumerate(final)])
    resolution = torch.tensor([slopes.resolution for slopes in final], dtype=torch.float64)[smooth].norm()
    is_zero = bool(analytic[smooth].norm() <= resolution and central[smooth].norm() <= resolution)
    kinks = [Kink(indices[place], found[place].left, found[place].right, analytic[place].item()) for place in again]
    return TensorCheck(
        name=name,
        shape=tuple(at.shape),
        checked=len(indices),
        kinks=len(kinks),
        left_out=int((~smooth).sum()),
        kink=max(kinks, key=lambda kink: abs(kink.right - kink.left), default=None),
        error=0.0 if is_zero else relative_error(analytic[smooth], central[smooth]),
        forward_error=0.0 if is_zero else relative_error(*along),
        is_zero=is_zero,
    )
