"""The penalty and the projection: what they are, what they leave alone, and what l2 means for SGD and Adam."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models import catalogue
from models.catalogue import Regularization
from models.optimizers import OPTIMIZERS
from models.regularizers import matrices, penalized, penalty, project

OFF = Regularization(
    l1=0.0, l2=0.0, elastic_net=0.0, elastic_net_beta=1.0, penalize_all=False, max_norm=None, dropout=0.0
)


def strength(**values: float) -> Regularization:
    return OFF.model_copy(update=values)


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


@given(
    weights=st.lists(st.floats(-10, 10), min_size=6, max_size=6),
    strengths=st.tuples(*[st.floats(0, 2)] * 3),
    beta=st.floats(0, 5),
)
def test_the_penalty_equals_its_formula(weights, strengths, beta):
    w = np.array(weights)
    l1, l2, elastic_net = strengths
    expected = l1 * np.abs(w).sum() + l2 * (w**2).sum() + elastic_net * (beta * w**2 + np.abs(w)).sum()
    parts = [torch.from_numpy(w[:2])[None], torch.from_numpy(w[2:]).reshape(2, 2)]
    found = penalty(parts, strength(l1=l1, l2=l2, elastic_net=elastic_net, elastic_net_beta=beta))
    assert (0.0 if found is None else found.item()) == pytest.approx(expected, rel=1e-12)


def test_elastic_net_is_l1_and_l2_in_one_ratio():
    weight = torch.tensor([[1.5, -2.0], [0.0, 0.25]], dtype=torch.float64)
    both = penalty([weight], strength(l1=0.1, l2=0.1 * 3.0))
    torch.testing.assert_close(penalty([weight], strength(elastic_net=0.1, elastic_net_beta=3.0)), both)


def test_nothing_to_pay_is_none():
    assert penalty([torch.ones(2, 2)], strength()) is None
    assert penalty([], strength(l1=1.0, l2=1.0)) is None


NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_biases_and_normalization_are_exempt_unless_asked_for():
    assert [tuple(weight.shape) for weight in penalized(NETWORK, strength())] == [(4, 3, 3, 3), (2, 4)]
    assert penalized(NETWORK, strength(penalize_all=True)) == list(NETWORK.parameters())


def test_frozen_weights_are_left_out():
    network = copy.deepcopy(NETWORK)
    network[0].requires_grad_(False)
    assert [tuple(weight.shape) for weight in matrices(network)] == [(2, 4)]
    assert [tuple(weight.shape) for weight in penalized(network, strength(penalize_all=True))] == [
        (4,),
        (4,),
        (2, 4),
        (2,),
    ]


# --- l2 and weight decay ----------------------------------------------------------------------------------------------

SGD = {"nesterov": True, "rate_inside": False}
ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def trained(name: str, l2: float, **settings: object) -> torch.Tensor:
    weight = nn.Parameter(torch.tensor([[0.5, -2.0]], dtype=torch.float64))
    chosen = catalogue.OPTIMIZERS[name](**settings)
    optimizer = OPTIMIZERS[name]([weight], chosen, 0.1, chosen.own_momentum)
    for _ in range(5):
        loss = (weight * torch.tensor([[1.0, 2.0]])).sum()
        penalty_ = penalty([weight], strength(l2=l2))
        optimizer.zero_grad()
        (loss if penalty_ is None else loss + penalty_).backward()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("inside", [True, False])
def test_for_sgd_l2_is_weight_decay_of_twice_its_strength(inside):
    by_penalty = trained("sgd", 0.03, **SGD | {"rate_inside": inside}, weight_decay=0.0)
    by_decay = trained("sgd", 0.0, **SGD | {"rate_inside": inside}, weight_decay=0.06)
    torch.testing.assert_close(by_penalty, by_decay, rtol=1e-12, atol=0)
    assert not torch.allclose(by_penalty, trained("sgd", 0.0, **SGD, weight_decay=0.0))


def test_for_adam_they_differ():
    """Adam divides the penalty's gradient by its own size; decoupled, the decay is of the weight alone."""
    by_penalty = trained("adam", 0.03, **ADAM)
    by_decay = trained("adamw", 0.0, **ADAM, weight_decay=0.06)
    assert not torch.allclose(by_penalty, by_decay, rtol=1e-3)
    torch.testing.assert_close(trained("adam", 0.0, **ADAM), trained("adamw", 0.0, **ADAM, weight_decay=0.0))


# --- max-norm ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 2, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_each_units_weights_are_projected_to_the_ball(shape, layout):
    if len(shape) != 4 and layout is torch.channels_last:
        pytest.skip("a layout of filter banks")
    before = np.random.default_rng(0).normal(size=shape) * np.array([0.1, 1, 2, 4, 0]).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    norms = np.sqrt((before**2).reshape(5, -1).sum(1))
    expected = before * np.where(norms > 2, 2 / np.maximum(norms, 1e-9), 1).reshape(-1, *[1] * (len(shape) - 1))
    weight = nn.Parameter(torch.from_numpy(before.copy()).to(memory_format=layout))
    project([weight], 2.0)
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-6)
    inside = norms <= 2
    assert 0 < inside.sum() < 5
    np.testing.assert_array_equal(weight.detach().numpy()[inside], before[inside])
