"""The three hard cases for a linear classifier, parity, ring and modes; a small network learns each. Regions drawn.

    retrace study hard_cases

Expect: see below.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Figures, Job, Outcome, Point, Report, Study, merged, outputs, percent
from pipeline.studies.plots import canvas, own_style, png_of, regions, titled

CASES = ("parity", "ring", "modes")
NETWORKS: dict[str, dict[str, Any]] = {
    "linear": {"name": "linear"},
    "mlp": {"name": "mlp", "mlp": {"width": 32, "depth": 2}},
}
GRID = 128  # cells a side of the drawn plane
SHOWN = 300  # validation points in a picture


def mapped(job: Job) -> Figures:
    """A fit, its predictions on a grid over the plane, and some validation points."""
    done, data = job.fit(), job.data
    values = np.linspace(0, 255, GRID).round().astype(np.uint8)
    plane = np.stack(np.meshgrid(values, values), axis=-1).reshape(-1, 1, 1, 2)  # row by row, y upwards
    from dataclasses import replace

    grid = replace(data.validation, images=plane, labels=np.zeros(len(plane), np.int64), targets=None, boxes=None)
    predicted = outputs(done.trained, grid, data, job.params).argmax(1).numpy()
    return {
        "epochs": list(done.epochs),
        "diverged": done.diverged,
        "regions": predicted.reshape(GRID, GRID).tolist(),
        "points": (np.asarray(data.validation.images[:SHOWN]).reshape(-1, 2) / 127.5 - 1).tolist(),
        "labels": data.validation.labels[:SHOWN].tolist(),
    }


@own_style()
def drawn(rows: Sequence[str], columns: Sequence[str], outcomes: Mapping[tuple[str, str], Outcome]) -> bytes:
    """A panel a pair of names: decision regions, validation points, accuracy."""
    figure, grid = canvas(len(rows), len(columns), 2.5, 2.7)
    for across, line in zip(rows, grid, strict=True):
        for down, axes in zip(columns, line, strict=True):
            one = outcomes[across, down]
            regions(
                axes,
                np.array(one.figures["regions"]),
                np.array(one.figures["points"]),
                np.array(one.figures["labels"]),
            )
            titled(axes, f"{across}, {down}: {100 * one.accuracy:.0f} %")
    return png_of(figure)


def points(params: Params) -> Sequence[Point]:
    return [
        Point(f"{network} on {case}", {"model": model}, {"data": {"hard_cases": {"case": case}}}, mapped)
        for network, model in NETWORKS.items()
        for case in CASES
    ]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    found = {(network, case): outcomes[f"{network} on {case}"] for network in NETWORKS for case in CASES}
    said = [
        f"{case}: linear {percent([found['linear', case].accuracy])}, network {percent([found['mlp', case].accuracy])}"
        for case in CASES
    ]
    rows = [
        {"network": network, "case": case, "val_accuracy": one.accuracy, "val_loss": one.loss}
        for (network, case), one in found.items()
    ]
    picture = drawn(list(NETWORKS), CASES, found)
    return Report(f"Validation accuracy, two classes. {'; '.join(said)}.", rows, {"regions": picture})


STUDY = Study(
    question="What can no linear classifier learn, and does a small network?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "data": {
                "source": "hard_cases", "path": None, "image_size": None, "channels": None, "folds": None,
                "hard_cases": {"dimensions": 2, "images": 2000},
            },
            "loss": {"name": "softmax"},
            "regularization": {"dropout": 0.0, "l1": 0.0, "l2": 0.0},
            "optimizer": {"name": "adam", "lr": 0.01, "momentum": None},
            "schedule": {"name": "cosine", "cosine": {"final_fraction": 0.0}},
            "train": {"epochs": 40, "batch_size": 64},
        },
    ),
)  # fmt: skip
