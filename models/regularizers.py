"""The penalty l1 sum |W| + l2 sum W^2 that is added to the mean data loss."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.catalogue import Regularization


def penalized(network: nn.Module) -> list[nn.Parameter]:
    """The weights that are regularized: matrices and filters, neither biases nor normalization's scales."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad and parameter.ndim > 1]


def penalty(weights: Sequence[Tensor], settings: Regularization) -> Tensor | None:
    """The penalty as a scalar; None where both strengths are zero, so that it costs nothing."""
    terms = []
    if settings.l1 > 0:
        terms.append(settings.l1 * torch.stack([weight.abs().sum() for weight in weights]).sum())
    if settings.l2 > 0:
        terms.append(settings.l2 * torch.stack([weight.square().sum() for weight in weights]).sum())
    return sum(terms[1:], start=terms[0]) if terms else None
