"""The penalty that is added to the mean data loss, and the ball that each unit's weights are kept in.

A penalty is part of the objective, so that an optimizer sees its gradient among the others; an optimizer's own weight
decay is no part of it. For plain SGD l2 is a weight decay of twice its strength, for Adam the two differ.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from models.catalogue import Regularization


def matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weights that are learned: matrices and filter banks, neither biases nor normalization's scales."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad and parameter.ndim > 1]


def penalized(network: nn.Module, settings: Regularization) -> list[nn.Parameter]:
    """What the penalty is taken of: `matrices`, or with `penalize_all` whatever is learned."""
    if not settings.penalize_all:
        return matrices(network)
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def penalty(weights: Sequence[Tensor], settings: Regularization) -> Tensor | None:
    """l1 sum |W| + l2 sum W^2 + elastic_net sum (beta W^2 + |W|), a scalar.

    None where every strength is zero, so that it costs nothing, and where no weight is learned.
    """
    if not weights:
        return None
    terms = []
    if settings.l1 > 0:
        terms.append(settings.l1 * _total(weight.abs() for weight in weights))
    if settings.l2 > 0:
        terms.append(settings.l2 * _total(weight.square() for weight in weights))
    if settings.elastic_net > 0:
        beta = settings.elastic_net_beta
        terms.append(settings.elastic_net * _total(beta * weight.square() + weight.abs() for weight in weights))
    return sum(terms[1:], start=terms[0]) if terms else None


def _total(parts: Iterable[Tensor]) -> Tensor:
    return torch.stack([part.sum() for part in parts]).sum()


@torch.no_grad()
def project(weights: Iterable[Tensor], radius: float) -> None:
    """Bring every unit's incoming weights, a row of a matrix or a filter of a bank, back to the ball ||w||_2 <= radius.

    In place; weights within the ball stay as they are (Srebro 2005; Srivastava 2014, section 5.1).
    """
    for weight in weights:
        weight.renorm_(p=2, dim=0, maxnorm=radius)
