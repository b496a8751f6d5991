"""Decision regions of k-nearest neighbours under L1 and L2 on points of the plane, for k = 1 and k = 15.

    retrace study neighbour_regions

Expect: validation accuracy L1 81.7 %, L2 81.7 % with k = 1; 86.7 and 88.3 % with k = 15 (60 points). With k = 1 the
two differ on 3.3 % of the plane.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Figures, Job, Outcome, Point, Report, Study, merged
from pipeline.studies.nearest import predictions
from pipeline.studies.planes import drawn, grid, shown_points

COUNTS = (1, 15)
SIDE = 128


def mapped(job: Job) -> Figures:
    """The classes of every place of the plane, and the validation accuracy."""
    data, count = job.data, job.settings["k"]
    memory, labels = np.asarray(data.train.images[:]), data.train.labels
    places = predictions(grid(SIDE), memory, labels, [count], job.settings["distance"])[count]
    images = np.asarray(data.validation.images[:])
    found = predictions(images, memory, labels, [count], job.settings["distance"])[count]
    return {
        "accuracy": float((found == data.validation.labels).mean()),
        "regions": places.reshape(SIDE, SIDE).tolist(),
        **shown_points(data.train),
    }


def points(params: Params) -> Sequence[Point]:
    return [
        Point(f"{distance.upper()}, k = {count}", work=mapped, settings={"distance": distance, "k": count})
        for distance in ("l1", "l2")
        for count in COUNTS
    ]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    one, other = (np.array(outcomes[f"{distance}, k = 1"].figures["regions"]) for distance in ("L1", "L2"))
    said = [f"{name} {100 * outcome.figures['accuracy']:.1f} %" for name, outcome in outcomes.items()]
    verdict = (
        f"Validation accuracy: {'; '.join(said)}. With k = 1 L1 and L2 differ on {100 * np.mean(one != other):.1f} % of"
        " the plane: L1's borders run along the axes and their diagonals, and turn with the coordinates; L2's do not."
    )
    rows = [{"setting": name, "val_accuracy": outcome.figures["accuracy"]} for name, outcome in outcomes.items()]
    panels = {f"{name}: {100 * outcome.figures['accuracy']:.0f} %": outcome for name, outcome in outcomes.items()}
    return Report(verdict, rows, {"regions": drawn(panels, columns=len(COUNTS))})


STUDY = Study(
    question="What do the regions of nearest neighbours look like under L1 and L2?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "data": {
                "source": "points", "path": None, "image_size": None, "channels": None, "folds": None,
                "points": {"figure": "spiral", "classes": 3, "noise": 0.08, "images": 400},
            },
        },
    ),
)  # fmt: skip
