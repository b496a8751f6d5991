"""The data losses and their settings; the code is models/losses.py."""

from typing import ClassVar, Literal

from models.catalogue.settings import Settings, setting
from models.catalogue.tasks import Task


class Loss(Settings):
    """A data loss; `task` says what the network then learns, and so what the data must have."""

    task: ClassVar[Task] = "classification"


class Softmax(Loss):
    """Cross-entropy of the softmax of the scores."""

    label_smoothing: float = setting("share of each target spread over all classes", ge=0, lt=1, search=(0.0, 0.2))


class Svm(Loss):
    """Multiclass hinge over all margins (Weston & Watkins): sum over j != y of max(0, s_j - s_y + margin)."""

    margin: float = setting("by how much the right score must exceed every other", gt=0, search=(0.1, 10.0, "log"))


class BinaryHinge(Loss):
    """max(0, 1 - t s) of one score; t is +1 for the second of two classes, -1 for the first."""

    task: ClassVar[Task] = "binary"


class L2(Loss):
    """Squared differences of numbers and targets."""

    task: ClassVar[Task] = "regression"
    reduction: Literal["sum", "mean"] = setting("over the numbers of a target")


class SmoothL1(Loss):
    """0.5 d^2 where |d| < 1, |d| - 0.5 elsewhere."""

    task: ClassVar[Task] = "regression"
    reduction: Literal["sum", "mean"] = setting("over the numbers of a target")


class Localisation(Loss):
    """Cross-entropy of the class, plus box_weight times smooth L1 summed over the box's four numbers."""

    task: ClassVar[Task] = "localisation"
    box_weight: float = setting("how much the box counts beside the class", ge=0, search=(0.1, 100.0, "log"))


LOSSES: dict[str, type[Loss]] = {
    "softmax": Softmax,
    "svm": Svm,
    "binary_hinge": BinaryHinge,
    "l2": L2,
    "smooth_l1": SmoothL1,
    "localisation": Localisation,
}
