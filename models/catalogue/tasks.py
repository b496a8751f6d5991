"""What the networks learn: the tasks, and the figure by which each is judged."""

from dataclasses import dataclass
from typing import Literal

Task = Literal["classification", "binary", "regression", "localisation"]


@dataclass(frozen=True)
class Figure:
    """A number of each image whose mean over a split is shown, searched by, and chosen the best epoch by."""

    name: str  # as it stands in metrics, tables and files: val/NAME, val_NAME
    title: str  # as people read it
    larger_is_better: bool

    def rank(self, value: float, loss: float) -> tuple[float, float]:
        """What orders epochs and trials, the larger the better: by the figure, then by the loss."""
        return value if self.larger_is_better else -value, -loss


_ACCURACY = Figure("accuracy", "accuracy", larger_is_better=True)  # share of images named rightly

FIGURES: dict[Task, Figure] = {
    "classification": _ACCURACY,
    "binary": _ACCURACY,
    # |prediction - target|, the mean over the target's numbers
    "regression": Figure("mae", "mean absolute error", larger_is_better=False),
    # share of images whose class is right and whose box overlaps the true one by half of their union (ILSVRC, 2015)
    "localisation": Figure("localisation_accuracy", "localisation accuracy", larger_is_better=True),
}
