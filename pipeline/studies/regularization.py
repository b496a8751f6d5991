"""No regularization, or which? A wide network on few images, five seeds each, and what it does to the weights.

    retrace study regularization

Expect: validation accuracy dropout 97.6 ± 0.3 %, elastic net 97.5 ± 0.3 %, L2 97.5 ± 0.3 %, L1 97.4 ± 0.3 %, max-norm
97.3 ± 0.2 %, none 97.2 ± 0.2 %: on the digits hardly more than the seeds' spread. Without any, training accuracy lies
2.8 points above validation. L1 brings 37 % of the weights near zero, the most. (With dropout, training accuracy is
that of the thinned network.)
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.params import Params
from pipeline.studies.base import (
    FEW,
    PLAIN,
    SMALL,
    Figures,
    Job,
    Outcome,
    Point,
    Report,
    Study,
    merged,
    named,
    percent,
    repeated,
    spread,
)  # fmt: skip
from pipeline.studies.plots import bars

NONE: dict[str, Any] = {"l1": 0.0, "l2": 0.0, "elastic_net": 0.0, "max_norm": None, "dropout": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "L2 0.001": {"l2": 0.001},
    "L1 0.0003": {"l1": 0.0003},
    "elastic net 0.0003": {"elastic_net": 0.0003, "elastic_net_beta": 1.0},
    "dropout 0.5": {"dropout": 0.5},
    "max-norm 1": {"max_norm": 1.0},
}
SEEDS = 5
ZERO = 1e-3  # a weight below this is as good as none


def weighed(job: Job) -> Figures:
    """A fit, and how its weights are spread: the share that is nearly zero, and the mean square."""
    done = job.fit()
    import torch

    weights = torch.cat([value.detach().flatten() for value in done.trained.parameters() if value.dim() > 1])
    return {
        "epochs": list(done.epochs),
        "diverged": done.diverged,
        "near_zero": float((weights.abs() < ZERO).double().mean()),
        "mean_square": float(weights.double().square().mean()),
    }


def points(params: Params) -> Sequence[Point]:
    return [
        point
        for way, strengths in WAYS.items()
        for point in repeated(params, SEEDS, way, {"regularization": {**NONE, **strengths}}, work=weighed)
    ]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    rows: list[dict[str, Any]] = []
    shown, gaps = {}, {}
    for way in WAYS:
        mine = named(outcomes, way)
        shown[way] = [outcome.accuracy for outcome in mine]
        training = [float(outcome.epochs[-1]["train_figure"]) for outcome in mine]
        gaps[way] = spread(training)[0] - spread(shown[way])[0]
        rows.append(
            {
                "way": way,
                "val_accuracy": spread(shown[way])[0],
                "deviation": spread(shown[way])[1],
                "val_loss": spread([outcome.loss for outcome in mine])[0],
                "train_accuracy": spread(training)[0],
                "weights_near_zero": spread([float(outcome.figures["near_zero"]) for outcome in mine])[0],
                "mean_square_weight": spread([float(outcome.figures["mean_square"]) for outcome in mine])[0],
            }
        )
    ranked = sorted(WAYS, key=lambda way: -spread(shown[way])[0])
    sparsest = max(rows, key=lambda row: row["weights_near_zero"])
    verdict = (
        f"Validation accuracy: {'; '.join(f'{way} {percent(shown[way])}' for way in ranked)}. Without any,"
        f" training accuracy lies {100 * gaps['none']:.1f} points above validation; with {ranked[0]}"
        f" {100 * gaps[ranked[0]]:.1f}."
        f" Most weights are nearly zero under {sparsest['way']}: {100 * sparsest['weights_near_zero']:.0f} %."
    )
    return Report(verdict, rows, {"accuracy": bars("Regularization", "validation accuracy, %", shown)})


STUDY = Study(
    question="What does regularization do, and which kind?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        FEW,
        {
            "model": {"name": "mlp", "mlp": {"width": 256, "depth": 2}},
            "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "sgd": {"nesterov": True}},
            "schedule": {"name": "cosine", "cosine": {"final_fraction": 0.0}},
            "train": {"epochs": 60, "batch_size": 32},
        },
    ),
)
