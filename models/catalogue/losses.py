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
    """Multiclass hinge: of max(0, s_j - s_y + margin), j != y, the sum (Weston & Watkins) or the worst (Crammer &
    Singer)."""

    margins: Literal["all", "worst"] = setting("all: the sum over the wrong classes; worst: the largest alone")
    margin: float = setting("by how much the right score must exceed every other", gt=0, search=(0.1, 10.0, "log"))


class SquaredHinge(Loss):
    """The margins of the multiclass SVM, squared: sum over j != y of max(0, s_j - s_y + margin)^2."""

    margin: float = setting("by how much the right score must exceed every other", gt=0, search=(0.1, 10.0, "log"))


class OneAgainstAll(Loss):
    """A binary hinge for every class, on its raw score: is it this class or any other? Their sum."""


class BinaryHinge(Loss):
    """max(0, 1 - t s) of one score, t = +1 for class 1 and -1 for class 0."""

    task: ClassVar[Task] = "binary"


class Regression(Loss):
    """A loss of the differences d between an image's scores and its targets, number by number."""

    task: ClassVar[Task] = "regression"
    reduction: Literal["sum", "mean"] = setting("of the numbers of an image")


class L1(Regression):
    """|d|."""


class L2(Regression):
    """d^2: summed, the sum of squared differences."""


class SmoothL1(Regression):
    """d^2 / 2 where |d| < 1, |d| - 1/2 beyond (Girshick 2015)."""


class Huber(Regression):
    """d^2 / 2 where |d| <= delta, delta (|d| - delta / 2) beyond (Huber 1964)."""

    delta: float = setting("the difference from which on the loss is linear", gt=0, search=(0.01, 10.0, "log"))


class Localisation(Loss):
    """Cross-entropy of the class, plus box_weight times smooth L1 summed over the box's four numbers."""

    task: ClassVar[Task] = "localisation"
    box_weight: float = setting("how much the box counts beside the class", ge=0, search=(0.1, 100.0, "log"))


LOSSES: dict[str, type[Loss]] = {
    "softmax": Softmax,
    "svm": Svm,
    "squared_hinge": SquaredHinge,
    "one_against_all": OneAgainstAll,
    "binary_hinge": BinaryHinge,
    "l1": L1,
    "l2": L2,
    "smooth_l1": SmoothL1,
    "huber": Huber,
    "localisation": Localisation,
}
