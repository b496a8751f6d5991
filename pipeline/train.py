"""The stage `train`: one fit with the searched values laid over params.yaml, written as a model folder."""

import csv
import dataclasses
import io
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from models.build import save_model
from models.catalogue import Figure
from pipeline import paths, stage
from pipeline.errors import Mistake
from pipeline.figures import labels, learning_curves, read_learning_curves
from pipeline.neighbours import SHOWN, neighbours_sheet
from pipeline.params import Params, read_mapping
from pipeline.pictures import spread
from pipeline.plane import are_points
from pipeline.state import Work, refuse_changes, work
from pipeline.tracking import Run, open_run
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.fit import TrainingData, describe, fit, is_helper
from pipeline.training.network import initial_weights
from pipeline.training.parameters import FILE as PARAMETERS
from pipeline.training.parameters import training_parameters
from pipeline.training.recorder import DivergedError, Epoch, Fitted
from pipeline.weights_picture import draw, first_layer

CURVES = "learning_curves.csv"
NEIGHBOURS = "neighbours.png"
EXAMPLES = 4  # images in the logged model's input example


def history_table(history: Sequence[Epoch], figure: Figure) -> str:
    """The learning curves as CSV, one row an epoch; the task's figure under its name: train_accuracy."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name.replace("figure", figure.name) for field in dataclasses.fields(Epoch))
    writer.writerows(dataclasses.astuple(epoch) for epoch in history)
    return text.getvalue()


def write_model(folder: Path, params: Params, data: TrainingData, fitted: Fitted) -> None:
    """weights.safetensors, model.yaml, the learning curves as a table and a picture; one more of the first layer, or of
    neighbours."""
    description = describe(params, data)
    save_model(folder, fitted.network, description)
    (folder / CURVES).write_text(history_table(fitted.history, params.figure), encoding="utf-8")
    (folder / "learning_curves.png").write_bytes(learning_curves(read_learning_curves(folder / CURVES)))
    layer = first_layer(fitted.network, description.shape, description.output_names)
    if layer is not None:
        (folder / f"{layer.kind}.png").write_bytes(draw(layer))
    validation = data.validation
    if params.model.settings.memorises and not are_points(validation.images):
        some = spread(len(validation), SHOWN)
        images = data.policy(params).plain(validation.images, some)[0]
        sheet = neighbours_sheet(fitted.network, images, validation.labels[some], labels(data.classes))
        (folder / NEIGHBOURS).write_bytes(sheet)


def run(params: Params) -> None:
    best_values = read_mapping(paths.BEST)
    parameters = training_parameters(params, best_values)
    chosen = params.overlaid(best_values)
    data = TrainingData.open()
    inputs = [paths.PREPARED, paths.AUGMENTED, *initial_weights(params), paths.BEST]
    if is_helper():
        with suppress(DivergedError):  # the stage's own process says it
            fit(chosen, data, checkpoints=_checkpoints(work("train", params, inputs)))
        return
    with open_run("train", params, inputs, [paths.MODEL], in_force=chosen) as tracked:
        try:
            fitted = fit(
                chosen,
                data,
                run=tracked,
                on_epoch=lambda epoch: refuse_changes(tracked.work),  # rather than after hours
                progress=True,
                checkpoints=_checkpoints(tracked.work),
            )
        except DivergedError as error:
            raise _mistake(error, chosen, data, tracked) from None
        with paths.replacing(paths.MODEL) as (folder,):
            write_model(folder, chosen, data, fitted)
            (folder / PARAMETERS.name).write_text(parameters.to_json(), encoding="utf-8")
        tracked.log_artifact(PARAMETERS)
        tracked.log_artifact(paths.MODEL / CURVES)
        for picture in sorted(paths.MODEL.glob("*.png")):
            tracked.log_artifact(picture)
        tracked.log_model(paths.MODEL, data.validation.images[:EXAMPLES])
        best = fitted.best  # whose weights were written: val/* ends with the last epoch
        figure = chosen.figure
        worth = {"best/epoch": best.epoch, f"best/val_{figure.name}": best.val_figure, "best/val_loss": best.val_loss}
        tracked.log_metrics(worth, step=best.step)
    print(
        f"train: best epoch {best.epoch} of {len(fitted.history)}:"
        f" validation {figure.title} {best.val_figure:.4f}, loss {best.val_loss:.4f}"
    )


def _checkpoints(of: Work) -> Checkpoints:
    return Checkpoints(of.folder / "checkpoints", of.fingerprint)


def _mistake(error: DivergedError, params: Params, data: TrainingData, tracked: Run) -> Mistake:
    """What to say of a training that diverged; the best weights before it are kept with the run."""
    lines = [
        f"params.yaml: {error}",
        "lower optimizer.lr, add schedule.warmup_epochs, or search a narrower range (search.space.optimizer.lr)",
    ]
    if error.fitted is not None:
        kept = paths.state() / "diverged"
        with paths.replacing(kept) as (folder,):
            write_model(folder, params, data, error.fitted)
        tracked.log_artifact(kept)
        best = error.fitted.best
        lines.append(
            f"{kept}: the best weights before it (epoch {best.epoch}, validation {params.figure.title}"
            f" {best.val_figure:.4f})"
        )
    return Mistake(*lines)


if __name__ == "__main__":
    sys.exit(stage.main(run))
