"""The stage that opens the sealed test split, once: how good is the trained model?

Reads the model, the validation and test splits, the training's curves and the search's choice; writes figures for DVC
and MLflow, every prediction, pictures and the report. Validation is measured again by the same code, so that the two
figures beside each other are of the same kind.
"""

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.networks.shape import Shape
from pipeline import figures, metrics, paths, pictures, report, stage
from pipeline.data.store import Split, open_split, read_classes
from pipeline.data.views import PLAIN, Averaged
from pipeline.errors import Mistake
from pipeline.inference import predict
from pipeline.machine import torch_device
from pipeline.metrics import Evaluation
from pipeline.params import Params
from pipeline.pictures import Mistaken
from pipeline.report import AveragedOver, ClassCount, Content, LayerPicture, LeftOut, Picture
from pipeline.tracking import open_run
from pipeline.training.parameters import read_training_parameters
from pipeline.weights_picture import draw, first_layer

if TYPE_CHECKING:
    from models.build import Predictor

_CURVES = paths.MODEL / "learning_curves.csv"


# --- reading ----------------------------------------------------------------------------------------------------------


def _load(prepared: Path) -> tuple["Predictor", Split, Split, Split]:
    """The model and the splits train, validation and test, agreeing on classes and shape. Raises Mistake."""
    from models.build import ModelFileError, load_model

    try:
        model = load_model(paths.MODEL)
    except ModelFileError as error:
        raise Mistake(f"{error}; `dvc repro --force train` makes it again") from error
    classes = read_classes(prepared)
    if model.classes != classes:
        raise Mistake(
            f"{paths.MODEL}: trained for the classes {_some(model.classes)}, but {prepared} holds {_some(classes)};"
            " run `dvc repro` to train on this data"
        )
    train, validation, test = (
        open_split(folder) for folder in (prepared / "train", prepared / "validation", paths.TEST)
    )
    for split in (validation, test):
        if split.images.shape[1:] != model.image_shape:
            raise Mistake(
                f"{split.folder}: images of {' x '.join(map(str, split.images.shape[1:]))}, but {paths.MODEL} takes"
                f" {' x '.join(map(str, model.image_shape))}; run `dvc repro` to train on this data"
            )
        if len(split) == 0:
            raise Mistake(f"{split.folder}: no images; there is nothing to evaluate on")
    return model, train, validation, test


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")


def _paths(split: Split) -> list[str]:
    """Where each image of a split came from. Raises Mistake where its index is missing or damaged."""
    try:
        names = split.paths()
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise Mistake(f"{split.folder}: its index cannot be read ({error}); `dvc repro --force prepare`") from error
    if len(names) != len(split):
        raise Mistake(
            f"{split.folder}: {len(names)} rows in its index, {len(split)} images; `dvc repro --force prepare`"
        )
    return names


def _learning_curves() -> dict[str, list[float]]:
    try:
        return figures.read_learning_curves(_CURVES)
    except (FileNotFoundError, ValueError) as error:
        reason = "not found" if isinstance(error, FileNotFoundError) else str(error)
        raise Mistake(f"{_CURVES}: {reason}; `dvc repro --force train` makes it again") from error


def _left_out(prepared: Path) -> list[LeftOut]:
    """The files that could not be read, from prepare's report."""
    file = prepared / "report.json"
    try:
        quarantined = json.loads(file.read_text(encoding="utf-8"))["quarantined"]
        return [LeftOut(entry["path"], entry["reason"]) for entry in quarantined]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise Mistake(f"{file}: not prepare's report; `dvc repro --force prepare` makes it again") from error


def _contact_sheet(prepared: Path) -> bytes:
    file = prepared / "contact_sheet.png"
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise Mistake(f"{file}: not found; `dvc repro --force prepare` makes it again") from error


# --- judging ----------------------------------------------------------------------------------------------------------


def _judge(model: "Predictor", split: Split, device: str, description: str, views: Averaged = PLAIN) -> Evaluation:
    probabilities = predict(model, split, device, description, views)
    try:
        return metrics.evaluate(probabilities, split.labels, model.classes)
    except ValueError as error:
        raise Mistake(
            f"{split.folder}: {error}; the model or the data is damaged: `dvc repro --force` makes both again"
        ) from error


def worst_mistakes(evaluation: Evaluation, split: Split, names: Sequence[str], count: int) -> list[Mistaken]:
    """The `count` wrong images with the highest loss, with what was said of them; names: a path for each image."""
    return [
        Mistaken(
            image=np.array(split.images[index]),
            path=names[index],
            actual=int(evaluation.labels[index]),
            predicted=int(evaluation.predicted[index]),
            probability_actual=float(evaluation.probabilities[index, evaluation.labels[index]]),
            probability_predicted=float(evaluation.probabilities[index, evaluation.predicted[index]]),
        )
        for index in evaluation.worst(count)
    ]


def _first_layer(model: "Predictor") -> LayerPicture | None:
    """What artifacts/model holds as a picture, drawn anew for the page: light and dark."""
    shape = Shape(model.image_shape[2], model.seen, len(model.classes))
    layer = first_layer(model.network, shape, model.classes)
    return LayerPicture(layer.kind, Picture(draw(layer), draw(layer, dark=True))) if layer is not None else None


