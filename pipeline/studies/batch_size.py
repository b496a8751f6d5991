"""Batches of 32 to 256 against the full set: loss by epoch, and by step.

    retrace study batch_size

Expect: after 30 epochs of one rate, training loss by batch size: 32 0.020, 64 0.044, 128 0.082, 256 0.13, full set
0.46. By step of the optimizer the curves nearly coincide: what counts at this rate is how many steps are taken.
"""

from collections.abc import Mapping, Sequence

from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Outcome, Point, Report, Study, merged
from pipeline.studies.plots import canvas, legend, lines, own_style, png_of, titled

SIZES = {"32": 32, "64": 64, "128": 128, "256": 256, "full set": None}


def points(params: Params) -> Sequence[Point]:
    return [Point(f"batch {name}", {"train": {"batch_size": size}}) for name, size in SIZES.items()]


@own_style()
def drawn(found: Mapping[str, Outcome]) -> bytes:
    figure, grid = canvas(1, 2, 4.6, 3.8, sharey=True)
    for axes, column, title in zip(grid[0], ("epoch", "step"), ("by epoch", "by step of the optimizer"), strict=True):
        lines(axes, {name: (one.column(column), one.column("train_loss")) for name, one in found.items()})
        titled(axes, f"Loss {title}", column, "training loss" if column == "epoch" else "")
        axes.set_yscale("log")
    grid[0, 1].set_xscale("log")
    legend(grid[0, 0], title="batch size")
    return png_of(figure)


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    found = dict(zip(SIZES, outcomes.values(), strict=True))
    said = [
        f"{name}: {one.column('train_loss')[-1]:.3g} after {one.epochs[-1]['step']} steps, validation"
        f" {100 * one.accuracy:.1f} %"
        for name, one in found.items()
    ]
    verdict = (
        f"At one learning rate, the training loss after {params.train.epochs} epochs by batch size: {'; '.join(said)}."
        " An epoch costs the same arithmetic whatever the batch; the full set takes one step of it."
    )
    rows = [
        {"batch_size": name, **{key: epoch[key] for key in ("epoch", "step", "train_loss", "val_loss", "val_figure")}}
        for name, one in found.items()
        for epoch in one.epochs
    ]
    return Report(verdict, rows, {"loss": drawn(found)})


STUDY = Study(
    question="Batches of 32 to 256, or the full set?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "model": {"name": "mlp", "mlp": {"width": 128, "depth": 1}},
            "regularization": {"dropout": 0.0, "l1": 0.0, "l2": 0.0},
            "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0, "sgd": {"nesterov": False}},
            "schedule": {"name": "constant"},
            "train": {"epochs": 30, "accumulate_batches": 1},
        },
    ),
)
