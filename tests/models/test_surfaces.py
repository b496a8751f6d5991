"""The surfaces' gradients, their low points, and what each shows of the update rules."""

import math

import numpy as np
import pytest
import torch

from models import catalogue
from models.optimizers import OPTIMIZERS
from models.surfaces import STEEPNESS, SURFACES

POINTS = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 2)) * 3)
SGD = catalogue.Sgd(nesterov=False, rate_inside=False, weight_decay=0.0)


@pytest.mark.parametrize("name", SURFACES)
def test_a_gradient_by_hand_is_that_of_the_function(name):
    surface = SURFACES[name]
    points = POINTS.clone().requires_grad_()
    heights = surface.height(points)
    assert heights.shape == (20,)
    (automatic,) = torch.autograd.grad(heights.sum(), points)
    torch.testing.assert_close(surface.gradient(POINTS), automatic, rtol=1e-10, atol=1e-10)
    step = 1e-6
    for axis in range(2):
        moved = step * torch.eye(2, dtype=torch.float64)[axis]
        numerical = (surface.height(POINTS + moved) - surface.height(POINTS - moved)) / (2 * step)
        torch.testing.assert_close(surface.gradient(POINTS)[:, axis], numerical, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SURFACES)
def test_the_low_points_are_flat_and_nothing_is_lower(name):
    surface = SURFACES[name]
    for minimum in torch.tensor(surface.minima, dtype=torch.float64).reshape(-1, 2):
        assert surface.gradient(minimum).abs().max() < 1e-12
        assert (surface.height(POINTS) > surface.height(minimum)).all()


def path(name: str, optimizer: str, settings: catalogue.Optimizer, lr: float, momentum: float | None, steps: int):
    surface = SURFACES[name]
    point = torch.nn.Parameter(torch.tensor(surface.start, dtype=torch.float64))
    rule = OPTIMIZERS[optimizer]([point], settings, lr, momentum)
    found = [point.detach().clone()]
    for _ in range(steps):
        point.grad = surface.gradient(point.detach())
        rule.step()
        found.append(point.detach().clone())
    return torch.stack(found)  # steps + 1, 2


def test_in_the_ravine_plain_descent_zig_zags_and_momentum_gets_further():
    """At a rate that just does not diverge across, 1.9 / STEEPNESS, the shrinkage along is 1 - 1.9 / 40 a step."""
    rate = 1.9 / STEEPNESS
    plain = path("ravine", "sgd", SGD, rate, 0.0, 40)
    assert (plain[1:, 1].sign() == -plain[:-1, 1].sign()).all(), "every step crosses the ravine"
    assert plain[-1, 0].item() == pytest.approx(-2 * (1 - rate) ** 40)
    best = (1 + math.sqrt(STEEPNESS)) ** 2  # Polyak 1964: rate 4 / best, momentum ((sqrt k - 1) / (sqrt k + 1))^2
    momentum = path("ravine", "sgd", SGD, 4 / best, (math.sqrt(STEEPNESS) - 1) ** 2 / best, 40)
    surface = SURFACES["ravine"]
    assert surface.height(momentum[-1]) < 1e-3 * surface.height(plain[-1])


def test_at_the_saddle_plain_descent_waits_and_adagrad_does_not():
    plain = path("saddle", "sgd", SGD, 0.05, 0.0, 40)
    adaptive = path("saddle", "adagrad", catalogue.Adagrad(eps=1e-10), 0.05, None, 40)
    assert plain[-1].abs().max() < 0.2, "it sits at the saddle"
    assert adaptive[-1, 1] > 0.3


def test_descent_ends_in_the_nearest_low_point_not_in_the_lowest():
    found = path("local_minima", "sgd", SGD, 0.001, 0.0, 200)[-1]
    surface = SURFACES["local_minima"]
    assert surface.gradient(found).abs().max() < 1e-6
    assert found.round().tolist() == [2.0, -2.0]
    assert surface.height(found) > 1
