"""One object in each image: all that is said of its class, and how well its box lies."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import figures, metrics, pictures, report
from pipeline.data.store import Split
from pipeline.evaluation import classification
from pipeline.evaluation.base import Kind, Subject, asked_for, lists, write_parquet, write_plots
from pipeline.metrics import Evaluation
from pipeline.report import Common, Content

if TYPE_CHECKING:
    from models.build import Predictor

_SIDE = 160  # of the pictures with boxes, at least, or nearly
_TRUE, _SAID = (46, 160, 67), (229, 66, 54)  # green, red: told apart on light and dark pictures, and by their lines


@dataclass(frozen=True, eq=False)
class Localisation(Evaluation):
    """N predictions over K classes with a box each, and what follows from them."""

    boxes: NDArray[np.float64]  # N, 4: the true ones, left, top, right, bottom in pixels of the stored image
    said: NDArray[np.float64]  # N, 4: the predicted ones
    overlaps: NDArray[np.float64]  # N: intersection over union of the two

    @cached_property
    def is_found(self) -> NDArray[np.bool_]:
        """Whether an image's class is right and its box overlaps the true one by half of their union, (N,)."""
        from models.tasks import HALF_OF_UNION

        return np.asarray((self.predicted == self.labels) & (self.overlaps >= HALF_OF_UNION))

    @property
    def found(self) -> float:
        """The share of those images (ILSVRC's localisation, with one answer)."""
        return float(self.is_found.mean())

    @property
    def mean_overlap(self) -> float:
        return float(self.overlaps.mean())

    def summary(self) -> dict[str, float]:
        """The headline figures: the task's own, then those of the class alone."""
        return {"localisation_accuracy": self.found, "mean_iou": self.mean_overlap, **super().summary()}

    @property
    def told(self) -> str:
        """The headline figures in words."""
        return (
            f"localisation accuracy {self.briefly} ({self.is_found.sum()} of {self.images}), mean IoU"
            f" {self.mean_overlap:.4g}, class {super().told}"
        )

    @property
    def briefly(self) -> str:
        """The first of them."""
        return f"{100 * self.found:.2f} %"

    def worst(self, count: int) -> NDArray[np.int64]:
        """At most `count` images that were not found, by falling cross-entropy less IoU."""
        missed = np.flatnonzero(~self.is_found)
        return missed[np.argsort((self.overlaps - self.losses)[missed], kind="stable")[:count]]


def evaluate(answers: NDArray[np.float32], split: Split, classes: Sequence[str]) -> Localisation:
    """Judge answers (N, K + 4): probabilities, then boxes in pixels of the stored image.

    Raises ValueError where these do not fit the split.
    """
    import torch

    from models.tasks import overlap

    if split.boxes is None:
        raise ValueError("no boxes")
    named = metrics.evaluate(answers[:, :-4], split.labels, classes)
    said, boxes = answers[:, -4:].astype(np.float64), split.boxes.astype(np.float64)
    if not np.isfinite(said).all():
        raise ValueError(f"the box of image {np.flatnonzero(~np.isfinite(said).all(axis=1))[0]} is not finite")
    overlaps = overlap(torch.from_numpy(said), torch.from_numpy(boxes)).numpy()
    values = {field.name: getattr(named, field.name) for field in dataclasses.fields(named)}
    return Localisation(**values, boxes=boxes, said=said, overlaps=overlaps)


@dataclass(frozen=True)
class Located(Content):
    """All that the page shows."""

    test: Localisation
    validation: Localisation


def _judge(answers: NDArray[np.float32], split: Split, model: "Predictor") -> Localisation:
    return evaluate(answers, split, model.classes)


def _write(folder: Path, common: Common, subject: Subject, splits: Mapping[str, Localisation]) -> None:
    test, validation = asked_for(splits)
    worst = test.worst(subject.mistakes).tolist()
    drawn = [with_boxes(np.array(subject.test.images[i]), test.boxes[i], test.said[i]) for i in worst]
    mistakes = [
        classification.mistaken(test, i, image, subject.test_paths[i]) for i, image in zip(worst, drawn, strict=True)
    ]
    content = Located(
        **vars(common),
        test=test,
        validation=validation,
        confusion=classification.confusion(test),
        mistakes=mistakes,
        counts=classification.counts(subject, test.classes),
        averaged=classification.averaged(subject, splits),
    )
    classification.write_tables(folder, test)
    columns = {
        **classification.columns_of(test, subject.test_paths),
        "box": lists(test.boxes.astype(np.float32)),
        "predicted_box": lists(test.said.astype(np.float32)),
        "iou": test.overlaps,
    }
    write_parquet(folder / "predictions.parquet", columns, {"classes": test.classes})
    sheet = pictures.mistakes(mistakes, figures.labels(test.classes))
    write_plots(folder, {"confusion": content.confusion.light, "mistakes": sheet})
    pngs = [
        (mistake, pictures.small_png(mistake.image, largest=2 * _SIDE), float(test.overlaps[i]))
        for mistake, i in zip(mistakes, worst, strict=True)
    ]
    missed = int((~test.is_found).sum())
    page = report.render(content, "localisation.html.jinja", boxed=pngs, missed=missed)
    (folder / "report.html").write_text(page, encoding="utf-8")


def with_boxes(image: NDArray[np.uint8], true: NDArray[np.float64], said: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An image (H, W, C) in colour, enlarged by a whole factor, with the true box in green and the predicted in red."""
    from PIL import Image, ImageDraw

    factor = max(1, _SIDE // max(image.shape[:2]))
    grey = np.broadcast_to(image, (*image.shape[:2], 3)) if image.shape[2] == 1 else image
    picture = Image.fromarray(np.ascontiguousarray(grey.repeat(factor, 0).repeat(factor, 1)))
    draw = ImageDraw.Draw(picture)
    width = max(2, max(picture.size) // 80)
    for box, colour in ((true, _TRUE), (said, _SAID)):
        left, top, right, bottom = np.clip(np.rint(box * factor), -width, max(picture.size) + width).tolist()
        if right > left and bottom > top:
            draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=width)
    return np.asarray(picture)


KIND = Kind(_judge, _write)
