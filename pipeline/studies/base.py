"""What a study is: points, each a piece of work that is a function of its parameters, and a report drawn from them."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import seeding
from pipeline.params import Params

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline.data.store import Split
    from pipeline.tracking import Run
    from pipeline.training.fit import TrainingData

Tree = Mapping[str, Any]  # mirrors params.yaml
Figures = Mapping[str, Any]  # what a point comes to, as JSON can hold it
Row = Mapping[str, Any]  # of results.csv

# One thread: the networks are small, and points may train side by side.
SMALL: Tree = {"augment": {"copies": 0}, "train": {"threads": 1, "devices": 1, "strategy": "auto"}}
# Few images to learn from and many to validate on: what regularization is for, and less luck in what is compared.
FEW: Tree = {"data": {"validation_fraction": 0.6, "test_fraction": 0.2}}
PLAIN: Tree = {"augment": {"crop_padding": 0, "rotation_degrees": 0.0, "copies": 0}}


@dataclass
class Job:
    """What a point's work is given."""

    params: Params
    settings: Tree  # what the point says beyond params.yaml's tree
    folder: Path | None  # where the stages have made its data; None for a point that needs none
    run: "Run | None" = None  # its MLflow run
    state: Path | None = None  # where its fits keep their checkpoints
    identity: str = ""  # of the piece of work, for the checkpoints
    measured: dict[str, float] = field(default_factory=dict)  # what the machine did

    @property
    def data(self) -> "TrainingData":
        """Training and validation images: never the test split."""
        from pipeline.training.fit import TrainingData

        assert self.folder is not None, "this point says that it needs no data"
        return TrainingData.open(self.folder)

    def fit(self, params: Params | None = None, data: "TrainingData | None" = None, name: str = "fit") -> "Fit":
        """Train, going on from a checkpoint where an earlier process has left one.

        name: of this fit, where a point makes several; only that called `fit` is recorded step by step.
        """
        from pipeline.training.checkpoint import Checkpoints
        from pipeline.training.fit import fit
        from pipeline.training.recorder import DivergedError

        params, data = params or self.params, data or self.data
        checkpoints = None if self.state is None else Checkpoints(self.state / name, f"{self.identity} {name}")
        epochs: list[Figures] = []
        run = self.run if name == "fit" else None
        try:
            fitted = fit(params, data, run=run, on_epoch=lambda e: epochs.append(asdict(e)), checkpoints=checkpoints)
        except DivergedError as error:
            network = error.fitted.network if error.fitted is not None else None
            return Fit(tuple(epochs), network, str(error))
        return Fit(tuple(epochs), fitted.network, None)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measure the seconds of a block as `name`."""
        began = time.perf_counter()
        yield
        self.measured[name] = time.perf_counter() - began


@dataclass(frozen=True)
class Fit:
    """How a fit ended. The network has the weights of its best epoch; None where it diverged before the first."""

    epochs: tuple[Figures, ...]  # recorder.Epoch, as mappings
    network: "nn.Module | None"
    diverged: str | None  # in words

    @property
    def trained(self) -> "nn.Module":
        """The network of a fit that did not diverge at once. Raises RuntimeError."""
        if self.network is None:
            raise RuntimeError(f"nothing was trained: {self.diverged}")
        return self.network


def trained(job: Job) -> Figures:
    """The usual work: one fit, its epochs and its number of parameters."""
    done = job.fit()
    parameters = sum(value.numel() for value in done.network.parameters()) if done.network is not None else 0
    return {"epochs": list(done.epochs), "diverged": done.diverged, "parameters": parameters}


@dataclass(frozen=True)
class Point:
    """One piece of work of a study. It can be pickled, so `work` is a module's function."""

    name: str
    changes: Tree = field(default_factory=dict)  # laid over the parameters of its work
    data: Tree | None = field(default_factory=dict)  # laid over those that its data are made by; None: needs no data
    work: Callable[[Job], Figures] = trained
    settings: Tree = field(default_factory=dict)  # what `work` is told beyond params.yaml's tree


