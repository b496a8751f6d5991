"""Four ways to choose a hyper-parameter, and the optimism of each: on training, test or validation data, or by folds.

    retrace study choosing

k of nearest neighbours is chosen. The sealed test set stays sealed: in each of forty repetitions, the images outside it
are dealt out anew into a small set to learn from, as many to choose on, a "test set" of as many again, and the rest,
which is what each choice is worth in truth. Optimism: the accuracy that the chooser saw, less that truth. A fifth of
all labels are drawn at random, so that k matters.

Expect: optimism, with standard errors: training data +38.7 ± 0.6 points (k = 1 is perfect there, and worth 61.3 %),
test data +2.9 ± 0.8, validation data +1.3 ± 0.8, folds -2.8 ± 0.9 (they learn from a fifth less). The last three
choose as well: 68.5 % in truth.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import seeding
from pipeline.params import Params
from pipeline.studies.base import SMALL, Figures, Job, Outcome, Point, Report, Study, dealt, spread
from pipeline.studies.nearest import predictions
from pipeline.studies.plots import bars

COUNTS = (1, 3, 5, 7, 9, 11, 15, 19, 25)
REPETITIONS = 40
PART = 100  # images of each of the three small sets
FOLDS = 5
NOISE = 0.2  # share of labels that are drawn at random
WAYS = ("training data", "test data", "validation data", "folds")


def chosen(job: Job) -> Figures:
    """By way: the k chosen, the accuracy that the chooser saw, and the truth."""
    data, number = job.data, int(job.settings["repetition"])
    images = np.concatenate([np.asarray(data.train.images[:]), np.asarray(data.validation.images[:])])
    labels = np.concatenate([data.train.labels, data.validation.labels])
    part = min(PART, len(images) // 4)
    order = seeding.permutation(job.params.seed, "choosing", number, len(images))
    train, validation, test, rest = np.split(order, [part, 2 * part, 3 * part])
    draws = seeding.uniform(job.params.seed, "noisy labels", number, np.arange(len(images)), 2)
    drawn = np.floor(draws[:, 1] * (labels.max() + 1)).astype(np.int64)
    labels = np.where(draws[:, 0] < NOISE, drawn, labels)
    counts = [count for count in COUNTS if count <= part - -(-part // FOLDS)]

    def seen(memory: NDArray[np.int64], queries: NDArray[np.int64]) -> NDArray[np.float64]:
        """The accuracy on `queries` by k."""
        found = predictions(images[queries], images[memory], labels[memory], counts, "l2")
        return np.array([(found[count] == labels[queries]).mean() for count in counts])

    by_fold = [
        seen(np.delete(train, fold), train[fold])
        for fold in dealt(len(train), FOLDS, job.params.seed, f"folds {number}")
    ]
    judged = {
        "training data": seen(train, train),
        "test data": seen(train, test),
        "validation data": seen(train, validation),
        "folds": np.mean(by_fold, axis=0),
    }
    truth = seen(train, rest)
    result = {}
    for way, accuracies in judged.items():
        best = int(np.argmax(accuracies))
        result[way] = {"k": counts[best], "seen": float(accuracies[best]), "truth": float(truth[best])}
    return {"ways": result, "attainable": float(truth.max())}


def points(params: Params) -> Sequence[Point]:
    return [
        Point(f"repetition {number}", work=chosen, settings={"repetition": number}) for number in range(REPETITIONS)
    ]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    found = {way: [one.figures["ways"][way] for one in outcomes.values()] for way in WAYS}
    optimism = {way: [one["seen"] - one["truth"] for one in found[way]] for way in WAYS}
    rows: list[dict[str, Any]] = [
        {
            "chosen_on": way,
            "mean_k": spread([one["k"] for one in found[way]])[0],
            "accuracy_seen": spread([one["seen"] for one in found[way]])[0],
            "accuracy_in_truth": spread([one["truth"] for one in found[way]])[0],
            "optimism": spread(optimism[way])[0],
            "standard_error": spread(optimism[way])[1] / len(optimism[way]) ** 0.5,
        }
        for way in WAYS
    ]
    said = [
        f"{row['chosen_on']} {100 * row['optimism']:+.1f} ± {100 * row['standard_error']:.1f} points"
        f" (truth {100 * row['accuracy_in_truth']:.1f} %)"
        for row in rows
    ]
    verdict = f"Optimism by what k was chosen on, mean and standard error of {len(outcomes)}: {'; '.join(said)}."
    picture = bars("Optimism of four ways to choose k", "accuracy seen less accuracy in truth, points", optimism)
    return Report(verdict, rows, {"optimism": picture})


STUDY = Study(
    question="On which data may a hyper-parameter be chosen, and how optimistic is each way?",
    points=points,
    report=report,
    fixed=SMALL,
)
