"""The curve of each loss against its score or its residual, drawn from the very functions that train.

    retrace study loss_curves

Expect: at equal scores softmax 0.693, SVM 1, squared hinge 1; at 2 ahead 0.127, 0, 0. At a residual of 3: L1 3, L2 9,
smooth L1 2.5, Huber with delta 2 4.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.params import Params
from pipeline.studies.base import SMALL, Figures, Job, Outcome, Point, Report, Study
from pipeline.studies.plots import canvas, legend, lines, own_style, png_of, titled

SCORES = tuple(np.linspace(-3, 3, 241).round(4).tolist())
RESIDUALS = tuple(np.linspace(-3, 3, 241).round(4).tolist())


def drawn_from(job: Job) -> Figures:
    """By loss, its values: against s_y - s_j of two classes, or against the residual of one number."""
    import torch

    from models import catalogue
    from models.losses import LOSSES

    ahead = torch.tensor(SCORES, dtype=torch.float64)
    two = torch.stack([ahead, torch.zeros_like(ahead)], 1)  # the right class's score less the other's
    right = torch.zeros(len(SCORES), dtype=torch.int64)
    residual = torch.tensor(RESIDUALS, dtype=torch.float64)[:, None]
    nothing = torch.zeros_like(residual)
    by_score = {
        "softmax": LOSSES["softmax"](catalogue.Softmax(label_smoothing=0.0)),
        "SVM": LOSSES["svm"](catalogue.Svm(margins="all", margin=1.0)),
        "squared hinge": LOSSES["squared_hinge"](catalogue.SquaredHinge(margin=1.0)),
    }
    by_residual = {
        "L1": LOSSES["l1"](catalogue.L1(reduction="sum")),
        "L2": LOSSES["l2"](catalogue.L2(reduction="sum")),
        "smooth L1": LOSSES["smooth_l1"](catalogue.SmoothL1(reduction="sum")),
        "Huber, delta 2": LOSSES["huber"](catalogue.Huber(reduction="sum", delta=2.0)),
    }
    return {
        "scores": {name: loss(two, right).tolist() for name, loss in by_score.items()},
        "residuals": {name: loss(residual, nothing).tolist() for name, loss in by_residual.items()},
    }


def points(params: Params) -> Sequence[Point]:
    return [Point("curves", data=None, work=drawn_from)]


@own_style()
def drawn(figures: Figures) -> bytes:
    figure, grid = canvas(1, 2, 4.6, 3.8)
    lines(grid[0, 0], {name: (SCORES, values) for name, values in figures["scores"].items()})
    titled(grid[0, 0], "Losses of two classes", "right score less the other", "loss")
    grid[0, 0].set_ylim(-0.2, 6)
    lines(grid[0, 1], {name: (RESIDUALS, values) for name, values in figures["residuals"].items()})
    titled(grid[0, 1], "Losses of one number", "residual")
    grid[0, 1].set_ylim(-0.2, 6)
    for axes in grid[0]:
        legend(axes)
    return png_of(figure)


def at(values: Sequence[float], grid: Sequence[float], place: float) -> float:
    return values[grid.index(place)]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    of = outcomes["curves"].figures
    scores = [
        f"{name} {at(values, SCORES, 0.0):.3g}, {at(values, SCORES, 2.0):.3g}" for name, values in of["scores"].items()
    ]
    numbers = [
        f"{name} {at(values, RESIDUALS, 0.5):.3g}, {at(values, RESIDUALS, 3.0):.3g}"
        for name, values in of["residuals"].items()
    ]
    verdict = (
        f"At equal scores, and 2 ahead: {'; '.join(scores)}. At residuals 0.5 and 3: {'; '.join(numbers)}. The hinges"
        " are zero beyond their margin, softmax nowhere; only L2 goes on growing faster for outliers."
    )
    rows = [
        {
            "right_score_less_other": score,
            **{name: values[index] for name, values in of["scores"].items()},
            "residual": RESIDUALS[index],
            **{name: values[index] for name, values in of["residuals"].items()},
        }
        for index, score in enumerate(SCORES)
    ]
    return Report(verdict, rows, {"curves": drawn(of)})


STUDY = Study(
    question="What does each loss look like against its score or residual?", points=points, report=report, fixed=SMALL
)
