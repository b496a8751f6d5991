"""W against 2W: what doubling all weights and biases does to the SVM loss, to softmax, and to either with a penalty.

    retrace study scale_of_weights

A linear classifier is trained on a few images that it can separate, until no margin is violated; then all its weights
are multiplied by a factor c, and each loss is computed again on the same images.

Expect: the SVM's loss is 0 for W and for 2W: W is not unique. Softmax falls from 0.68 to 0.15, and on for ever. With
0.01 sum W² one W is the best: W itself for the SVM, 2W for softmax.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Figures, Job, Outcome, Point, Report, Study, merged, outputs, part
from pipeline.studies.plots import curves

FACTORS = tuple(2.0 ** (step / 4) for step in range(-8, 13))  # 1/4 to 8
PENALTY = 0.01  # of sum W^2
IMAGES = 100


def scaled(job: Job) -> Figures:
    """The mean losses and the penalty by the factor on W and b."""
    from dataclasses import replace

    import torch

    from models.catalogue import Softmax, Svm
    from models.losses import LOSSES

    data = job.data
    few = part(data.train, np.arange(min(IMAGES, len(data.train))))
    done = job.fit(data=replace(data, train=few, validation=few))  # the best epoch is that of the least loss on them
    scores = outputs(done.trained, few, data, job.params).double()
    labels = torch.from_numpy(few.labels)
    weights = torch.cat([value.detach().flatten() for value in done.trained.parameters() if value.dim() > 1])
    svm = LOSSES["svm"](Svm(margins="all", margin=1.0))
    softmax = LOSSES["softmax"](Softmax(label_smoothing=0.0))
    return {
        "svm": [float(svm(factor * scores, labels).mean()) for factor in FACTORS],
        "softmax": [float(softmax(factor * scores, labels).mean()) for factor in FACTORS],
        "penalty": [PENALTY * float((factor * weights.double()).square().sum()) for factor in FACTORS],
        "accuracy": float((scores.argmax(1) == labels).double().mean()),
    }


def points(params: Params) -> Sequence[Point]:
    return [Point("c W", work=scaled)]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    found = outcomes["c W"].figures
    sums = {
        "SVM": found["svm"],
        "softmax": found["softmax"],
        f"softmax + {PENALTY:g} sum W²": [a + b for a, b in zip(found["softmax"], found["penalty"], strict=True)],
        f"SVM + {PENALTY:g} sum W²": [a + b for a, b in zip(found["svm"], found["penalty"], strict=True)],
    }
    one, two = FACTORS.index(1.0), FACTORS.index(2.0)
    said = [f"{name} {values[one]:.3g} and {values[two]:.3g}" for name, values in sums.items()]
    least = [f"{name} at {FACTORS[int(np.argmin(values))]:.2g} W" for name, values in list(sums.items())[1:]]
    verdict = (
        f"Loss of W and of 2W: {'; '.join(said)}. Least: {', '.join(least)}. The SVM's loss that is zero stays zero, so"
        " W is not unique; softmax falls for ever; a penalty makes one W the best."
        if found["svm"][one] == found["svm"][two] == 0
        else f"Loss of W and of 2W: {'; '.join(said)}. Some margin is still violated: train longer (train.epochs)."
    )
    rows: list[dict[str, Any]] = [
        {"factor": factor, **{name: values[index] for name, values in sums.items()}}
        for index, factor in enumerate(FACTORS)
    ]
    series = {name: (FACTORS, values) for name, values in sums.items()}
    limit = 1.3 * max(max(found["svm"]), max(found["softmax"]), sums[list(sums)[2]][two])
    picture = curves(
        "Losses of c W", "factor c", "loss", series,
        log="x", limits=(-0.02 * limit, limit), marker=None, ticks=(0.25, 0.5, 1, 2, 4, 8),
    )  # fmt: skip
    return Report(verdict, rows, {"losses": picture})


STUDY = Study(
    question="Is W or 2W better, under SVM, softmax and a penalty?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "model": {"name": "linear"},
            "loss": {"name": "svm", "svm": {"margins": "all", "margin": 1.0}},
            "regularization": {"dropout": 0.0, "l1": 0.0, "l2": 0.0},
            "optimizer": {
                "name": "sgd", "lr": 0.02, "momentum": 0.0,
                "sgd": {"nesterov": False, "rate_inside": False, "weight_decay": 0.0},
            },
            "schedule": {"name": "constant"},
            "train": {"epochs": 300, "batch_size": 10},
        },
    ),
)  # fmt: skip
