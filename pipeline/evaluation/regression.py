"""Numbers: how far the predicted ones are from the true ones, in each target and over all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline import figures, pictures, report
from pipeline.data.store import Split
from pipeline.data.text import shown
from pipeline.evaluation.base import Kind, Subject, asked_for, lists, write_csv, write_parquet, write_plots
from pipeline.pictures import Exhibit
from pipeline.report import Common, Picture

if TYPE_CHECKING:
    from models.build import Predictor

_NUMBERS_SHOWN = 8  # of an image's targets, beside its picture


@dataclass(frozen=True, eq=False)
class Regression:
    """N predictions of T numbers and what follows from them."""

    names: tuple[str, ...]
    targets: NDArray[np.float64]  # N, T
    predicted: NDArray[np.float64]  # N, T
    losses: NDArray[np.float64]  # N: the loss that the model was trained with

    @property
    def images(self) -> int:
        """N."""
        return len(self.targets)

    @cached_property
    def errors(self) -> NDArray[np.float64]:
        """Each image's mean absolute error over its numbers, (N,)."""
        return np.asarray(np.abs(self.predicted - self.targets).mean(1))

    @cached_property
    def mae(self) -> NDArray[np.float64]:
        """Mean absolute error of each target, (T,)."""
        return np.asarray(np.abs(self.predicted - self.targets).mean(0))

    @cached_property
    def rmse(self) -> NDArray[np.float64]:
        """Root of the mean squared error of each target, (T,)."""
        return np.asarray(np.sqrt(np.square(self.predicted - self.targets).mean(0)))

    @cached_property
    def r2(self) -> NDArray[np.float64]:
        """Coefficient of determination of each target, 1 - sum (y - t)^2 / sum (t - mean t)^2, (T,).

        0 is as good as always answering the mean of these very targets; of a target that never changes, it is 0.
        """
        around = np.square(self.targets - self.targets.mean(0)).sum(0)
        left = np.square(self.predicted - self.targets).sum(0)
        return np.where(around > 0, 1 - np.divide(left, around, out=np.ones_like(left), where=around > 0), 0.0)

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    def summary(self) -> dict[str, float]:
        """The headline figures: of all numbers alike; r2 is the targets' mean."""
        return {
            "mae": float(self.errors.mean()),
            "rmse": float(np.sqrt(np.square(self.predicted - self.targets).mean())),
            "r2": float(self.r2.mean()),
            "loss": self.loss,
            "images": self.images,
        }

    def details(self) -> dict[str, Any]:
        """Each target's own figures."""
        return {"targets": {name: {"mae": m, "rmse": r, "r2": c} for name, m, r, c in self.rows}}

    @property
    def rows(self) -> list[tuple[str, float, float, float]]:
        """Name, mae, rmse, r2 of each target."""
        return list(zip(self.names, self.mae.tolist(), self.rmse.tolist(), self.r2.tolist(), strict=True))

    @property
    def told(self) -> str:
        """The headline figures in words."""
        of = self.summary()
        return f"mean absolute error {self.briefly}, RMSE {of['rmse']:.4g}, R^2 {of['r2']:.4g}, loss {self.loss:.4g}"

    @property
    def briefly(self) -> str:
        """The first of them."""
        return f"{self.errors.mean():.4g}"

    def worst(self, count: int) -> NDArray[np.int64]:
        """At most `count` images, by falling mean absolute error; of equals the one that comes first in the split."""
        return np.argsort(-self.errors, kind="stable")[:count]


