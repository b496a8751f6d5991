"""Automatic differentiation, forwards and backwards, of a function of one tensor to a number."""

import torch
from torch import Tensor
from torch.func import grad, jacfwd, jvp, vjp

from models.gradients.numerical import Scalar


def reverse_gradient(function: Scalar, at: Tensor) -> Tensor:
    """The gradient by reverse mode (backpropagation): one pass back, whatever the number of coordinates."""
    return grad(function)(at)  # type: ignore[no-any-return]


def forward_gradient(function: Scalar, at: Tensor) -> Tensor:
    """The gradient by forward mode: a tangent for each coordinate, all in one pass (torch.func.jacfwd)."""
    return jacfwd(function)(at)  # type: ignore[no-any-return]


def tangent(function: Scalar, at: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Value, and slope along `direction` times its length, by one pass of forward mode: J v."""
    pair: tuple[Tensor, Tensor] = jvp(function, (at,), (direction,))  # type: ignore[assignment]
    return pair


def adjoint(function: Scalar, at: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Value, and the transposed Jacobian times `weight`, by one pass of reverse mode: J^T w."""
    value, back = vjp(function, at)  # type: ignore[misc]
    return value, back(weight)[0]


def one_hot(at: Tensor, index: int) -> Tensor:
    """The direction of one coordinate, counted through the whole tensor."""
    direction = torch.zeros_like(at, memory_format=torch.contiguous_format)
    direction.view(-1)[index] = 1
    return direction
