"""Differences against derivatives that are known, and kinks told from bends."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.gradients.graph import example
from models.gradients.numerical import EPSILON, numerical_gradient, slope, slopes, step_size

AT = torch.tensor([0.7, -1.3], dtype=torch.float64)
GRADIENT = [-1.3 + math.cos(0.7), 0.7]


@pytest.mark.parametrize(("form", "tolerance"), [("central", 1e-9), ("forward", 1e-7)])
def test_the_examples_gradient(form, tolerance):
    assert numerical_gradient(example, AT, form=form).tolist() == pytest.approx(GRADIENT, rel=tolerance)


@pytest.mark.parametrize(("form", "evaluations"), [("central", 2 * 6), ("forward", 6 + 1)])
def test_it_costs_so_many_evaluations(form, evaluations):
    seen = []

    def function(x):
        seen.append(x)
        return x.square().sum()

    at = torch.arange(6, dtype=torch.float64).reshape(2, 3)
    gradient = numerical_gradient(function, at, form=form)
    assert len(seen) == evaluations
    torch.testing.assert_close(gradient, 2 * at, rtol=1e-6, atol=1e-7)
    assert at.tolist() == [[0, 1, 2], [3, 4, 5]]  # what is given stays as it is


def test_the_error_falls_with_the_square_of_a_central_step_and_with_a_forward_one():
    def errors(form):
        at = torch.tensor([0.5], dtype=torch.float64)
        found = [numerical_gradient(lambda x: x.exp().sum(), at, form=form, step=h).item() for h in (1e-2, 1e-3)]
        return [abs(value - math.exp(0.5)) for value in found]

    central, forward = errors("central"), errors("forward")
    assert central[0] / central[1] == pytest.approx(100, rel=0.01)
    assert central[0] == pytest.approx(1e-4 / 6 * math.exp(0.5), rel=0.01)  # h^2 f''' / 6
    assert forward[0] / forward[1] == pytest.approx(10, rel=0.01)
    assert forward[0] == pytest.approx(1e-2 / 2 * math.exp(0.5), rel=0.01)  # h f'' / 2


@given(value=st.floats(-1e6, 1e6))
def test_the_step_is_a_power_of_two_near_its_rule(value):
    for form, root in (("central", 1 / 3), ("forward", 1 / 2)):
        step = step_size(value, form)
        assert math.log2(step).is_integer()
        assert 2**-0.5 <= step / (EPSILON**root * max(1.0, abs(value))) <= 2**0.5


def test_the_slope_in_a_direction_is_the_dot_product():
    gradient, direction = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])
    assert slope(gradient, direction) == pytest.approx(4.0)  # whatever the direction's length
    assert slope(gradient, gradient) == pytest.approx(5.0)  # steepest along the gradient: its norm
    towards = torch.tensor([0.6, -0.8], dtype=torch.float64)
    along = (example(AT + 1e-6 * towards) - example(AT - 1e-6 * towards)) / 2e-6
    assert slope(torch.tensor(GRADIENT, dtype=torch.float64), towards) == pytest.approx(along.item(), rel=1e-8)


@given(share=st.floats(-0.99, 0.99), jump=st.floats(0.01, 10), bend=st.floats(-10, 10))
def test_a_kink_within_the_step_is_found_wherever_it_lies(share, jump, bend):
    """The error of the central difference, J (1 - |d| / h) / 2, is bounded by what gives the kink away."""
    at = torch.tensor([0.3], dtype=torch.float64)
    kink = 0.3 + share * step_size(0.3)

    def function(x):
        return (jump * torch.relu(x - kink) + bend * x.square() + x).sum()

    found = slopes(function, at, 0, function(at).item())
    right_slope = 1 + 2 * bend * 0.3 + (jump if kink < 0.3 else 0.0)
    error = abs(found.central - right_slope)
    assert error == pytest.approx(jump * (1 - abs(share)) / 2, abs=1e-7)
    assert error <= 3.6 * found.roughness + 1e-7
    if abs(share) < 0.9:
        assert found.is_rough(typical=1.0)


@given(bend=st.floats(-100, 100), frequency=st.floats(0.1, 10))
def test_a_bend_is_no_kink(bend, frequency):
    at = torch.tensor([0.3], dtype=torch.float64)

    def function(x):
        return (bend * x.square() + torch.sin(frequency * x) + 2 * x).sum()

    assert not slopes(function, at, 0, function(at).item()).is_rough(typical=1.0)


def test_at_a_corner_both_slopes_are_told():
    at = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = slopes(lambda x: torch.where(x > 0, 3 * x, -x).sum(), at, 0, 3.0)
    assert (found.left, found.right) == pytest.approx((-1, 3))
    assert found.central == pytest.approx(1)
