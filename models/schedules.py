"""Learning-rate schedules: the factor on the learning rate as a pure function of the step and of the validations
of the epochs done, so that a resumed training has the rates of an uninterrupted one."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from models import catalogue


class Horizon(NamedTuple):
    """How long the training is planned to be."""

    steps: int
    steps_per_epoch: int


class Validation(NamedTuple):
    """What an epoch came to on the validation split."""

    loss: float
    error: float  # share of wrong answers


Schedule = Callable[[int, Sequence[Validation]], float]  # optimizer steps done, the epochs' validations


def constant(settings: catalogue.Constant, horizon: Horizon) -> Schedule:
    return lambda step, validations: 1.0


def step(settings: catalogue.Step, horizon: Horizon) -> Schedule:
    every = settings.every_epochs * horizon.steps_per_epoch
    return lambda step, validations: float(settings.factor ** (step // every))


def cosine(settings: catalogue.Cosine, horizon: Horizon) -> Schedule:
    """final + (1 - final) (1 + cos(pi step / steps)) / 2 (Loshchilov & Hutter 2017, equation 5)."""
    final = settings.final_fraction

    def factor(step: int, validations: Sequence[Validation]) -> float:
        return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, step / horizon.steps))) / 2

    return factor


def one_cycle(settings: catalogue.OneCycle, horizon: Horizon) -> Schedule:
    """Linear up over the share `rise` of the steps, linear down over the rest (Smith & Topin 2018)."""
    last = max(1, horizon.steps - 1)
    peak = settings.rise * last

    def factor(step: int, validations: Sequence[Validation]) -> float:
        if step <= peak:
            start, end, progress = settings.initial_fraction, 1.0, step / peak
        else:
            start, end, progress = 1.0, settings.final_fraction, min(1.0, (step - peak) / (last - peak))
        return start + (end - start) * progress

    return factor


def plateau(settings: catalogue.Plateau, horizon: Horizon) -> Schedule:
    """Times `factor` whenever more than `patience_epochs` epochs in a row have not lowered the least loss (error) of
    validation by its ten-thousandth (torch's ReduceLROnPlateau, whose defaults these are)."""

    def factor(step: int, validations: Sequence[Validation]) -> float:
        least, waited, drops = math.inf, 0, 0
        for validation in validations:
            figure = validation.loss if settings.monitor == "loss" else validation.error
            if figure < least * (1 - 1e-4):
                least, waited = figure, 0
            else:
                waited += 1
            if waited > settings.patience_epochs:
                waited, drops = 0, drops + 1
        return float(settings.factor**drops)

    return factor


SCHEDULES: dict[str, Callable[[Any, Horizon], Schedule]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "plateau": plateau,
}


def with_warmup(schedule: Schedule, warmup_steps: int) -> Schedule:
    """`schedule` times a linear rise: step t of the first `warmup_steps` runs at the share (t + 1) / warmup_steps."""
    if warmup_steps == 0:
        return schedule
    return lambda step, validations: schedule(step, validations) * min(1.0, (step + 1) / warmup_steps)
