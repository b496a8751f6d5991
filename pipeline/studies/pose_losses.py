"""L1, L2, smooth L1 and Huber on pose, where a part of the training targets are outliers.

    retrace study pose_losses

A tenth of the training targets are replaced by random numbers of five times their spread; validation stays clean.

Expect: mean absolute error without outliers and with 10 %: L1 0.132 and 0.135, Huber with delta 0.3 0.127 and 0.138,
smooth L1 0.132 and 0.170, L2 0.130 and 0.290. Two seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import seeding
from pipeline.params import Params
from pipeline.studies.base import (
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
    repeated,
    spread,
)  # fmt: skip
from pipeline.studies.plots import bars

LOSSES: dict[str, dict[str, Any]] = {
    "L1": {"name": "l1", "l1": {"reduction": "mean"}},
    "L2": {"name": "l2", "l2": {"reduction": "mean"}},
    "smooth L1": {"name": "smooth_l1", "smooth_l1": {"reduction": "mean"}},
    "Huber 0.3": {"name": "huber", "huber": {"reduction": "mean", "delta": 0.3}},
}
SHARES = (0.0, 0.1)
SEEDS = 2


def spoilt(job: Job) -> Figures:
    """A fit on targets of which a share are outliers."""
    from dataclasses import replace

    data, share = job.data, job.settings["share"]
    assert data.train.targets is not None
    targets = np.array(data.train.targets)
    draws = seeding.uniform(job.params.seed, "outliers", 0, np.arange(len(targets)), 1)[:, 0] < share
    noise = seeding.normal(job.params.seed, "outliers", 1, np.arange(len(targets)), targets.shape[1])
    targets[draws] = 5 * targets.std() * noise[draws]
    done = job.fit(data=replace(data, train=replace(data.train, targets=targets)))
    return {"epochs": list(done.epochs), "diverged": done.diverged}


def points(params: Params) -> Sequence[Point]:
    return [
        point
        for loss, settings in LOSSES.items()
        for share in SHARES
        for point in repeated(
            params, SEEDS, f"{loss}, {share:.0%} outliers", {"loss": settings}, work=spoilt, settings={"share": share}
        )
    ]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    found = {
        (loss, share): [one.column("val_figure")[-1] for one in named(outcomes, f"{loss}, {share:.0%} outliers")]
        for loss in LOSSES
        for share in SHARES
    }
    said = [f"{loss} {spread(found[loss, 0.0])[0]:.3f} and {spread(found[loss, 0.1])[0]:.3f}" for loss in LOSSES]
    harm = {loss: spread(found[loss, 0.1])[0] - spread(found[loss, 0.0])[0] for loss in LOSSES}
    verdict = (
        f"Mean absolute error on clean validation images, without outliers and with 10 %: {'; '.join(said)}. Outliers"
        f" harm {max(harm, key=lambda loss: harm[loss])} most and {min(harm, key=lambda loss: harm[loss])} least."
    )
    rows = [
        {"loss": loss, "outliers": share, "val_mae": spread(values)[0], "deviation": spread(values)[1]}
        for (loss, share), values in found.items()
    ]
    shown = {f"{loss}, {share:.0%} outliers": values for (loss, share), values in found.items()}
    picture = bars("Pose: errors by loss", "mean absolute error of a target's number", shown, scale=1.0)
    return Report(verdict, rows, {"error": picture})


STUDY = Study(
    question="Which loss for numbers, where some targets are outliers?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "data": {
                "source": "pose", "path": None, "image_size": None, "channels": None, "folds": None,
                "pose": {"images": 2500},
            },
            "model": {
                "name": "convnet",
                "convnet": {"width": 8, "stages": 4, "first_depth": 1, "depth": 1, "normalization": "batch"},
            },
            "regularization": {"dropout": 0.0, "l1": 0.0, "l2": 0.0},
            "optimizer": {"name": "adam", "lr": 0.003, "momentum": None},
            "schedule": {"name": "cosine", "cosine": {"final_fraction": 0.0}},
            "train": {"epochs": 15, "batch_size": 64},
        },
    ),
)  # fmt: skip
