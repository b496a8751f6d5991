"""What a model's answers are worth: a module a task, with how they are judged, written and shown."""

from models.catalogue import Task
from pipeline.evaluation import classification, localisation, regression
from pipeline.evaluation.base import Judged, Kind, Subject

__all__ = ["KINDS", "Judged", "Kind", "Subject"]

KINDS: dict[Task, Kind] = {
    "classification": classification.KIND,
    "binary": classification.KIND,
    "regression": regression.KIND,
    "localisation": localisation.KIND,
}
