"""Depth, width and activation of a small network on points of the plane: its decision regions, drawn.

    retrace study small_networks

Expect: on the spiral 1 x 4 units 56 %, 2 x 4 75 %, 1 x 32 94 %, 2 x 32 100 %; 2 x 32 with tanh 97 %, GELU 100 %,
sigmoid 67 %, which has hardly begun. Ring and xor: 95 % and more with any of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Outcome, Point, Report, Study, merged
from pipeline.studies.planes import drawn, mapped

NETWORKS: dict[str, dict[str, Any]] = {
    "1 x 4 relu": {"depth": 1, "width": 4, "activation": "relu"},
    "1 x 32 relu": {"depth": 1, "width": 32, "activation": "relu"},
    "2 x 4 relu": {"depth": 2, "width": 4, "activation": "relu"},
    "2 x 32 relu": {"depth": 2, "width": 32, "activation": "relu"},
    "4 x 32 relu": {"depth": 4, "width": 32, "activation": "relu"},
    "2 x 32 tanh": {"depth": 2, "width": 32, "activation": "tanh"},
    "2 x 32 sigmoid": {"depth": 2, "width": 32, "activation": "sigmoid"},
    "2 x 32 gelu": {"depth": 2, "width": 32, "activation": "gelu"},
}
SETS: dict[str, dict[str, Any]] = {
    "spiral": {"figure": "spiral", "classes": 3},
    "ring": {"figure": "ring", "classes": 2},
    "xor": {"figure": "xor", "classes": 2},
}


def points(params: Params) -> Sequence[Point]:
    return [
        Point(f"{network} on {name}", {"model": {"mlp": settings}}, {"data": {"points": of}}, mapped)
        for name, of in SETS.items()
        for network, settings in NETWORKS.items()
    ]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    rows: list[dict[str, Any]] = [
        {"set": name, "network": network, "val_accuracy": outcomes[f"{network} on {name}"].accuracy}
        for name in SETS
        for network in NETWORKS
    ]
    said = [
        f"{name}: "
        + ", ".join(f"{row['network']} {100 * row['val_accuracy']:.0f} %" for row in rows if row["set"] == name)
        for name in SETS
    ]
    figures = {
        name: drawn(
            {
                f"{network}: {100 * outcomes[f'{network} on {name}'].accuracy:.0f} %": outcomes[f"{network} on {name}"]
                for network in NETWORKS
            },
            columns=4,
        )
        for name in SETS
    }
    return Report(f"Validation accuracy (layers x units, activation). {'. '.join(said)}.", rows, figures)


STUDY = Study(
    question="What do depth, width and activation change in the plane?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "data": {
                "source": "points", "path": None, "image_size": None, "channels": None, "folds": None,
                "points": {"noise": 0.03, "images": 1500},
            },
            "model": {"name": "mlp"},
            "loss": {"name": "softmax"},
            "regularization": {"dropout": 0.0, "l1": 0.0, "l2": 0.0},
            "optimizer": {"name": "adam", "lr": 0.01, "momentum": None},
            "schedule": {"name": "cosine", "cosine": {"final_fraction": 0.0}},
            "train": {"epochs": 30, "batch_size": 64},
        },
    ),
)  # fmt: skip
