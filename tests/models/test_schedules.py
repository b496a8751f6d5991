"""Schedules against their ends, their formulas and torch's own."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import catalogue
from models.schedules import SCHEDULES, Horizon, Validation, with_warmup

HORIZON = Horizon(steps=100, steps_per_epoch=10)
SETTINGS = {
    "constant": catalogue.Constant(),
    "step": catalogue.Step(every_epochs=3, factor=0.5),
    "cosine": catalogue.Cosine(final_fraction=0.1),
    "one_cycle": catalogue.OneCycle(rise=0.3, initial_fraction=0.1, final_fraction=0.01),
    "plateau": catalogue.Plateau(monitor="loss", patience_epochs=2, factor=0.5),
}


def factors(name: str) -> list[float]:
    schedule = SCHEDULES[name](SETTINGS[name], HORIZON)
    return [schedule(step, []) for step in range(HORIZON.steps)]


def torch_factors(scheduler_class: type, **options: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = scheduler_class(optimizer, **options)
    found = []
    for _ in range(HORIZON.steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_step_equals_torch():
    expected = torch_factors(torch.optim.lr_scheduler.StepLR, step_size=30, gamma=0.5)
    assert factors("step") == pytest.approx(expected)


def test_cosine_equals_torch():
    expected = torch_factors(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=100, eta_min=0.1)
    assert factors("cosine") == pytest.approx(expected, abs=1e-12)


def test_one_cycle_equals_torch():
    expected = torch_factors(
        torch.optim.lr_scheduler.OneCycleLR,
        max_lr=1.0,
        total_steps=100,
        pct_start=(0.3 * 99 + 1) / 100,  # torch's peak lies at pct_start * steps - 1
        anneal_strategy="linear",
        div_factor=10,
        final_div_factor=10,
        cycle_momentum=False,
    )
    assert factors("one_cycle") == pytest.approx(expected, abs=1e-12)


@given(losses=st.lists(st.floats(0.01, 10) | st.sampled_from([1.0, 0.99995]), max_size=30), patience=st.integers(0, 4))
@pytest.mark.parametrize("monitor", ["loss", "error"])
def test_plateau_equals_torch_after_every_epoch(monitor, losses, patience):
    """Whichever figure it watches; the other one falls, and must not matter."""
    schedule = SCHEDULES["plateau"](catalogue.Plateau(monitor=monitor, patience_epochs=patience, factor=0.5), HORIZON)
    validations = [Validation(**{"loss": -i, "error": -i} | {monitor: loss}) for i, loss in enumerate(losses)]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, eps=0)
    for done in range(len(losses)):
        scheduler.step(losses[done])
        assert schedule(0, validations[: done + 1]) == optimizer.param_groups[0]["lr"]


def test_constant_is_one():
    assert set(factors("constant")) == {1.0}


@pytest.mark.parametrize("name", SCHEDULES)
@given(step=st.integers(0, 1000), losses=st.lists(st.floats(0, 10), max_size=20))
def test_a_factor_is_a_share_of_the_rate_even_beyond_the_plan(name, step, losses):
    factor = SCHEDULES[name](SETTINGS[name], HORIZON)(step, [Validation(loss, loss / 10) for loss in losses])
    assert 0 <= factor <= 1
    assert math.isfinite(factor)


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_step_of_training_has_a_rate(name):
    assert SCHEDULES[name](SETTINGS[name], Horizon(1, 1))(0, []) >= 0


def test_warmup_rises_linearly_and_then_is_the_schedule():
    schedule = SCHEDULES["step"](SETTINGS["step"], HORIZON)
    warm = with_warmup(schedule, 4)
    assert [warm(step, []) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert warm(50, []) == schedule(50, [])
    assert with_warmup(schedule, 0) is schedule
