"""The studies by name, in the order of the subject; as a program it writes docs/studies.md."""

import sys

from pipeline.studies import (
    alexnet,
    batch_normalization,
    batch_size,
    choosing,
    cost,
    gradients,
    hard_cases,
    learning_rate,
    loss_curves,
    mlp_cnn,
    neighbour_regions,
    neighbours,
    optimizers,
    paths_2d,
    pose_losses,
    random_search,
    regularization,
    saddles,
    scale_of_weights,
    small_networks,
    softmax_svm,
)  # fmt: skip
from pipeline.studies.base import Study

STUDIES: dict[str, Study] = {
    "learning_rate": learning_rate.STUDY,
    "optimizers": optimizers.STUDY,
    "paths_2d": paths_2d.STUDY,
    "saddles": saddles.STUDY,
    "neighbours": neighbours.STUDY,
    "neighbour_regions": neighbour_regions.STUDY,
    "softmax_svm": softmax_svm.STUDY,
    "scale_of_weights": scale_of_weights.STUDY,
    "loss_curves": loss_curves.STUDY,
    "pose_losses": pose_losses.STUDY,
    "regularization": regularization.STUDY,
    "hard_cases": hard_cases.STUDY,
    "small_networks": small_networks.STUDY,
    "mlp_cnn": mlp_cnn.STUDY,
    "alexnet": alexnet.STUDY,
    "random_search": random_search.STUDY,
    "batch_normalization": batch_normalization.STUDY,
    "batch_size": batch_size.STUDY,
    "gradients": gradients.STUDY,
    "choosing": choosing.STUDY,
    "cost": cost.STUDY,
}

_HEAD = """# Studies

Ready-made experiments that answer the questions of a course. `retrace study` lists them; `retrace study NAME` runs
one on the params.yaml at hand, laid over by what the study fixes, and then by `-S KEY=VALUE`. Where it needs images,
source, prepare and augment run in a folder of their own (`.retrace/studies`): your `data/` and `artifacts/` stay as
they are, and no test split is opened. A study that sets no data runs on yours, or on what you name:
`retrace study learning_rate -S data.source=cifar10`.

A study leaves `artifacts/studies/NAME/`: `report.md` with the verdict, `results.csv`, pictures; what depends on the
speed of the machine is in `measured/`. MLflow shows one run of stage `study`, with a run below it for each point.
`--workers N` works on N points side by side and changes no result; one that is killed goes on from there.

What came out with the shipped params.yaml; ± is the standard deviation over seeds or folds.

| question | command | found |
| --- | --- | --- |
"""


def expected(study: Study) -> str:
    """What the study's docstring says of its result. Raises ValueError where it says nothing."""
    said = sys.modules[study.points.__module__].__doc__ or ""
    _, found, text = said.partition("\nExpect: ")
    if not found:
        raise ValueError(f"{study.points.__module__}: its docstring has no paragraph `Expect: ...`")
    return " ".join(text.split())


def page() -> str:
    """docs/studies.md."""
    rows = [
        f"| {study.question} | `retrace study {name}` | {expected(study).replace('|', '/')} |"
        for name, study in STUDIES.items()
    ]
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
