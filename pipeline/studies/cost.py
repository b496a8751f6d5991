"""Time to train and to predict against the number of images, for k-nearest neighbours, a linear classifier and a CNN.

    retrace study cost

Times are this machine's: everything but the accuracies lies in measured/.

Expect: with all 3,900 training images 5-NN 79.0 %, linear 63.8 %, the convolutional network 56.1 % (after five
epochs). From 244 to 3,900 images, on a busy machine: 5-NN trains in under 1 ms and predicts in 2.8 to 6.4 ms, growing
with the images; linear trains in 1.3 to 4.1 s, the convolutional network in 4.2 to 15 s, and a prediction takes 0.1
and 0.2 to 0.5 ms, whatever their number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import seeding
from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Figures, Job, Outcome, Point, Report, Study, accuracy, merged, part
from pipeline.studies.nearest import predictions
from pipeline.studies.plots import COLOURS, canvas, legend, own_style, png_of, titled

MODELS = ("5-NN", "linear", "convnet")
SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)
NEIGHBOURS = 5
QUERIES = 1000


def timed(job: Job) -> Figures:
    """Train on some of the images, predict as many validation images whatever the number trained on."""
    from dataclasses import replace

    data, model = job.data, job.settings["model"]
    count = max(2 * NEIGHBOURS, round(job.settings["share"] * len(data.train)))
    rows = np.sort(seeding.permutation(job.params.seed, "cost", 0, len(data.train))[:count])
    train = part(data.train, rows)
    queries = part(data.validation, np.arange(min(QUERIES, len(data.validation))))
    if model == "5-NN":
        with job.timed("train_seconds"):
            memory, labels = np.array(train.images), np.array(train.labels)
        predictions(memory[:1], memory, labels, [NEIGHBOURS], "l2")  # compiles the search, once in a process
        with job.timed("predict_seconds"):
            found = predictions(np.asarray(queries.images), memory, labels, [NEIGHBOURS], "l2")[NEIGHBOURS]
        right = float((found == queries.labels).mean())
    else:
        with job.timed("train_seconds"):
            network = job.fit(data=replace(data, train=train), name=model).trained
        with job.timed("predict_seconds"):
            right = accuracy(network, queries, data, job.params)
    job.measured["predict_seconds"] /= len(queries)
    return {"images": len(train), "accuracy": right}


def points(params: Params) -> Sequence[Point]:
    return [
        Point(
            f"{model}, {share:.4g} of the images",
            {} if model == "5-NN" else {"model": {"name": model}},
            work=timed,
            settings={"model": model, "share": share},
        )
        for model in MODELS
        for share in SHARES
    ]


@own_style()
def drawn(rows: Sequence[Mapping[str, Any]]) -> bytes:
    figure, grid = canvas(1, 2, 4.6, 3.8)
    for axes, column, title in (
        (grid[0, 0], "train_seconds", "Time to train"),
        (grid[0, 1], "predict_seconds_per_image", "Time to predict one image"),
    ):
        for colour, model in zip(COLOURS, MODELS, strict=False):
            mine = [row for row in rows if row["model"] == model]
            axes.plot([row["images"] for row in mine], [row[column] for row in mine], "o-", color=colour, label=model)
        axes.set_xscale("log")
        axes.set_yscale("log")
        titled(axes, title, "training images", "seconds")
    legend(grid[0, 0])
    return png_of(figure)


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    rows: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    for model in MODELS:
        for share in SHARES:
            one = outcomes[f"{model}, {share:.4g} of the images"]
            rows.append({"model": model, **one.figures})
            times.append(
                {
                    "model": model,
                    "images": one.figures["images"],
                    "train_seconds": one.measured["train_seconds"],
                    "predict_seconds_per_image": one.measured["predict_seconds"],
                }
            )
    last = {model: [row for row in rows if row["model"] == model][-1] for model in MODELS}
    said = [f"{model} {100 * row['accuracy']:.1f} %" for model, row in last.items()]
    verdict = f"With all {last['linear']['images']} training images, validation accuracy: {'; '.join(said)}."
    ends = {model: [row for row in times if row["model"] == model] for model in MODELS}
    words = [
        f"{model}: training {mine[0]['train_seconds']:.2g} to {mine[-1]['train_seconds']:.2g} s, one prediction"
        f" {1e6 * mine[0]['predict_seconds_per_image']:.2g} to {1e6 * mine[-1]['predict_seconds_per_image']:.2g} µs"
        for model, mine in ends.items()
    ]
    measured = Report(
        f"From {times[0]['images']} to {times[-1]['images']} images. {'; '.join(words)}.", times, {"time": drawn(times)}
    )
    return Report(verdict, rows, {}, measured)


STUDY = Study(
    question="What does it cost to train and to predict, by the number of images?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "data": {
                "source": "shapes", "path": None, "image_size": None, "channels": None, "folds": None,
                "shapes": {"images": 6000},
            },
            "loss": {"name": "softmax"},
            "model": {"convnet": {"width": 8, "stages": 3, "first_depth": 1, "depth": 1}},
            "regularization": {"dropout": 0.0},
            "optimizer": {"name": "sgd", "lr": 0.03, "momentum": 0.9},
            "train": {"epochs": 5, "batch_size": 64},
        },
    ),
    is_timing=True,
)  # fmt: skip
