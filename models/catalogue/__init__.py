"""What can be named in params.yaml: one class a family, with each setting's type, bounds and searchable range.

Free of torch, so that any command can validate parameters in a fraction of a second. A family is added by writing its
class in a module of this package, its line in the table below the classes there, and what it names:
models/networks/NAME.py, or a function in the table of models/losses.py, optimizers.py or schedules.py. It then is valid
in params.yaml, completed by editors, can be searched, and is tested by the conformance suite.
"""

from models.catalogue.losses import L2, LOSSES, BinaryHinge, Localisation, Loss, SmoothL1, Softmax, Svm
from models.catalogue.networks import NETWORKS, Convnet, Linear, Mlp, Network, Resnet
from models.catalogue.optimizers import OPTIMIZERS, Adam, Adamw, Muon, Optimizer, Sgd
from models.catalogue.regularization import Regularization
from models.catalogue.schedules import SCHEDULES, Constant, Cosine, OneCycle, Plateau, Step
from models.catalogue.settings import Settings, setting
from models.catalogue.tasks import FIGURES, Figure, Task

__all__ = [
    "FIGURES",
    "L2",
    "LOSSES",
    "NETWORKS",
    "OPTIMIZERS",
    "SCHEDULES",
    "Adam",
    "Adamw",
    "BinaryHinge",
    "Constant",
    "Convnet",
    "Cosine",
    "Figure",
    "Linear",
    "Localisation",
    "Loss",
    "Mlp",
    "Muon",
    "Network",
    "OneCycle",
    "Optimizer",
    "Plateau",
    "Regularization",
    "Resnet",
    "Settings",
    "Sgd",
    "SmoothL1",
    "Softmax",
    "Step",
    "Svm",
    "Task",
    "setting",
]
