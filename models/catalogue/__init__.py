"""What can be named in params.yaml: one class a family, with each setting's type, bounds and searchable range.

Free of torch, so that any command can validate parameters in a fraction of a second. A family is added by writing its
class in a module of this package, its line in the table below the classes there, and what it names:
models/networks/NAME.py, or a function in the table of models/losses.py, optimizers.py or schedules.py. It then is valid
in params.yaml, completed by editors, can be searched, and is tested by the conformance suite.
"""

from models.catalogue.losses import (
    L1,
    L2,
    LOSSES,
    BinaryHinge,
    Huber,
    Localisation,
    Loss,
    OneAgainstAll,
    Regression,
    SmoothL1,
    Softmax,
    SquaredHinge,
    Svm,
)
from models.catalogue.networks import NETWORKS, Alexnet, Convnet, Linear, Mlp, Network, Preresnet, Resnet, Vgg
from models.catalogue.optimizers import (
    OPTIMIZERS,
    Adagrad,
    Adam,
    Adamw,
    AlexnetRule,
    Muon,
    Optimizer,
    RandomSearch,
    Rmsprop,
    Sgd,
)
from models.catalogue.regularization import Regularization
from models.catalogue.schedules import SCHEDULES, Constant, Cosine, OneCycle, Plateau, Step
from models.catalogue.settings import Settings, setting
from models.catalogue.tasks import FIGURES, Figure, Task

__all__ = [
    "FIGURES",
    "L1",
    "L2",
    "LOSSES",
    "NETWORKS",
    "OPTIMIZERS",
    "SCHEDULES",
    "Adagrad",
    "Adam",
    "Adamw",
    "Alexnet",
    "AlexnetRule",
    "BinaryHinge",
    "Constant",
    "Convnet",
    "Cosine",
    "Figure",
    "Huber",
    "Linear",
    "Localisation",
    "Loss",
    "Mlp",
    "Muon",
    "Network",
    "OneAgainstAll",
    "OneCycle",
    "Optimizer",
    "Plateau",
    "Preresnet",
    "RandomSearch",
    "Regression",
    "Regularization",
    "Resnet",
    "Rmsprop",
    "Settings",
    "Sgd",
    "SmoothL1",
    "Softmax",
    "SquaredHinge",
    "Step",
    "Svm",
    "Task",
    "Vgg",
    "setting",
]
