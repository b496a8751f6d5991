"""With and without batch normalization: one convolutional network over five learning rates, three seeds each.

    retrace study batch_normalization

Expect: after 8 epochs of about 11 steps: with it 32.9 ± 4.6 % at rate 0.003, best 78.8 ± 3.5 % at 0.03, 74.5 ± 15 %
at 0.3; without 13.4 ± 3.2 %, best 54.6 ± 1.7 % at 0.1, 35.5 ± 19 % at 0.3: it learns faster at every rate, and over a
wider range of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

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
from pipeline.studies.plots import COLOURS, canvas, legend, own_style, png_of, titled

KINDS = {"with batch normalization": "batch", "without": "none"}
RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
SEEDS = 3


def points(params: Params) -> Sequence[Point]:
    return [
        point
        for kind, normalization in KINDS.items()
        for rate in RATES
        for point in repeated(
            params,
            SEEDS,
            f"{kind}, lr {rate:g}",
            {"model": {"convnet": {"normalization": normalization}}, "optimizer": {"lr": rate}},
        )
    ]


@own_style()
def drawn(found: Mapping[tuple[str, float], Sequence[float]]) -> bytes:
    figure, grid = canvas(1, 1, 6.4, 4.2)
    axes = grid[0, 0]
    for colour, kind in zip(COLOURS, KINDS, strict=False):
        each = 100 * np.array([found[kind, rate] for rate in RATES])  # rates, seeds
        for column in each.T:
            axes.plot(RATES, column, ".", color=colour, alpha=0.4)
        axes.plot(RATES, each.mean(1), color=colour, linewidth=1.8, label=kind)
    axes.set_xscale("log")
    titled(axes, "Batch normalization and the learning rate", "learning rate", "validation accuracy, %")
    legend(axes)
    return png_of(figure)


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    found = {
        (kind, rate): [one.accuracy for one in named(outcomes, f"{kind}, lr {rate:g}")]
        for kind in KINDS
        for rate in RATES
    }
    said = [
        f"{kind}: best {percent(found[kind, best])} at rate {best:g}, {percent(found[kind, RATES[0]])} at {RATES[0]:g}"
        f" and {percent(found[kind, RATES[-1]])} at {RATES[-1]:g}"
        for kind in KINDS
        for best in [max(RATES, key=lambda rate: spread(found[kind, rate])[0])]
    ]
    verdict = f"Validation accuracy after {params.train.epochs} epochs; {'; '.join(said)}."
    rows = [
        {"normalization": KINDS[kind], "lr": rate, "val_accuracy": spread(values)[0], "deviation": spread(values)[1]}
        for (kind, rate), values in found.items()
    ]
    return Report(verdict, rows, {"accuracy": drawn(found)})


STUDY = Study(
    question="What does batch normalization bring?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        FEW,
        {
            "model": {"name": "convnet", "convnet": {"width": 8, "stages": 2, "first_depth": 2, "depth": 2}},
            "regularization": {"dropout": 0.0, "l1": 0.0, "l2": 0.0},
            "optimizer": {
                "name": "sgd", "momentum": 0.9, "sgd": {"nesterov": False, "rate_inside": False, "weight_decay": 0.0}
            },
            "schedule": {"name": "constant"},
            "train": {"epochs": 8, "batch_size": 32},
        },
    ),
)  # fmt: skip
