"""params.yaml: what may stand in it (tree, space), how it is read and what is said of its mistakes (reading)."""

from pipeline.params.augmentation import Augment
from pipeline.params.fields import Choice, families, is_operational
from pipeline.params.reading import read_mapping
from pipeline.params.space import Dimension, has_momentum
from pipeline.params.tree import (
    Data,
    Evaluate,
    LossSection,
    ModelSection,
    OptimizerSection,
    Params,
    ScheduleSection,
    Search,
    Tracking,
    Train,
    json_schema,
    leaves,
    load,
)

__all__ = [
    "Augment",
    "Choice",
    "Data",
    "Dimension",
    "Evaluate",
    "LossSection",
    "ModelSection",
    "OptimizerSection",
    "Params",
    "ScheduleSection",
    "Search",
    "Tracking",
    "Train",
    "families",
    "has_momentum",
    "is_operational",
    "json_schema",
    "leaves",
    "load",
    "read_mapping",
]
