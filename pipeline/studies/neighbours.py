"""Which k, and which distance? k-nearest neighbours by five-fold cross-validation, the curve with its error bars.

    retrace study neighbours

The images outside test are dealt out into five folds; each is validated on once, with the other four for a memory.

Expect: k = 3 is best under both: L1 98.4 ± 0.9 %, L2 98.5 ± 0.5 %; k = 1 98.2 ± 0.5 and 98.4 ± 0.4 %; at k = 99 about
90 %. The distances do not differ by more than the folds do.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.params import Params
from pipeline.studies.base import SMALL, Figures, Job, Outcome, Point, Report, Study, dealt, percent, spread
from pipeline.studies.nearest import predictions
from pipeline.studies.plots import COLOURS, canvas, legend, own_style, png_of, titled

COUNTS = (1, 3, 5, 7, 9, 15, 25, 49, 99)
FOLDS = 5


def validated(job: Job) -> Figures:
    """By k, the accuracy on one fold."""
    data = job.data
    images = np.concatenate([np.asarray(data.train.images[:]), np.asarray(data.validation.images[:])])
    labels = np.concatenate([data.train.labels, data.validation.labels])
    fold = dealt(len(images), FOLDS, job.params.seed, "fold")[job.settings["fold"]]
    rest = np.setdiff1d(np.arange(len(images)), fold)
    counts = [count for count in COUNTS if count <= len(rest)]
    found = predictions(images[fold], images[rest], labels[rest], counts, job.settings["distance"])
    return {"accuracy": {str(count): float((found[count] == labels[fold]).mean()) for count in counts}}


def points(params: Params) -> Sequence[Point]:
    return [
        Point(f"{distance}, fold {fold}", work=validated, settings={"distance": distance, "fold": fold})
        for distance in ("l1", "l2")
        for fold in range(FOLDS)
    ]


@own_style()
def drawn(found: Mapping[tuple[str, int], Sequence[float]]) -> bytes:
    figure, grid = canvas(1, 1, 6.4, 4.2)
    axes = grid[0, 0]
    for colour, distance in zip(COLOURS, ("l1", "l2"), strict=False):
        counts = [count for name, count in found if name == distance]
        each = 100 * np.array([found[distance, count] for count in counts])  # counts, folds
        for column in each.T:
            axes.plot(counts, column, ".", color=colour, alpha=0.35, markersize=4)
        axes.errorbar(
            counts, each.mean(1), each.std(1, ddof=1), color=colour, capsize=3, linewidth=1.7,
            label=f"{distance.upper()}: mean and standard deviation of {FOLDS} folds",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    titled(axes, "k-nearest neighbours by cross-validation", "k", "accuracy, %")
    legend(axes)
    return png_of(figure)


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    counts = [int(count) for count in outcomes["l1, fold 0"].figures["accuracy"]]
    found = {
        (distance, count): [
            outcomes[f"{distance}, fold {fold}"].figures["accuracy"][str(count)] for fold in range(FOLDS)
        ]
        for distance in ("l1", "l2")
        for count in counts
    }
    best = max(found, key=lambda pair: spread(found[pair])[0])
    said = [
        f"{distance.upper()}: k = {top} {percent(found[distance, top])}, k = 1 {percent(found[distance, 1])}"
        for distance in ("l1", "l2")
        for top in [max(counts, key=lambda count: spread(found[distance, count])[0])]
    ]
    verdict = f"Best: k = {best[1]} under {best[0].upper()}. {'; '.join(said)} (mean and deviation of {FOLDS} folds)."
    rows = [
        {"distance": distance, "k": count, "accuracy": spread(values)[0], "deviation": spread(values)[1]}
        for (distance, count), values in found.items()
    ]
    return Report(verdict, rows, {"accuracy": drawn(found)})


STUDY = Study(question="Which k and which distance for nearest neighbours?", points=points, report=report, fixed=SMALL)
