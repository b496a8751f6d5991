"""What a set of predictions is worth: every figure of it from the probabilities and the true labels, in float64.

NumPy alone: importing torchmetrics would cost a process three seconds, and a confusion matrix holds all that is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A probability of zero would make the loss infinite. Softmax in float32 cannot tell anything smaller from zero, so it
# is taken for this; no image can lose more than 87.3.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """N predictions over K classes and what follows from them.

    A figure whose denominator is zero is 0: the precision of a class that was never predicted, the recall of a class
    without images. Macro averages are plain means over the classes that have images here.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]  # N, positions in classes
    predicted: NDArray[np.int64]  # N
    probabilities: NDArray[np.float32]  # N, K
    losses: NDArray[np.float64]  # N, cross-entropy in nats
    confusion: NDArray[np.int64]  # K, K: how many images of the row's class were taken for the column's

    @property
    def images(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def correct(self) -> int:
        """How many images were named rightly."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The share of images named rightly."""
        return self.correct / self.images

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the predicted probabilities, natural logarithm.

        The same measure whatever the model was trained on: the training objective (a hinge, smoothed labels, penalties)
        may be another, and the curves of the training show that one.
        """
        return float(self.losses.mean())

    @property
    def support(self) -> NDArray[np.int64]:
        """Images of each class, shape (K,)."""
        return np.asarray(self.confusion.sum(axis=1), dtype=np.int64)

    @cached_property
    def precision(self) -> NDArray[np.float64]:
        """Of the images taken for each class, the share that is of it; shape (K,)."""
        return _ratio(np.diagonal(self.confusion), self.confusion.sum(axis=0))

    @cached_property
    def recall(self) -> NDArray[np.float64]:
        """Of the images of each class, the share that was recognised; shape (K,)."""
        return _ratio(np.diagonal(self.confusion), self.support)

    @cached_property
    def f1(self) -> NDArray[np.float64]:
        """The harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); shape (K,)."""
        return _ratio(2 * np.diagonal(self.confusion), self.confusion.sum(axis=0) + self.support)

    def macro(self, figures: NDArray[np.float64]) -> float:
        """The mean of a figure, shape (K,), over the classes that have images."""
        return float(figures[self.support > 0].mean())

    def summary(self) -> dict[str, float]:
        """The headline figures, by the names they have in metrics.json and MLflow."""
        return {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "macro_precision": self.macro(self.precision),
            "macro_recall": self.macro(self.recall),
            "macro_f1": self.macro(self.f1),
            "images": self.images,
        }

    def details(self) -> dict[str, Any]:
        """What metrics.json has besides: nothing."""
        return {}

    @property
    def told(self) -> str:
        """The headline figures in words."""
        return f"accuracy {self.briefly} ({self.correct} of {self.images}), loss {self.loss:.4g}"

    @property
    def briefly(self) -> str:
        """The first of them."""
        return f"{100 * self.accuracy:.2f} %"

    def worst(self, count: int) -> NDArray[np.int64]:
        """At most `count` wrong images, by falling loss; of equals the one that comes first in the split."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.losses[wrong], kind="stable")[:count]]


def evaluate(probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> Evaluation:
    """Judge predictions.

    probabilities: N x K, finite; the largest of a row is the prediction, of equals the first class.
    labels: N positions in `classes`, at least one.
    Raises ValueError where these do not fit together.
    """
    p = np.asarray(probabilities, dtype=np.float32)
    y = np.asarray(labels, dtype=np.int64)
    if y.ndim != 1 or not len(y) or p.shape != (len(y), len(classes)):
        raise ValueError(f"{p.shape} probabilities and {y.shape} labels do not fit {len(classes)} classes")
    if not np.isfinite(p).all():
        raise ValueError(f"the probabilities of image {np.flatnonzero(~np.isfinite(p).all(axis=1))[0]} are not finite")
    if y.min() < 0 or y.max() >= len(classes):
        raise ValueError(f"labels from {y.min()} to {y.max()} do not fit {len(classes)} classes")
    predicted = p.argmax(axis=1)
    right = p[np.arange(len(y)), y].astype(np.float64)
    losses = np.maximum(-np.log(np.clip(right, SMALLEST_PROBABILITY, 1.0)), 0.0)  # never -0.0
    confusion = np.bincount(y * len(classes) + predicted, minlength=len(classes) ** 2)
    return Evaluation(
        classes=tuple(classes),
        labels=y,
        predicted=predicted,
        probabilities=p,
        losses=losses,
        confusion=confusion.reshape(len(classes), len(classes)),
    )


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
