"""The penalty: what it is, what it leaves alone, and what it means for SGD."""

import pytest
import torch
from torch import nn

from models.catalogue import Regularization
from models.regularizers import penalized, penalty


def strength(l1: float = 0.0, l2: float = 0.0) -> Regularization:
    return Regularization(l1=l1, l2=l2, dropout=0.0)


def test_l2_prefers_spread_weights_and_l1_cannot_tell():
    peak, spread = torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 4), 0.25)
    assert penalty([peak], strength(l2=1.0)).item() == 1.0
    assert penalty([spread], strength(l2=1.0)).item() == 0.25
    assert penalty([peak], strength(l1=1.0)).item() == penalty([spread], strength(l1=1.0)).item() == 1.0


def test_both_strengths_add_over_all_tensors():
    weights = [torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0]])]
    assert penalty(weights, strength(l1=0.5, l2=0.1)).item() == pytest.approx(0.5 * 6 + 0.1 * 14)


def test_gradients_are_the_formulas():
    weight = torch.tensor([[1.5, -2.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(penalty([weight], strength(l1=0.5, l2=0.1)), weight)
    assert gradient.tolist() == [[0.5 + 0.2 * 1.5, -0.5 - 0.2 * 2.0]]


def test_nothing_to_pay_is_none():
    assert penalty([torch.ones(2, 2)], strength()) is None


def test_biases_and_normalization_are_exempt():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert [tuple(weight.shape) for weight in penalized(network)] == [(4, 3, 3, 3), (2, 4)]


def test_l2_is_sgd_weight_decay_of_twice_its_strength():
    start = torch.tensor([[0.5, -2.0]], dtype=torch.float64)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    optimizers = torch.optim.SGD([ours], lr=0.1), torch.optim.SGD([theirs], lr=0.1, weight_decay=2 * 0.03)
    for _ in range(3):
        for weight, optimizer, extra in zip((ours, theirs), optimizers, (True, False), strict=True):
            loss = (weight * torch.tensor([[1.0, 2.0]])).sum()
            if extra:
                loss = loss + penalty([weight], strength(l2=0.03))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
