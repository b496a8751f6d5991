"""Softmax or SVM? The linear classifier under each loss, each at the best of five rates, three seeds each.

    retrace study softmax_svm

Expect: softmax 95.9 ± 0.2 % (rate 0.1), one against all 95.5 ± 0.1 %, worst margin 95.5 ± 0.4 %, all margins 95.0 ±
0.7 %, squared hinge 94.6 ± 0.4 % (rate 0.003): little between them, if each has its own rate. About 360 images to
learn from.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.params import Params
from pipeline.studies.base import (
    FEW,
    PLAIN,
    SMALL,
    Outcome,
    Point,
    Report,
    Study,
    merged,
    named,
    percent,
    repeated,
    spread,
)
from pipeline.studies.plots import bars

LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {"loss": {"name": "softmax", "softmax": {"label_smoothing": 0.0}}},
    "SVM, all margins": {"loss": {"name": "svm", "svm": {"margins": "all", "margin": 1.0}}},
    "SVM, worst margin": {"loss": {"name": "svm", "svm": {"margins": "worst", "margin": 1.0}}},
    "squared hinge": {"loss": {"name": "squared_hinge", "squared_hinge": {"margin": 1.0}}},
    "one against all": {"loss": {"name": "one_against_all"}},
}
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
SEEDS = 3


def points(params: Params) -> Sequence[Point]:
    return [
        point
        for loss, changes in LOSSES.items()
        for rate in RATES
        for point in repeated(params, SEEDS, f"{loss}, lr {rate:g}", merged(changes, {"optimizer": {"lr": rate}}))
    ]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    found = {
        (loss, rate): [outcome.accuracy for outcome in named(outcomes, f"{loss}, lr {rate:g}")]
        for loss in LOSSES
        for rate in RATES
    }
    best = {loss: max(RATES, key=lambda rate: spread(found[loss, rate])[0]) for loss in LOSSES}
    ranked = sorted(LOSSES, key=lambda loss: -spread(found[loss, best[loss]])[0])
    said = [f"{loss} {percent(found[loss, best[loss]])} (rate {best[loss]:g})" for loss in ranked]
    gap = 100 * (spread(found[ranked[0], best[ranked[0]]])[0] - spread(found[ranked[-1], best[ranked[-1]]])[0])
    verdict = (
        f"Validation accuracy of the linear classifier, each loss at its best rate: {'; '.join(said)}. First and last"
        f" lie {gap:.1f} points apart."
    )
    rows = [
        {
            "loss": loss,
            "lr": rate,
            "seeds": len(values),
            "val_accuracy": spread(values)[0],
            "deviation": spread(values)[1],
        }
        for (loss, rate), values in found.items()
    ]
    shown = {f"{loss}, lr {best[loss]:g}": found[loss, best[loss]] for loss in ranked}
    return Report(
        verdict, rows, {"accuracy": bars("One linear classifier, several losses", "validation accuracy, %", shown)}
    )


STUDY = Study(
    question="Softmax or SVM: does the loss matter for a linear classifier?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        FEW,
        {
            "model": {"name": "linear"},
            "regularization": {"dropout": 0.0, "l1": 0.0, "l2": 0.001},
            "optimizer": {"name": "sgd", "momentum": 0.9, "sgd": {"nesterov": False}},
            "schedule": {"name": "cosine", "cosine": {"final_fraction": 0.0}},
            "train": {"epochs": 40},
        },
    ),
)
