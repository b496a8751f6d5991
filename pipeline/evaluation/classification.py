"""Classes: accuracy and what goes with it, the confusion matrix, the worst mistakes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import figures, metrics, pictures, report
from pipeline.data.store import Split
from pipeline.evaluation.base import Kind, Subject, asked_for, lists, write_csv, write_parquet, write_plots
from pipeline.metrics import Evaluation
from pipeline.pictures import Mistaken
from pipeline.report import AveragedOver, ClassCount, Common, Content, Picture

if TYPE_CHECKING:
    from models.build import Predictor


def _judge(probabilities: NDArray[np.float32], split: Split, model: "Predictor") -> Evaluation:
    return metrics.evaluate(probabilities, split.labels, model.classes)


def _write(folder: Path, common: Common, subject: Subject, splits: Mapping[str, Evaluation]) -> None:
    test, validation = asked_for(splits)
    content = Content(
        **vars(common),
        test=test,
        validation=validation,
        averaged=averaged(subject, splits),
        confusion=confusion(test),
        mistakes=_worst_mistakes(test, subject.test, subject.test_paths, subject.mistakes),
        counts=counts(subject, test.classes),
    )
    write_tables(folder, test)
    columns = columns_of(test, subject.test_paths)
    write_parquet(folder / "predictions.parquet", columns, {"classes": test.classes})
    mistakes = pictures.mistakes(content.mistakes, figures.labels(test.classes))
    write_plots(folder, {"confusion": content.confusion.light, "mistakes": mistakes})
    (folder / "report.html").write_text(report.render(content), encoding="utf-8")


def averaged(subject: Subject, splits: Mapping[str, Evaluation]) -> AveragedOver | None:
    """What the page says of views; None where each image is shown once."""
    if subject.views.count == 1:
        return None
    return AveragedOver(subject.views.name, subject.views.count, splits["test"], splits["validation"])


def confusion(evaluation: Evaluation) -> Picture:
    """The matrix, for light and for dark pages."""
    return Picture(
        figures.confusion_matrix(evaluation.confusion, evaluation.classes),
        figures.confusion_matrix(evaluation.confusion, evaluation.classes, dark=True),
    )


def _worst_mistakes(evaluation: Evaluation, split: Split, names: Sequence[str], count: int) -> list[Mistaken]:
    """The `count` wrong images with the highest loss, with what was said of them; names: a path for each image."""
    return [
        mistaken(evaluation, index, np.array(split.images[index]), names[index]) for index in evaluation.worst(count)
    ]


def mistaken(evaluation: Evaluation, index: int, image: NDArray[np.uint8], name: str) -> Mistaken:
    """What was said of one image."""
    return Mistaken(
        image=image,
        path=name,
        actual=int(evaluation.labels[index]),
        predicted=int(evaluation.predicted[index]),
        probability_actual=float(evaluation.probabilities[index, evaluation.labels[index]]),
        probability_predicted=float(evaluation.probabilities[index, evaluation.predicted[index]]),
    )


def counts(subject: Subject, classes: Sequence[str]) -> list[ClassCount]:
    """How many images of each class each split has."""
    splits = (subject.train, subject.validation, subject.test)
    columns = (np.bincount(split.labels, minlength=len(classes)).tolist() for split in splits)
    return [ClassCount(name, *numbers) for name, *numbers in zip(classes, *columns, strict=True)]


def write_tables(folder: Path, test: Evaluation) -> None:
    """per_class.csv and confusion.csv, which dvc.yaml draws."""
    names = np.array(test.classes, dtype=object)
    write_csv(
        folder / "per_class.csv",
        ("class", "support", "precision", "recall", "f1"),
        zip(
            test.classes, test.support.tolist(), test.precision.tolist(), test.recall.tolist(), test.f1.tolist(),
            strict=True,
        ),
    )  # fmt: skip
    write_csv(  # one row an image: `dvc plots` counts them itself
        folder / "confusion.csv",
        ("actual", "predicted"),
        zip(names[test.labels], names[test.predicted], strict=True),
    )


def columns_of(evaluation: Evaluation, image_paths: Sequence[str]) -> dict[str, Any]:
    """One row an image: index, path, label and predicted as names, probabilities as a list in the order of the classes.

    That order is the value of the file's metadata key `classes`, a JSON list.
    """
    import pyarrow as pa

    names = np.array(evaluation.classes, dtype=object)
    return {
        "index": pa.array(np.arange(evaluation.images, dtype=np.int64)),
        "path": pa.array(image_paths, pa.string()),
        "label": pa.array(names[evaluation.labels], pa.string()),
        "predicted": pa.array(names[evaluation.predicted], pa.string()),
        "probabilities": lists(evaluation.probabilities),
    }


KIND = Kind(_judge, _write)
