"""Cost and error as data: they follow the theory."""

import pytest

from models.gradients import costs


def test_the_cost_of_every_way_by_size():
    few, many = costs.cost_by_size([2, 32], at_most=100)
    assert few.parameters == 64 * 2 + 2 + 2 * 2 + 2 + 2 * 10 + 10  # two hidden layers
    assert (few.numerical_evaluations, few.forward_evaluations) == (2 * few.parameters, few.parameters)
    assert not few.is_measured
    assert not many.is_measured
    assert many.numerical_seconds > 5 * few.numerical_seconds
    assert many.reverse_seconds < 5 * few.reverse_seconds
    assert many.numerical_seconds > many.parameters * many.evaluation_seconds  # 2P values, each at least that long
    assert many.reverse_evaluations == pytest.approx(many.reverse_seconds / many.evaluation_seconds)
    assert costs.cost_by_size([1], at_most=100)[0].is_measured


def test_the_error_of_differences_by_step():
    steps = [1e-2, 1e-3, 1e-5, 1e-8, 1e-11]
    rows = costs.error_by_step(steps)
    assert [row.step for row in rows] == steps
    central, forward = [row.central_error for row in rows], [row.forward_error for row in rows]
    assert central[0] / central[1] == pytest.approx(100, rel=0.1)  # truncation: h^2
    assert forward[0] / forward[1] == pytest.approx(10, rel=0.1)  # h
    assert min(range(5), key=central.__getitem__) == 2  # near eps^(1/3)
    assert min(range(5), key=forward.__getitem__) == 3  # near eps^(1/2)
    assert central[2] < 1e-8 < 1e-5 < central[4]  # rounding: eps / h
