"""The data losses and their settings; the code is models/losses.py."""

from typing import ClassVar, Literal

from models.catalogue.settings import Settings, setting

Task = Literal["classification", "binary", "regression", "localisation"]


class Loss(Settings):
    """A data loss; `task` says what the network then learns, and so what the data must have."""

    task: ClassVar[Task] = "classification"


class Softmax(Loss):
    """Cross-entropy of the softmax of the scores."""

    label_smoothing: float = setting("share of each target spread over all classes", ge=0, lt=1, search=(0.0, 0.2))


class Svm(Loss):
    """Multiclass hinge over all margins (Weston & Watkins): sum over j != y of max(0, s_j - s_y + margin)."""

    margin: float = setting("by how much the right score must exceed every other", gt=0, search=(0.1, 10.0, "log"))


LOSSES: dict[str, type[Loss]] = {"softmax": Softmax, "svm": Svm}
