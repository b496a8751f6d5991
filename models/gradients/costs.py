"""What each way to take a gradient costs by the number of parameters, and how wrong differences are by their step."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import catalogue
from models.build import build_network
from models.gradients import automatic, numerical
from models.gradients.check import least_seconds, one_thread
from models.networks.shape import Shape

WIDTHS = (1, 4, 16, 64, 256, 1024)
STEPS = tuple(10.0 ** (-exponent / 2) for exponent in range(2, 31))  # 0.1 to 1e-15
_IMAGES = 64
_SHAPE = Shape(channels=1, image_size=8, outputs=10)  # as the digits


class CostRow(NamedTuple):
    """The gradient of an MLP's loss by all its parameters in each way, in processor time on one thread."""

    parameters: int  # P
    evaluation_seconds: float
    numerical_evaluations: int  # 2P, of values
    numerical_seconds: float
    forward_evaluations: int  # P, of a value with one tangent
    forward_seconds: float
    reverse_evaluations: float  # measured: how many values take as long as one pass there and back
    reverse_seconds: float
    is_measured: bool  # whether differences and forward mode ran over all P; else over some, and P / their number times


class StepRow(NamedTuple):
    """The error of differences with one step, |n - g| / |g| with g the exact gradient."""

    step: float
    forward_error: float
    central_error: float


def cost_by_size(widths: Sequence[int] = WIDTHS, *, at_most: int = 200, seed: int = 0) -> list[CostRow]:
    """One row a width of a hidden layer: an MLP's softmax loss over 64 images of 8x8 pixels, in float64.

    Differences and forward mode run over at most so many parameters (`at_most`), reverse mode over all.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [_cost(width, at_most) for width in widths]


def _cost(width: int, at_most: int) -> CostRow:
    network = build_network("mlp", catalogue.Mlp.small().settings.model_copy(update={"width": width}), _SHAPE, 0.0)
    function, at = _as_one_tensor(network.double())
    parameters = at.numel()
    some = torch.randperm(parameters)[:at_most].tolist()

    def differences() -> None:
        for index in some:
            h = numerical.step_size(at[index].item())
            numerical.moved(function, at, index, h)
            numerical.moved(function, at, index, -h)

    def tangents() -> None:
        for index in some:
            automatic.tangent(function, at, automatic.one_hot(at, index))

    with torch.no_grad():
        evaluation = least_seconds(lambda: function(at))
    automatic.reverse_gradient(function, at)  # the first pass of a kind warms up
    automatic.tangent(function, at, automatic.one_hot(at, 0))
    reverse = least_seconds(lambda: automatic.reverse_gradient(function, at))
    share = parameters / len(some)
    return CostRow(
        parameters=parameters,
        evaluation_seconds=evaluation,
        numerical_evaluations=2 * parameters,
        numerical_seconds=share * least_seconds(differences, 1),
        forward_evaluations=parameters,
        forward_seconds=share * least_seconds(tangents, 1),
        reverse_evaluations=reverse / evaluation,
        reverse_seconds=reverse,
        is_measured=len(some) == parameters,
    )


def _as_one_tensor(network: nn.Module) -> tuple[numerical.Scalar, Tensor]:
    """A network's loss as a function of all its parameters in one vector, and the vector."""
    images = torch.randn(_IMAGES, _SHAPE.channels, _SHAPE.image_size, _SHAPE.image_size, dtype=torch.float64)
    labels = torch.arange(_IMAGES) % _SHAPE.outputs
    named = {name: parameter.detach() for name, parameter in network.named_parameters()}
    sizes = [tensor.numel() for tensor in named.values()]

    def function(vector: Tensor) -> Tensor:
        pieces = zip(named.items(), torch.split(vector, sizes), strict=True)
        parameters = {name: piece.view(tensor.shape) for (name, tensor), piece in pieces}
        scores = torch.func.functional_call(network, parameters, (images,))
        return functional.cross_entropy(scores, labels)

    return function, torch.cat([tensor.reshape(-1) for tensor in named.values()])


def error_by_step(steps: Sequence[float] = STEPS, seed: int = 0) -> list[StepRow]:
    """One row a step: the cross-entropy of a linear classifier (5 classes, 8 pixels, 16 images) by its weights.

    Smooth everywhere, so that truncation and rounding alone are seen; the exact gradient is that of reverse mode.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(16, 8, generator=generator, dtype=torch.float64)
    weights = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    labels = torch.arange(16) % 5

    def function(at: Tensor) -> Tensor:
        return functional.cross_entropy(images @ at.T, labels)

    exact = automatic.reverse_gradient(function, weights)

    def error(form: numerical.Form, step: float) -> float:
        found = numerical.numerical_gradient(function, weights, form=form, step=step)
        return float((found - exact).norm() / exact.norm())

    with one_thread():
        return [StepRow(step, error("forward", step), error("central", step)) for step in steps]
