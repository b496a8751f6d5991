"""One trial of a search as a function of its order, in whatever process it trains."""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

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
    reports: tuple[float, ...]  # validation accuracy after each epoch
    val_accuracy: float  # of its best epoch
    val_loss: float

    @property
    def epochs(self) -> int:
        return len(self.reports)

    @property
    def rank(self) -> tuple[bool, float, float, int]:
        """Larger is better: finished, validation accuracy, validation loss, then the earlier trial."""
        return self.state == "complete", self.val_accuracy, -self.val_loss, -self.number

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
    seen: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> None:
        seen.append(epoch)
        asked.report(epoch.val_accuracy, epoch.epoch)
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
        accuracy, loss = 1 / len(data.classes), math.inf
    else:
        best = max(seen, key=lambda epoch: epoch.rank)
        accuracy, loss = best.val_accuracy, best.val_loss
    run.log_metrics({"search/val_accuracy": accuracy}, step=seen[-1].step if seen else 0)
    return Outcome(order.number, state, order.values, tuple(epoch.val_accuracy for epoch in seen), accuracy, loss)


# --- what Optuna is told ----------------------------------------------------------------------------------------------


def new_study(params: Params) -> "optuna.Study":
    """An empty study in memory with the pruner that `params` name."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if params.search.pruner == "none":
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    else:
        pruner = optuna.pruners.MedianPruner(PRUNER_STARTUP_TRIALS, PRUNER_WARMUP_EPOCHS)
    return optuna.create_study(direction="maximize", pruner=pruner)


def tell(study: "optuna.Study", asked: "optuna.Trial", outcome: Outcome) -> None:
    """Enter an outcome, epoch by epoch and as a whole, into the study that asked for it."""
    import optuna

    for epoch, accuracy in enumerate(outcome.reports, 1):
        asked.report(accuracy, epoch)
    if outcome.state == "pruned":
        study.tell(asked, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(asked, outcome.val_accuracy)


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
