"""Which learning rate? Loss curves of six on one plot: too high diverges, high plateaus, low crawls, good falls far.

    retrace study learning_rate

Expect: 0.7 is good, training loss 0.001 after 20 epochs; 0.001, 0.01 and 0.1 are low and still falling (1.34, 0.21,
0.018); 1.2 jumps and then stays at 2.31, as good as guessing, since its units have died; 10 becomes infinite in the
first epoch. Without momentum; between 0.9 and 1.2 which of the last two comes is a matter of chance.
"""

import math
from collections.abc import Mapping, Sequence

from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Outcome, Point, Report, Study, merged
from pipeline.studies.plots import curves

RATES = (0.001, 0.01, 0.1, 0.7, 1.2, 10.0)


def points(params: Params) -> Sequence[Point]:
    return [Point(f"lr {rate:g}", {"optimizer": {"lr": rate}}) for rate in RATES]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    by_rate = dict(zip(RATES, outcomes.values(), strict=True))
    loss = {
        rate: math.inf if outcome.diverged else outcome.column("train_loss")[-1] for rate, outcome in by_rate.items()
    }
    good = min(loss, key=lambda rate: loss[rate])
    diverged = [f"{rate:g}" for rate, outcome in by_rate.items() if outcome.diverged]
    worse = [f"{rate:g} ({loss[rate]:.3g})" for rate in RATES if rate > good and math.isfinite(loss[rate])]
    lower = [f"{rate:g} ({loss[rate]:.3g})" for rate in RATES if rate < good]
    verdict = (
        f"Good: {good:g}, training loss {loss[good]:.3g} after {params.train.epochs} epochs. Low: {', '.join(lower)}:"
        f" still falling. High: {', '.join(worse) or 'none of those tried'}: plateaus above it."
        f" Too high, the loss becomes infinite: {', '.join(diverged) or 'none of those tried'}."
    )
    rows = [
        {
            "lr": rate,
            "epoch": epoch["epoch"],
            **{name: epoch[name] for name in ("train_loss", "val_loss", "val_figure")},
        }
        for rate, outcome in by_rate.items()
        for epoch in outcome.epochs
    ]
    series = {
        f"{rate:g}{' (diverges)' if outcome.diverged else ''}": (outcome.column("epoch"), outcome.column("train_loss"))
        for rate, outcome in by_rate.items()
    }
    return Report(
        verdict,
        rows,
        {
            "loss_curves": curves(
                "Loss by learning rate", "epoch", "training loss", series, log="y", limits=(3e-4, 30.0)
            )
        },
    )


STUDY = Study(
    question="Which learning rate is good, and what do others look like?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "model": {"name": "mlp"},
            "regularization": {"dropout": 0.0, "l2": 0.0},
            "optimizer": {"name": "sgd", "momentum": 0.0, "sgd": {"nesterov": False}},
            "schedule": {"name": "constant"},
            "train": {"epochs": 20},
        },
    ),
)