@dataclass(frozen=True)
class Outcome:
    """What a point came to."""

    name: str
    figures: Figures
    measured: Mapping[str, float]

    @property
    def epochs(self) -> Sequence[Figures]:
        return self.figures["epochs"]  # type: ignore[no-any-return]

    @property
    def diverged(self) -> bool:
        return self.figures.get("diverged") is not None

    def column(self, name: str) -> list[float]:
        """One figure of every epoch."""
        return [float(epoch[name]) for epoch in self.epochs]

    @property
    def accuracy(self) -> float:
        """Validation accuracy of the last epoch: of the best of many epochs it would be too good. 0 if it diverged."""
        return 0.0 if self.diverged else float(self.epochs[-1]["val_figure"])

    @property
    def loss(self) -> float:
        """Validation loss of the last epoch; infinite if it diverged."""
        return math.inf if self.diverged else float(self.epochs[-1]["val_loss"])


@dataclass(frozen=True)
class Report:
    """What a study found."""

    verdict: str  # some sentences
    rows: Sequence[Row]  # of results.csv
    figures: Mapping[str, bytes]  # PNG by name
    measured: "Report | None" = None  # what depends on this machine's speed, kept apart


@dataclass(frozen=True)
class Study:
    """A question, the points that answer it, and the answer."""

    question: str
    points: Callable[[Params], Sequence[Point]]
    report: Callable[[Params, Mapping[str, Outcome]], Report]
    fixed: Tree = field(default_factory=dict)  # laid over params.yaml, under what the user sets
    is_timing: bool = False  # points never run side by side


# --- what studies share -----------------------------------------------------------------------------------------------


def merged(*trees: Tree) -> dict[str, Any]:
    """Trees laid over one another; the later wins."""
    result: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            old = result.get(key)
            both = isinstance(value, Mapping) and isinstance(old, Mapping)
            result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def repeats(params: Params, count: int) -> list[int]:
    """The seeds of `count` repetitions: other first weights and another order on the same data."""
    return [params.seed + index for index in range(count)]


def repeated(params: Params, count: int, name: str, changes: Tree, **of_point: Any) -> list[Point]:
    """A setting as `count` points that differ in the seed: other first weights and another order on the same data."""
    return [
        Point(f"{name}, seed {seed}", merged(changes, {"seed": seed}), **of_point) for seed in repeats(params, count)
    ]


def named(outcomes: Mapping[str, Outcome], prefix: str) -> list[Outcome]:
    """The repetitions of one setting: those named `prefix, seed N`."""
    return [outcome for name, outcome in outcomes.items() if name.rpartition(", seed ")[0] == prefix]


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1; 0 of one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def percent(values: Sequence[float]) -> str:
    """Shares in words: their mean, and their standard deviation where there are several."""
    mean, deviation = spread(values)
    return f"{100 * mean:.1f} %" if len(values) == 1 else f"{100 * mean:.1f} ± {100 * deviation:.1f} %"


def part(split: "Split", rows: NDArray[np.int64]) -> "Split":
    """Some of a split's images, in the order of `rows`."""
    return replace(
        split,
        images=split.images[rows],
        labels=split.labels[rows],
        targets=None if split.targets is None else split.targets[rows],
        boxes=None if split.boxes is None else split.boxes[rows],
    )


def dealt(size: int, folds: int, seed: int, purpose: str) -> list[NDArray[np.int64]]:
    """All of range(size), dealt out at random into equal folds."""
    return [np.sort(fold) for fold in np.array_split(seeding.permutation(seed, purpose, 0, size), folds)]


def outputs(network: "nn.Module", split: "Split", data: "TrainingData", params: Params) -> "Tensor":
    """A network's outputs (N, K) for a split's images, as validation sees them."""
    import torch

    from pipeline.data.augmentation import render

    policy = data.policy(params)
    network.eval()
    found = []
    with torch.no_grad():
        for first in range(0, len(split), 1024):
            pixels, maps = policy.plain(split.images, np.arange(first, min(first + 1024, len(split))))
            found.append(network(render(torch.from_numpy(pixels), maps)))
    return torch.cat(found)


def accuracy(network: "nn.Module", split: "Split", data: "TrainingData", params: Params) -> float:
    """The share of a split's images whose highest score is their class's."""
    predicted = outputs(network, split, data, params).argmax(1).numpy()
    return float((predicted == split.labels).mean())
