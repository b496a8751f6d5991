"""The paths of six update rules on a ravine and on a saddle, by the very code that trains networks.

    retrace study paths_2d

The ravine is f = (x^2 + 40 y^2) / 2, from (-2, 0.5); the saddle f = (x^2 - y^2) / 2 + y^4 / 4, from (-1.5, 0.001),
whose minima lie at (0, +-1). A path has arrived where f is within 1 % of its way down.

Expect: steps until 99 % of the way down is done: in the ravine SGD 37, zigzagging; momentum 31, Nesterov 31, Adagrad
21, RMSProp 20, Adam 39; past the saddle SGD 170, momentum 175, Nesterov 171, where the slope is small; Adagrad 18,
RMSProp 17, Adam 38, which rescale it. Other rates give other steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.params import Params
from pipeline.studies.base import SMALL, Figures, Job, Outcome, Point, Report, Study
from pipeline.studies.plots import COLOURS, LIGHT, canvas, legend, own_style, png_of, titled

SGD = {"rate_inside": False, "weight_decay": 0.0}
RULES: dict[str, dict[str, Any]] = {
    "SGD": {"name": "sgd", "lr": 0.045, "momentum": 0.0, "sgd": {"nesterov": False, **SGD}},
    "momentum": {"name": "sgd", "lr": 0.01, "momentum": 0.8, "sgd": {"nesterov": False, **SGD}},
    "Nesterov": {"name": "sgd", "lr": 0.01, "momentum": 0.8, "sgd": {"nesterov": True, **SGD}},
    "Adagrad": {"name": "adagrad", "lr": 0.3, "momentum": None},
    "RMSProp": {"name": "rmsprop", "lr": 0.03, "momentum": 0.0},
    "Adam": {"name": "adam", "lr": 0.1, "momentum": None},
}
STEPS = 200
ARRIVED = 0.01  # of the way down that may be left


# What is drawn of each surface of models/surfaces.py: left, right, low, high.
WINDOWS = {"ravine": (-2.3, 0.8, -0.65, 0.65), "saddle": (-1.8, 0.8, -1.4, 1.4)}


def walked(job: Job) -> Figures:
    """The points of a path (steps + 1, 2) and the values there."""
    import torch

    from models.optimizers import OPTIMIZERS
    from models.surfaces import SURFACES

    surface = SURFACES[job.settings["surface"]]
    at = torch.nn.Parameter(torch.tensor(surface.start, dtype=torch.float64))
    own = job.params.optimizer
    rule = OPTIMIZERS[own.name]([at], own.settings, own.lr, own.effective_momentum)
    path, values = [], []
    for _ in range(STEPS + 1):
        rule.zero_grad()
        value = surface.height(at)
        value.backward()  # type: ignore[no-untyped-call]
        path.append(at.detach().tolist())
        values.append(value.item())
        rule.step()
    return {"path": path, "values": values}


def points(params: Params) -> Sequence[Point]:
    return [
        Point(f"{rule} on the {surface}", {"optimizer": settings}, None, walked, {"surface": surface})
        for surface in WINDOWS
        for rule, settings in RULES.items()
    ]


def arrival(outcome: Outcome, least: float) -> int | None:
    """The first step after which the value stays within 1 % of the way down; None: not within these steps."""
    values = np.array(outcome.figures["values"])
    far = np.nonzero(values - least > ARRIVED * (values[0] - least))[0]
    first = int(far[-1]) + 1 if len(far) else 0
    return first if first < len(values) else None


@own_style()
def drawn(outcomes: Mapping[str, Outcome]) -> bytes:
    import torch

    from models.surfaces import SURFACES

    figure, grid = canvas(1, 2, 5.2, 4.4)
    for axes, (surface, (left, right, low, high)) in zip(grid[0], WINDOWS.items(), strict=True):
        x, y = np.meshgrid(np.linspace(left, right, 240), np.linspace(low, high, 240))
        axes.grid(visible=False)
        heights = SURFACES[surface].height(torch.from_numpy(np.stack([x, y], axis=-1))).numpy()
        axes.contour(x, y, heights, levels=18, colors=LIGHT.faint, linewidths=0.8)
        for colour, rule in zip(COLOURS, RULES, strict=False):
            path = np.array(outcomes[f"{rule} on the {surface}"].figures["path"])
            axes.plot(path[:, 0], path[:, 1], color=colour, linewidth=1.3, marker="o", markersize=1.8, label=rule)
        axes.set_xlim(left, right)
        axes.set_ylim(low, high)
        titled(axes, f"Paths on a {surface}", "x", "y")
    legend(grid[0, 0], loc="lower left", ncols=2)
    return png_of(figure)


def lowest(surface: str) -> float:
    """The height of its minima."""
    import torch

    from models.surfaces import SURFACES

    found = SURFACES[surface]
    return float(found.height(torch.tensor(found.minima[0], dtype=torch.float64)))


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    rows = [
        {
            "surface": surface,
            "optimizer": rule,
            "lr": RULES[rule]["lr"],
            "steps_to_arrive": arrival(outcomes[f"{rule} on the {surface}"], lowest(surface)),
            "last_value": outcomes[f"{rule} on the {surface}"].figures["values"][-1],
        }
        for surface in WINDOWS
        for rule in RULES
    ]
    said = {
        surface: ", ".join(
            f"{row['optimizer']} {row['steps_to_arrive'] if row['steps_to_arrive'] is not None else f'not in {STEPS}'}"
            for row in rows
            if row["surface"] == surface
        )
        for surface in WINDOWS
    }
    verdict = f"Steps until 99 % of the way down is done. Ravine: {said['ravine']}. Saddle: {said['saddle']}."
    return Report(verdict, rows, {"paths": drawn(outcomes)})


STUDY = Study(
    question="What paths do update rules take in a ravine and past a saddle?", points=points, report=report, fixed=SMALL
)
