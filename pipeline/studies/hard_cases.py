"""The three hard cases for a linear classifier, parity, ring and modes; a small network learns each. Regions drawn.

    retrace study hard_cases

Expect: linear 49 % on parity, 46 % on the ring, 58 % on modes: guessing; the network of 2 x 32 units 100, 100 and 98
%.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Outcome, Point, Report, Study, merged, percent
from pipeline.studies.planes import drawn, mapped

CASES = ("parity", "ring", "modes")
NETWORKS: dict[str, dict[str, Any]] = {
    "linear": {"name": "linear"},
    "mlp": {"name": "mlp", "mlp": {"width": 32, "depth": 2, "activation": "relu"}},
}


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
    panels = {f"{network}, {case}: {100 * one.accuracy:.0f} %": one for (network, case), one in found.items()}
    picture = drawn(panels, columns=len(CASES))
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
