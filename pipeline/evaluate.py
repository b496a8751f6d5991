"""The stage that opens the sealed test split, once: how good is the trained model?

Reads the model, the validation and test splits, the training's curves and the search's choice; writes figures for DVC
and MLflow, every prediction, pictures and the report. Validation is measured again by the same code, so that the two
figures beside each other are of the same kind.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.networks.shape import Shape
from pipeline import figures, paths, stage
from pipeline.data.store import Split, open_split, read_classes, read_targets
from pipeline.data.views import PLAIN, Averaged
from pipeline.errors import Mistake
from pipeline.evaluation import KINDS, Judged, Subject
from pipeline.inference import predict
from pipeline.machine import torch_device
from pipeline.params import Params
from pipeline.report import Common, LayerPicture, LeftOut, Picture
from pipeline.tracking import open_run
from pipeline.training.parameters import read_training_parameters
from pipeline.weights_picture import draw, first_layer

if TYPE_CHECKING:
    from models.build import Predictor

_CURVES = paths.MODEL / "learning_curves.csv"


# --- reading ----------------------------------------------------------------------------------------------------------


def _load(prepared: Path) -> tuple["Predictor", Split, Split, Split]:
    """The model and the splits train, validation and test, agreeing on what is learned and on shape. Raises Mistake."""
    from models.build import ModelFileError, load_model

    try:
        model = load_model(paths.MODEL)
    except ModelFileError as error:
        raise Mistake(f"{error}; `dvc repro --force train` makes it again") from error
    kinds = {"classes": (model.classes, read_classes(prepared)), "targets": (model.targets, read_targets(prepared))}
    for kind, (learned, found) in kinds.items():
        if learned != found:
            raise Mistake(
                f"{paths.MODEL}: trained for the {kind} {_some(learned)}, but {prepared} holds {_some(found)};"
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
        if model.task == "localisation" and split.boxes is None:
            raise Mistake(f"{split.folder}: no boxes; run `dvc repro` to train on this data")
        if len(split) == 0:
            raise Mistake(f"{split.folder}: no images; there is nothing to evaluate on")
    return model, train, validation, test


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "") or "(none)"


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
        common = Common(
            model=str(trained.in_force["model.name"]),
            source=params.data.source if params.data.path is None else Path(params.data.path).name,
            learning_curves=_curves(history),
            searched=trained.searched,
            parameters=list(trained.in_force.items()),
            left_out=left_out,
            contact_sheet=Picture(contact_sheet),
            first_layer=_first_layer(model),
            neighbours=_neighbours(),
        )
        subject = Subject(model, train, validation, test, test_paths, params.evaluate.mistakes, views)
        with paths.replacing(paths.EVALUATION) as (folder,):
            _write_metrics(folder / "metrics.json", splits)
            KINDS[model.task].write(folder, common, subject, splits)
        last_step = int(history["step"][-1])
        for name, judged in splits.items():
            prefix = name.replace("validation", "val")
            values = {f"{prefix}/{key}": value for key, value in judged.summary().items() if key != "images"}
            tracked.log_metrics(values, last_step)
        tracked.log_artifact(paths.EVALUATION)
    averaged = f" averaged over {views.count} views: test {splits['test_tta'].briefly};" if views.count > 1 else ""
    print(
        f"evaluate: test {splits['test'].told}; validation {splits['validation'].briefly};{averaged}"
        f" report in {paths.EVALUATION / 'report.html'}"
    )


def _curves(history: Mapping[str, Sequence[float]]) -> Picture | None:
    if all(math.isnan(loss) for loss in history["train_loss"]):
        return None  # what memorises has one epoch, and no training loss
    return Picture(figures.learning_curves(history), figures.learning_curves(history, dark=True))


def _neighbours() -> Picture | None:
    """What train drew of a model that memorises."""
    file = paths.MODEL / "neighbours.png"
    return Picture(file.read_bytes()) if file.is_file() else None


def _first_layer(model: "Predictor") -> LayerPicture | None:
    """What artifacts/model holds as a picture, drawn anew for the page: light and dark."""
    shape = Shape(model.image_shape[2], model.seen, len(model.output_names))
    layer = first_layer(model.network, shape, model.output_names)
    return LayerPicture(layer.kind, Picture(draw(layer), draw(layer, dark=True))) if layer is not None else None


def _judge(model: "Predictor", split: Split, device: str, description: str, views: Averaged = PLAIN) -> Judged:
    answers = predict(model, split, device, description, views)
    try:
        judged: Judged = KINDS[model.task].judge(answers, split, model)
    except ValueError as error:
        raise Mistake(
            f"{split.folder}: {error}; the model or the data is damaged: `dvc repro --force` makes both again"
        ) from error
    return judged


def _write_metrics(file: Path, splits: Mapping[str, Judged]) -> None:
    content = {name: {**judged.summary(), **judged.details()} for name, judged in splits.items()}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(stage.main(run))
