"""A function as a computational graph, worked through node by node: the example f(x1, x2) = x1 x2 + sin x1.

Forwards every node gets its value and a tangent for each input; backwards an adjoint: what forward and reverse mode do.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Operation(NamedTuple):
    """A function of its parents' values, with its derivative by each of them."""

    value: Callable[..., float]
    partials: Callable[..., tuple[float, ...]]


OPERATIONS = {
    "sum": Operation(lambda a, b: a + b, lambda a, b: (1.0, 1.0)),
    "product": Operation(lambda a, b: a * b, lambda a, b: (b, a)),
    "sin": Operation(math.sin, lambda a: (math.cos(a),)),
}


class Step(NamedTuple):
    """One node before anything is known of it: an input has no operation and no parents."""

    name: str
    formula: str
    operation: str | None = None
    parents: tuple[str, ...] = ()


EXAMPLE = (
    Step("x1", "x1"),
    Step("x2", "x2"),
    Step("v1", "x1 x2", "product", ("x1", "x2")),
    Step("v2", "sin x1", "sin", ("x1",)),
    Step("f", "v1 + v2", "sum", ("v1", "v2")),
)


@dataclass(frozen=True)
class Node:
    """What is known of a node when both passes are done."""

    name: str
    formula: str
    parents: tuple[str, ...]
    partials: tuple[float, ...]  # its derivative by each parent: what stands at the arrows
    value: float
    tangents: dict[str, float]  # forward mode: its derivative by each input
    adjoint: float  # reverse mode: the last node's derivative by it


def worked(steps: Sequence[Step], inputs: Mapping[str, float]) -> list[Node]:
    """Both passes through a graph, whose steps stand after their parents; the last one is the function.

    Forwards (one sweep an input): tangent = sum over parents of partial times the parent's tangent. Backwards (one
    sweep in all): every node adds partial times its adjoint to each of its parents', beginning with 1 at the end.
    """
    values: dict[str, float] = {}
    partials: dict[str, tuple[float, ...]] = {}
    tangents: dict[str, dict[str, float]] = {}
    for step in steps:
        if step.operation is None:
            values[step.name], partials[step.name] = inputs[step.name], ()
            tangents[step.name] = {name: float(name == step.name) for name in inputs}
            continue
        operation = OPERATIONS[step.operation]
        read = [values[parent] for parent in step.parents]
        values[step.name], partials[step.name] = operation.value(*read), operation.partials(*read)
        pairs = list(zip(partials[step.name], step.parents, strict=True))
        tangents[step.name] = {name: sum(d * tangents[parent][name] for d, parent in pairs) for name in inputs}
    adjoints = {step.name: 0.0 for step in steps} | {steps[-1].name: 1.0}
    for step in reversed(steps):
        for partial, parent in zip(partials[step.name], step.parents, strict=True):
            adjoints[parent] += partial * adjoints[step.name]
    return [
        Node(
            step.name, step.formula, step.parents, partials[step.name], values[step.name], tangents[step.name],
            adjoints[step.name],
        )
        for step in steps
    ]  # fmt: skip


def example(x: Tensor) -> Tensor:
    """f(x1, x2) = x1 x2 + sin x1 of x (2,), for automatic and numerical differentiation."""
    return x[0] * x[1] + torch.sin(x[0])


def symbolic_gradient() -> tuple[str, ...]:
    """The example's gradient as formulas, by sympy: one for each input."""
    function, symbols = _symbols()
    return tuple(str(function.diff(symbol)) for symbol in symbols)


def symbolic_gradient_at(x1: float, x2: float) -> tuple[float, ...]:
    """The symbolic gradient with numbers put in."""
    function, symbols = _symbols()
    return tuple(float(function.diff(symbol).subs(dict(zip(symbols, (x1, x2), strict=True)))) for symbol in symbols)


def _symbols() -> tuple[Any, tuple[Any, ...]]:
    """The example and its inputs as sympy's expressions."""
    import sympy

    x1, x2 = sympy.symbols("x1 x2")
    return x1 * x2 + sympy.sin(x1), (x1, x2)