def evaluate(predicted: ArrayLike, targets: ArrayLike, names: Sequence[str], losses: ArrayLike) -> Regression:
    """Judge predictions (N, T) against targets (N, T), N at least 1; losses (N,).

    Raises ValueError where these do not fit together.
    """
    y, t = np.asarray(predicted, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if y.shape != t.shape or t.shape[1:] != (len(names),) or not len(t):
        raise ValueError(f"{y.shape} predictions and {t.shape} targets do not fit {len(names)} numbers")
    if not np.isfinite(y).all():
        raise ValueError(f"the prediction of image {np.flatnonzero(~np.isfinite(y).all(axis=1))[0]} is not finite")
    return Regression(tuple(names), t, y, np.asarray(losses, dtype=np.float64))


@dataclass(frozen=True)
class Missed:
    """One image and the numbers said of it."""

    image: NDArray[np.uint8]
    path: str
    error: float
    numbers: tuple[tuple[str, float, float], ...]  # name, true, predicted
    more: int  # numbers that are not among these


@dataclass(frozen=True)
class Spread:
    """What a target's numbers are in the training split."""

    name: str
    mean: float
    deviation: float
    smallest: float
    largest: float


@dataclass(frozen=True)
class Content(Common):
    """All that the page shows."""

    test: Regression
    validation: Regression
    scatter: Picture
    histogram: Picture
    worst: Sequence[Missed]
    spreads: Sequence[Spread]
    counts: tuple[int, int, int]  # images to train, choose and test
    views: str
    plain_test: Regression
    plain_validation: Regression


def _judge(numbers: NDArray[np.float32], split: Split, model: "Predictor") -> Regression:
    import torch

    if split.targets is None:
        raise ValueError("no targets")
    with torch.inference_mode():
        losses = model.loss(torch.from_numpy(numbers), torch.from_numpy(split.targets).float())
    return evaluate(numbers, split.targets, model.targets, losses.numpy())


def _write(folder: Path, common: Common, subject: Subject, splits: Mapping[str, Regression]) -> None:
    test, validation = asked_for(splits)
    scatters = (
        figures.predicted_against_true(test.targets, test.predicted, test.names, dark=dark) for dark in (False, True)
    )
    content = Content(
        **vars(common),
        test=test,
        validation=validation,
        scatter=Picture(*scatters),
        histogram=Picture(figures.error_histogram(test.errors), figures.error_histogram(test.errors, dark=True)),
        worst=[_missed(test, subject, index) for index in test.worst(subject.mistakes).tolist()],
        spreads=_spreads(subject.train, test.names),
        counts=(len(subject.train), len(subject.validation), len(subject.test)),
        views=f"{subject.views.count} views" if subject.views.count > 1 else "",
        plain_test=splits["test"],
        plain_validation=splits["validation"],
    )
    write_csv(folder / "per_target.csv", ("target", "mae", "rmse", "r2"), test.rows)
    write_csv(
        folder / "errors.csv",
        ("target", "true", "predicted"),
        (
            (name, true, predicted)
            for trues, all_predicted in zip(test.targets.tolist(), test.predicted.tolist(), strict=True)
            for name, true, predicted in zip(test.names, trues, all_predicted, strict=True)
        ),
    )
    write_parquet(folder / "predictions.parquet", _columns(test, subject.test_paths), {"targets": test.names})
    plots = {
        "predicted": content.scatter.light,
        "errors": content.histogram.light,
        "mistakes": _sheet(content.worst),
    }
    write_plots(folder, plots)
    pngs = [(missed, pictures.small_png(missed.image)) for missed in content.worst]
    rows = list(zip(test.rows, content.spreads, strict=True))
    page = report.page("regression.html.jinja", content=content, missed=pngs, rows=rows)
    (folder / "report.html").write_text(page, encoding="utf-8")


def _missed(test: Regression, subject: Subject, index: int) -> Missed:
    told = list(zip(test.names, test.targets[index].tolist(), test.predicted[index].tolist(), strict=True))
    return Missed(
        image=np.array(subject.test.images[index]),
        path=subject.test_paths[index],
        error=float(test.errors[index]),
        numbers=tuple(told[:_NUMBERS_SHOWN]),
        more=max(0, len(told) - _NUMBERS_SHOWN),
    )


def _spreads(train: Split, names: Sequence[str]) -> list[Spread]:
    assert train.targets is not None
    rows = zip(names, train.targets.T, strict=True)
    return [Spread(name, float(t.mean()), float(t.std()), float(t.min()), float(t.max())) for name, t in rows]


def _columns(evaluation: Regression, image_paths: Sequence[str]) -> dict[str, Any]:
    """One row an image: index, path, targets and predicted as lists in the order of the names, and the mean absolute
    error. The names are the value of the file's metadata key `targets`, a JSON list."""
    import pyarrow as pa

    return {
        "index": pa.array(np.arange(evaluation.images, dtype=np.int64)),
        "path": pa.array(image_paths, pa.string()),
        "targets": lists(evaluation.targets),
        "predicted": lists(evaluation.predicted.astype(np.float32)),
        "mae": pa.array(evaluation.errors),
    }


def _sheet(worst: Sequence[Missed]) -> bytes:
    """The worst images with their numbers, as a PNG."""
    exhibits = [
        Exhibit(
            missed.image[None],
            tuple(f"{shown(name)}: {true:.3g}, said {predicted:.3g}" for name, true, predicted in missed.numbers),
        )
        for missed in worst
    ]
    return pictures.exhibition([("Largest errors on test images" if exhibits else "No image is shown.", exhibits)])


KIND = Kind(_judge, _write)
