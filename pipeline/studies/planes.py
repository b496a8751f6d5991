"""What the studies of the plane share: a grid over it, and panels of decision regions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.studies.base import Figures, Job, Outcome, outputs
from pipeline.studies.plots import canvas, own_style, png_of, regions, titled

if TYPE_CHECKING:
    from pipeline.data.store import Split

SIDE = 128  # cells a side of the drawn plane
SHOWN = 300  # points in a picture


def grid(side: int) -> NDArray[np.uint8]:
    """Places of the plane as images (side * side, 1, 1, 2), row by row, y upwards."""
    values = np.linspace(0, 255, side).round().astype(np.uint8)
    return np.stack(np.meshgrid(values, values), axis=-1).reshape(-1, 1, 1, 2)


def shown_points(split: "Split") -> Figures:
    """Some of a split's points and their labels."""
    return {
        "points": (np.asarray(split.images[:SHOWN]).reshape(-1, 2) / 127.5 - 1).tolist(),
        "labels": split.labels[:SHOWN].tolist(),
    }


def mapped(job: Job) -> Figures:
    """The work of a point: a fit, the classes at every place by its best epoch's weights, some validation points."""
    from dataclasses import replace

    done, data = job.fit(), job.data
    places = grid(SIDE)
    plane = replace(data.validation, images=places, labels=np.zeros(len(places), np.int64), targets=None, boxes=None)
    predicted = outputs(done.trained, plane, data, job.params).argmax(1).numpy()
    return {
        "epochs": list(done.epochs),
        "diverged": done.diverged,
        "regions": predicted.reshape(SIDE, SIDE).tolist(),
        **shown_points(data.validation),
    }


@own_style()
def drawn(panels: Mapping[str, Outcome], columns: int) -> bytes:
    """A panel of decision regions and points a title."""
    lines = -(-len(panels) // columns)
    figure, axes = canvas(lines, columns, 2.5, 2.7)
    for place, (title, outcome) in zip(axes.flat, panels.items(), strict=False):
        of = outcome.figures
        regions(place, np.array(of["regions"]), np.array(of["points"]), np.array(of["labels"]))
        titled(place, title)
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    return png_of(figure)
