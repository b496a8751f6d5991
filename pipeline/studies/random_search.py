"""Random search against following the slope, for a linear classifier: how far do equally many looks at the data lead?

    retrace study random_search

Random search draws 1,000 sets of weights and keeps the best; gradient descent follows the slope of the full set; SGD
that of batches. Each look of random search and each step of gradient descent goes through the whole training set; SGD
is given as many epochs as there are steps in a twentieth of that.

Expect: validation accuracy 23 % for random search after 1,000 tries (guessing: 10 %), 96.3 % for gradient descent
after as many steps, 96.3 % for minibatch SGD after 50 passes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Outcome, Point, Report, Study, merged
from pipeline.studies.plots import curves

TRIES = 1000
SGD = {"nesterov": False, "rate_inside": False, "weight_decay": 0.0}


def ways(params: Params) -> dict[str, dict[str, Any]]:
    """By name, what differs; a look is an epoch of the full set."""
    looks = params.train.epochs
    return {
        "random search": {"optimizer": {"name": "random_search", "momentum": None, "random_search": {"scale": 1e-4}}},
        "gradient descent": {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0, "sgd": SGD}},
        "minibatch SGD": {
            "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0, "sgd": SGD},
            "train": {"batch_size": 64, "epochs": max(1, looks // 20)},
        },
    }


def points(params: Params) -> Sequence[Point]:
    return [Point(name, changes) for name, changes in ways(params).items()]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    said = [f"{name} {100 * one.accuracy:.1f} % after {len(one.epochs)} passes" for name, one in outcomes.items()]
    verdict = f"Validation accuracy of the linear classifier: {'; '.join(said)}."
    rows = [
        {"way": name, "pass": epoch["epoch"], "train_loss": epoch["train_loss"], "val_accuracy": epoch["val_figure"]}
        for name, one in outcomes.items()
        for epoch in one.epochs
    ]
    series = {
        name: (one.column("epoch"), [100 * value for value in one.column("val_figure")])
        for name, one in outcomes.items()
    }
    picture = curves(
        "Search at random, or follow the slope", "passes over the training set", "validation accuracy, %", series,
        log="x", marker=None,
    )  # fmt: skip
    return Report(verdict, rows, {"accuracy": picture})


STUDY = Study(
    question="Can weights be found by random search, or must one follow the slope?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "model": {"name": "linear"},
            "regularization": {"dropout": 0.0, "l1": 0.0, "l2": 0.0},
            "schedule": {"name": "constant"},
            "train": {"epochs": TRIES, "batch_size": None},
        },
    ),
)
