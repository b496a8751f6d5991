"""A fully connected network against a convolutional one with as many parameters, on images whose objects move about.

    retrace study mlp_cnn

Expect: convolutional, 18 thousand parameters, 87.7 ± 1.6 %; fully connected with as many 59.9 ± 7.7 %; with 23 times
as many 80.9 ± 1.7 %.
"""

from collections.abc import Mapping, Sequence

from pipeline.params import Params
from pipeline.studies.base import PLAIN, SMALL, Outcome, Point, Report, Study, merged, named, percent, repeated, spread
from pipeline.studies.plots import bars

CONVNET = {"name": "convnet", "convnet": {"width": 8, "stages": 3, "first_depth": 1, "depth": 2}}
WIDEST = 4096
SEEDS = 3


def parameters(model: Mapping[str, object], params: Params) -> int:
    """Of the network that this model section makes for the study's images."""
    import torch

    from models.build import build_network
    from models.networks.shape import Shape

    laid = params.overlaid({"model": model})
    shape = Shape(params.data.resolved_channels, params.data.resolved_image_size, 8)
    with torch.device("meta"):
        network = build_network(laid.model.name, laid.model.settings, shape, 0.0)
    return sum(value.numel() for value in network.parameters())


def mlp(width: int) -> dict[str, object]:
    return {"name": "mlp", "mlp": {"width": width, "depth": 2, "activation": "relu"}}


def equal_width(params: Params) -> int:
    """Units of the fully connected network whose number of parameters comes nearest to the convolutional one's."""
    wanted = parameters(CONVNET, params)
    return min(range(1, 257), key=lambda width: abs(parameters(mlp(width), params) - wanted))


def points(params: Params) -> Sequence[Point]:
    networks = {"convnet": CONVNET, "mlp, as many parameters": mlp(equal_width(params)), "mlp, 128 units": mlp(128)}
    return [point for name, model in networks.items() for point in repeated(params, SEEDS, name, {"model": model})]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    names = list(dict.fromkeys(name.rpartition(", seed ")[0] for name in outcomes))
    shown = {name: [one.accuracy for one in named(outcomes, name)] for name in names}
    counts = {name: int(named(outcomes, name)[0].figures["parameters"]) for name in names}
    said = [f"{name} ({counts[name]:,} parameters) {percent(shown[name])}" for name in names]
    verdict = f"Validation accuracy: {'; '.join(said)}."
    rows = [
        {
            "network": name,
            "parameters": counts[name],
            "val_accuracy": spread(shown[name])[0],
            "deviation": spread(shown[name])[1],
            "train_accuracy": spread([one.column("train_figure")[-1] for one in named(outcomes, name)])[0],
        }
        for name in names
    ]
    picture = bars("Equal parameters, other connections", "validation accuracy, %", shown)
    return Report(verdict, rows, {"accuracy": picture})


STUDY = Study(
    question="Fully connected or convolutional, at equal parameters?",
    points=points,
    report=report,
    fixed=merged(
        SMALL,
        PLAIN,
        {
            "data": {"source": "shapes", "path": None, "image_size": None, "channels": None, "folds": None,
                     "shapes": {"images": 3000}},
            "loss": {"name": "softmax"},
            "regularization": {"dropout": 0.0, "l1": 0.0, "l2": 0.0001},
            "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "sgd": {"nesterov": True}},
            "schedule": {"name": "one_cycle"},
            "train": {"epochs": 12, "batch_size": 64},
        },
    ),
)  # fmt: skip
