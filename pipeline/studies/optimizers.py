"""SGD against momentum, Nesterov, Adagrad, RMSProp and Adam on the same network, each at the best of four rates.

    retrace study optimizers

Expect: training loss after 15 epochs, each rule at its best rate: Adam 0.0002, momentum 0.0003, Nesterov 0.0005,
RMSProp 0.0006, Adagrad 0.003, SGD 0.008. One seed: the order of the first four is luck.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Outcome, Point, Report, Study, merged
from pipeline.studies.plots import curves

SGD = {"rate_inside": False, "weight_decay": 0.0}
RULES: dict[str, dict[str, Any]] = {
    "SGD": {"name": "sgd", "momentum": 0.0, "sgd": {"nesterov": False, **SGD}},
    "momentum": {"name": "sgd", "momentum": 0.9, "sgd": {"nesterov": False, **SGD}},
    "Nesterov": {"name": "sgd", "momentum": 0.9, "sgd": {"nesterov": True, **SGD}},
    "Adagrad": {"name": "adagrad", "momentum": None},
    "RMSProp": {"name": "rmsprop", "momentum": 0.0},
    "Adam": {"name": "adam", "momentum": None},
}
RATES = {
    "SGD": (0.03, 0.1, 0.3, 1.0),
    "momentum": (0.003, 0.01, 0.03, 0.1),
    "Nesterov": (0.003, 0.01, 0.03, 0.1),
    "Adagrad": (0.003, 0.01, 0.03, 0.1),
    "RMSProp": (0.0003, 0.001, 0.003, 0.01),
    "Adam": (0.0003, 0.001, 0.003, 0.01),
}


def points(params: Params) -> Sequence[Point]:
    return [
        Point(f"{rule}, lr {rate:g}", {"optimizer": {**settings, "lr": rate}})
        for rule, settings in RULES.items()
        for rate in RATES[rule]
    ]


def last(outcome: Outcome) -> float:
    """The training loss of the last epoch."""
    return math.inf if outcome.diverged else outcome.column("train_loss")[-1]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    best = {rule: min(RATES[rule], key=lambda rate: last(outcomes[f"{rule}, lr {rate:g}"])) for rule in RULES}
    found = {rule: outcomes[f"{rule}, lr {best[rule]:g}"] for rule in RULES}
    said = [
        f"{rule} {last(found[rule]):.2g} (rate {best[rule]:g})" for rule in sorted(RULES, key=lambda r: last(found[r]))
    ]
    verdict = f"Training loss after {params.train.epochs} epochs, each rule at its best rate: {'; '.join(said)}."
    rows = [
        {"optimizer": rule, "lr": rate, "train_loss": last(one), "val_loss": one.loss, "val_accuracy": one.accuracy}
        for rule in RULES
        for rate in RATES[rule]
        for one in [outcomes[f"{rule}, lr {rate:g}"]]
    ]
    series = {
        f"{rule}, lr {best[rule]:g}": (one.column("epoch"), one.column("train_loss")) for rule, one in found.items()
    }
    return Report(verdict, rows, {"loss": curves("Loss by update rule", "epoch", "training loss", series, log="y")})


STUDY = Study(
    question="SGD, momentum, Nesterov, Adagrad, RMSProp or Adam on the same network?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "model": {"name": "mlp", "mlp": {"width": 128, "depth": 2}},
            "regularization": {"dropout": 0.0, "l1": 0.0, "l2": 0.0},
            "schedule": {"name": "constant"},
            "train": {"epochs": 15, "batch_size": 64},
        },
    ),
)
