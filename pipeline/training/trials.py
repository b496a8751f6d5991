"""One trial of a search as a function of its order, in whatever process it trains."""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from models.catalogue import FIGURES, Task
from pipeline import paths
from pipeline.params import Params
from pipeline.tracking import Parent, Run
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.fit import TrainingData, fit
from pipeline.training.recorder import DivergedError, Epoch

if TYPE_CHECKING:
    import optuna

PRUNER_STARTUP_TRIALS = 3  # the median needs some finished trials to be one
PRUNER_WARMUP_EPOCHS = 2


@dataclass(frozen=True)
class Outcome:
    """One trial as it ended: plain data, which JSON can hold."""

    number: int
    state: Literal["complete", "pruned", "diverged"]
    values: Mapping[str, Any]  # by dotted path: what was tried
    reports: tuple[float, ...]  # the task's figure on the validation images after each epoch
    val_figure: float  # of its best epoch
    val_loss: float
    task: Task = "classification"

    @property
    def epochs(self) -> int:
        return len(self.reports)

    @property
    def rank(self) -> tuple[bool, float, float, int]:
        """Larger is better: finished, validation figure, validation loss, then the earlier trial."""
        return self.state == "complete", *FIGURES[self.task].rank(self.val_figure, self.val_loss), -self.number

    def to_json(self) -> str:
        """With infinity as Python's json writes it, knowingly: a trial that diverged has such a loss."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        content = json.loads(text)
        return cls(**{**content, "reports": tuple(content["reports"])})


@dataclass(frozen=True)
class TrialOrder:
    """All that a trial is a function of, beside the data; it can be pickled."""

    number: int
    values: Mapping[str, Any]  # by dotted path: what is tried
    params: Params  # with these values laid over them
    earlier: tuple[Outcome, ...]  # every trial of the rounds before, by number: all that the pruner compares it with
    parent: Parent  # the search's run

    @property
    def name(self) -> str:
        return f"trial-{self.number:03d}"


def run_trial(order: TrialOrder) -> Outcome:
    """Train it, record it as a run below the search's, and say how it ended. Reads the data of the working directory.

    What an earlier process left of the same search is taken up: a trial that has ended is not trained again, one that
    was interrupted goes on from its checkpoint.
    Raises Mistake where the parameters cannot be used on these images or this machine.
    """
    folder = order.parent.work.folder / order.name
    ended = folder / "outcome.json"
    if ended.is_file():
        return Outcome.from_json(ended.read_text(encoding="utf-8"))
    checkpoints = Checkpoints(folder / "checkpoints", f"{order.parent.work.fingerprint} {order.name}")
    with order.parent.child("trial", order.name, order.params, {"retrace.trial": str(order.number)}) as run:
        outcome = _train(order, TrainingData.open(), run, checkpoints)
    paths.write_atomically(ended, outcome.to_json().encode())  # once the run has ended: this trial is not opened again
    shutil.rmtree(folder / "checkpoints")
    return outcome


def _train(order: TrialOrder, data: TrainingData, run: Run, checkpoints: Checkpoints) -> Outcome:
    import optuna

    asked = asked_again(order)
    task, figure = order.params.task, order.params.figure
    seen: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> None:
        seen.append(epoch)
        asked.report(epoch.val_figure, epoch.epoch)
        if asked.should_prune():
            raise optuna.TrialPruned

    state: Literal["complete", "pruned", "diverged"] = "complete"
    try:
        fit(order.params, data, run=run, on_epoch=on_epoch, checkpoints=checkpoints)
    except optuna.TrialPruned:
        state = "pruned"
        run.set_tags({"retrace.pruned": f"after epoch {len(seen)}"})
    except DivergedError as error:
        state = "diverged"
        run.set_tags({"diverged": str(error)})
    if state == "diverged":  # as good as guessing: the sampler learns to stay away
        value, loss = _guessed(task, data), math.inf
    else:
        best = max(seen, key=lambda epoch: epoch.rank(figure))
        value, loss = best.val_figure, best.val_loss
    run.log_metrics({f"search/val_{figure.name}": value}, step=seen[-1].step if seen else 0)
    return Outcome(order.number, state, order.values, tuple(epoch.val_figure for epoch in seen), value, loss, task)


def _guessed(task: Task, data: TrainingData) -> float:
    """What the same answer to every validation image is worth: one class, or the training targets' means."""
    if task == "localisation":  # nearly never both
        return 0.0
    if task == "regression":
        assert data.train.targets is not None
        assert data.validation.targets is not None
        return float(np.abs(data.validation.targets - data.train.targets.mean(0)).mean())
    return 1 / len(data.classes)


# --- what Optuna is told ----------------------------------------------------------------------------------------------


def new_study(params: Params) -> "optuna.Study":
    """An empty study in memory with the pruner that `params` name."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if params.search.pruner == "none":
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    else:
        pruner = optuna.pruners.MedianPruner(PRUNER_STARTUP_TRIALS, PRUNER_WARMUP_EPOCHS)
    direction: Literal["maximize", "minimize"] = "maximize" if params.figure.larger_is_better else "minimize"
    return optuna.create_study(direction=direction, pruner=pruner)


def tell(study: "optuna.Study", asked: "optuna.Trial", outcome: Outcome) -> None:
    """Enter an outcome, epoch by epoch and as a whole, into the study that asked for it."""
    import optuna

    for epoch, value in enumerate(outcome.reports, 1):
        asked.report(value, epoch)
    if outcome.state == "pruned":
        study.tell(asked, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(asked, outcome.val_figure)


def asked_again(order: TrialOrder) -> "optuna.Trial":
    """The trial in a study that knows the earlier rounds and nothing else.

    The search's own study is elsewhere; and what has happened in it since this round began depends on who is faster.
    """
    import optuna

    study = new_study(order.params)
    study.sampler = optuna.samplers.RandomSampler()  # it proposes nothing: the values are in the order
    for outcome in order.earlier:
        tell(study, study.ask(), outcome)
    asked = study.ask()
    while asked.number < order.number:  # the rest of its round, without results yet
        asked = study.ask()
    return asked
