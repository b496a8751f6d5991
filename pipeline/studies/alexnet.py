"""AlexNet without crops, colour shift, dropout, decay or momentum, one at a time, three seeds each.

    retrace study alexnet

The form for small images at an eighth of its widths, on shapes of 32 x 32 pixels in colour, from few images.

Expect: all of it 41.4 ± 18.4 %; in points against it without dropout +38.7, without crops +25.2, without the colour
shift -8.3, without decay -13.9, without momentum -18.9. Some 820 steps on 1,300 images are few: what regularizes costs
more than it gives, momentum pays, and all but the first lie within what seeds do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.params import Params
from pipeline.studies.base import SMALL, Outcome, Point, Report, Study, merged, named, percent, repeated, spread
from pipeline.studies.plots import bars

WAYS: dict[str, dict[str, Any]] = {
    "all of it": {},
    "without crops": {"augment": {"crop_padding": 0}},
    "without the colour shift": {"augment": {"pca_shift": 0.0}},
    "without dropout": {"regularization": {"dropout": 0.0}},
    "without decay": {"optimizer": {"alexnet": {"weight_decay": 0.0}}},
    "without momentum": {"optimizer": {"momentum": 0.0}},
}
SEEDS = 3


def points(params: Params) -> Sequence[Point]:
    return [point for way, changes in WAYS.items() for point in repeated(params, SEEDS, way, changes)]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    found = {way: [one.accuracy for one in named(outcomes, way)] for way in WAYS}
    training = {way: [one.column("train_figure")[-1] for one in named(outcomes, way)] for way in WAYS}
    whole = spread(found["all of it"])[0]
    said = [f"{way} {100 * (spread(found[way])[0] - whole):+.1f}" for way in list(WAYS)[1:]]
    verdict = (
        f"Validation accuracy of all of it {percent(found['all of it'])}; in points against it: {', '.join(said)}"
        f" (standard deviation of seeds {100 * max(spread(values)[1] for values in found.values()):.1f} at most)."
    )
    rows = [
        {
            "way": way,
            "val_accuracy": spread(values)[0],
            "deviation": spread(values)[1],
            "train_accuracy": spread(training[way])[0],
        }
        for way, values in found.items()
    ]
    return Report(verdict, rows, {"accuracy": bars("AlexNet, one part less", "validation accuracy, %", found)})


STUDY = Study(
    question="What is each part of AlexNet's recipe worth?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        {
            "data": {
                "source": "shapes", "path": None, "image_size": None, "channels": None, "folds": None,
                "shapes": {"images": 2000},
            },
            "augment": {
                "normalization": "channel", "crop_padding": 4, "rotation_degrees": 0.0, "horizontal_flip": False,
                "pca_shift": 0.1,
            },
            "model": {
                "name": "alexnet",
                "alexnet": {"version": "one_tower_2014", "form": "small", "width_factor": 0.125},
            },
            "loss": {"name": "softmax"},
            "regularization": {"dropout": 0.5, "l1": 0.0, "l2": 0.0},
            "optimizer": {"name": "alexnet", "lr": 0.003, "momentum": 0.9, "alexnet": {"weight_decay": 0.0005}},
            "schedule": {"name": "cosine", "cosine": {"final_fraction": 0.0}},
            "train": {"epochs": 20, "batch_size": 32},
        },
    ),
)  # fmt: skip