def _counts(train: Split, validation: Split, test: Split, classes: Sequence[str]) -> list[ClassCount]:
    columns = (np.bincount(split.labels, minlength=len(classes)).tolist() for split in (train, validation, test))
    return [ClassCount(name, *numbers) for name, *numbers in zip(classes, *columns, strict=True)]


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(folder: Path, content: Content, test_paths: Sequence[str], splits: Mapping[str, Evaluation]) -> None:
    test = content.test
    names = np.array(test.classes, dtype=object)
    summary = {name: evaluation.summary() for name, evaluation in splits.items()}
    (folder / "metrics.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    _write_csv(
        folder / "per_class.csv",
        ("class", "support", "precision", "recall", "f1"),
        zip(
            test.classes, test.support.tolist(), test.precision.tolist(), test.recall.tolist(), test.f1.tolist(),
            strict=True,
        ),
    )  # fmt: skip
    _write_csv(  # one row an image: `dvc plots` counts them itself
        folder / "confusion.csv",
        ("actual", "predicted"),
        zip(names[test.labels], names[test.predicted], strict=True),
    )
    write_predictions(folder / "predictions.parquet", test, test_paths)
    (folder / "confusion.png").write_bytes(content.confusion.light)
    (folder / "mistakes.png").write_bytes(pictures.mistakes(content.mistakes, figures.labels(test.classes)))
    (folder / "report.html").write_text(report.render(content), encoding="utf-8")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def write_predictions(path: Path, evaluation: Evaluation, image_paths: Sequence[str]) -> None:
    """One row an image: index, path, label and predicted as names, probabilities as a list in the order of the classes.

    That order is the value of the file's metadata key `classes`, a JSON list.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = np.array(evaluation.classes, dtype=object)
    count, width = evaluation.probabilities.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(width))
    columns = {
        "index": pa.array(np.arange(count, dtype=np.int64)),
        "path": pa.array(image_paths, pa.string()),
        "label": pa.array(names[evaluation.labels], pa.string()),
        "predicted": pa.array(names[evaluation.predicted], pa.string()),
        "probabilities": pa.ListArray.from_arrays(offsets, pa.array(evaluation.probabilities.reshape(-1))),
    }
    table = pa.table(columns).replace_schema_metadata({"classes": json.dumps(evaluation.classes, ensure_ascii=False)})
    pq.write_table(table, path)


# --- the stage --------------------------------------------------------------------------------------------------------


def run(params: Params) -> None:
    """Evaluate the trained model on the test split and write artifacts/evaluation."""
    history = _learning_curves()
    trained = read_training_parameters()
    left_out = _left_out(paths.PREPARED)
    contact_sheet = _contact_sheet(paths.PREPARED)

    import torch

    torch.set_num_threads(params.train.threads)  # they change the bits
    model, train, validation, test = _load(paths.PREPARED)
    params.evaluate.require_in_sight(validation.images.shape[1], model.seen)
    test_paths = _paths(test)
    inputs = (paths.MODEL, paths.PREPARED, paths.TEST)
    # In MLflow the test accuracy stands beside the values that the model was trained with, not those searched from.
    in_force = trained.laid_over(params)
    with open_run("evaluate", params, inputs, [paths.EVALUATION], in_force=in_force) as tracked:
        device = torch_device(params.train.accelerator) or "cpu"  # this machine may lack what the training had
        splits = {
            "validation": _judge(model, validation, device, "validation"),
            "test": _judge(model, test, device, "test"),
        }
        views = Averaged(params.evaluate.tta, params.evaluate.tta_pixels)
        if views.count > 1:
            splits["validation_tta"] = _judge(model, validation, device, "validation, averaged", views)
            splits["test_tta"] = _judge(model, test, device, "test, averaged", views)
        evaluation = splits.get("test_tta", splits["test"])  # what was asked for: all but the plain figures shows it
        content = Content(
            model=str(trained.in_force["model.name"]),
            source=params.data.source if params.data.path is None else Path(params.data.path).name,
            test=evaluation,
            validation=splits.get("validation_tta", splits["validation"]),
            averaged=AveragedOver(views.name, views.count, splits["test"], splits["validation"])
            if views.count > 1
            else None,
            learning_curves=Picture(figures.learning_curves(history), figures.learning_curves(history, dark=True)),
            confusion=Picture(
                figures.confusion_matrix(evaluation.confusion, model.classes),
                figures.confusion_matrix(evaluation.confusion, model.classes, dark=True),
            ),
            mistakes=worst_mistakes(evaluation, test, test_paths, params.evaluate.mistakes),
            searched=trained.searched,
            parameters=list(trained.in_force.items()),
            counts=_counts(train, validation, test, model.classes),
            left_out=left_out,
            contact_sheet=Picture(contact_sheet),
            first_layer=_first_layer(model),
        )
        with paths.replacing(paths.EVALUATION) as (folder,):
            _write(folder, content, test_paths, splits)
        last_step = int(history["step"][-1])
        for name, judged in splits.items():
            prefix = name.replace("validation", "val")
            values = {f"{prefix}/{key}": value for key, value in judged.summary().items() if key != "images"}
            tracked.log_metrics(values, last_step)
        tracked.log_artifact(paths.EVALUATION)
    plain = splits["test"]
    averaged = f" averaged over {views.count} views: test {100 * evaluation.accuracy:.2f} %;" if views.count > 1 else ""
    print(
        f"evaluate: test accuracy {100 * plain.accuracy:.2f} % ({plain.correct} of {plain.images}),"
        f" loss {plain.loss:.4g}; validation {100 * splits['validation'].accuracy:.2f} %;{averaged}"
        f" report in {paths.EVALUATION / 'report.html'}"
    )


if __name__ == "__main__":
    sys.exit(stage.main(run))
