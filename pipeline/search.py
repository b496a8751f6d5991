"""The stage `search`: Optuna asks and tells in this one process; trials train in it too, or in others beside it.

Trials go in rounds: those of a round are proposed before any of them is told, and told in the order of their numbers.
Which process trains a trial, and which one ends first, thus changes nothing.
"""

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.catalogue import Figure
from pipeline import paths, seeding, stage
from pipeline.data.answers import require_learnable
from pipeline.errors import Mistake
from pipeline.params import Dimension, Params
from pipeline.params.fields import show
from pipeline.state import refuse_changes
from pipeline.tracking import Run, open_run
from pipeline.training.fit import TrainingData
from pipeline.training.memorising import require_enough
from pipeline.training.network import initial_weights, initialised_network, started
from pipeline.training.trials import Outcome, TrialOrder, new_study, run_trial, tell
from pipeline.training.workers import WorkerLostError, Workers

if TYPE_CHECKING:
    import optuna


def search(params: Params, data: TrainingData, tracked: Run) -> list[Outcome]:
    """Run `search.trials` trials; trial 0 has the values of params.yaml itself.

    Each trial's sampler is seeded by (seed, trial number), so any trial's proposal is a function of the rounds before
    and of the proposals before it in its own.
    """
    from tqdm import tqdm

    require_learnable(params, data.answers)
    refuse_impossible_networks(params, data)
    title = params.figure.title
    # One device a trial: Lightning starts other devices' processes anew, once, and they would begin at trial 0.
    alone = {"epochs": params.search.epochs or params.train.epochs, "devices": 1, "strategy": "auto"}
    trial_params = params.overlaid({"train": alone})
    study = new_study(params)
    own = own_values(params)
    if own is not None:
        study.enqueue_trial(own)

    def ask(number: int) -> tuple["optuna.Trial", TrialOrder]:
        study.sampler = _sampler(params, number)
        asked = study.ask()
        # Own values outside the space cannot be told to the sampler: the trial then is one without proposals.
        changes = propose(asked, trial_params) if number > 0 or own is not None else {}
        tried = trial_params.overlaid(changes)
        return asked, TrialOrder(number, dict(asked.params), tried, tuple(told), tracked.as_parent)

    told: list[Outcome] = []
    count = params.search.trials
    with (
        _training(min(params.search.workers, count)) as train,
        tqdm(total=count, desc="search", unit="trial", disable=None) as bar,
    ):
        for first in range(0, count, params.search.round):
            asked, orders = zip(*map(ask, range(first, min(first + params.search.round, count))), strict=True)
            outcomes: dict[int, Outcome] = {}
            for outcome in train(orders):
                outcomes[outcome.number] = outcome
                best = max([*told, *outcomes.values()], key=lambda outcome: outcome.rank)
                bar.set_postfix_str(f"best validation {title} {best.val_figure:.4f}", refresh=False)
                bar.update()
                if bar.disable:  # no terminal: a line a trial shows that it lives
                    print(f"search: trial {outcome.number} {outcome.state}, {outcome.val_figure:.4f}", flush=True)
            for one, order in zip(asked, orders, strict=True):
                tell(study, one, outcomes[order.number])
                told.append(outcomes[order.number])
            refuse_changes(tracked.work)  # rather than after hours
    return told


@contextmanager
def _training(workers: int) -> Iterator[Callable[[Sequence[TrialOrder]], Iterator[Outcome]]]:
    """What trains the trials of a round and yields each as it ends: this process, or several beside it."""
    if workers <= 1:
        yield lambda orders: map(run_trial, orders)
        return
    try:
        with Workers(run_trial, workers) as pool:
            yield pool.run
    except WorkerLostError as lost:
        raise Mistake(
            f"search: the process that trained trial {lost.order.number} {lost.how}, most often because memory ran out;"
            " lower search.workers, or model and batch, then run the same command again"
        ) from None


# --- the space --------------------------------------------------------------------------------------------------------


def dimensions_with_meaning(params: Params) -> list[Dimension]:
    """The part of the space that the chosen families have."""
    return [dimension for dimension in params.space if dimension.meaning_in(params) is None]


def propose(asked: "optuna.Trial", params: Params) -> dict[str, Any]:
    """A value for every dimension that has a meaning, as a tree of changes."""
    changes: dict[str, Any] = {}
    for dimension in dimensions_with_meaning(params):
        _put(changes, dimension.path, _suggest(asked, dimension))
    return changes


def refuse_impossible_networks(params: Params, data: TrainingData) -> None:
    """Raises Mistake where the end of a range, or the ends of two, make values that do not agree, or a network that
    these images, or batches, do not allow.

    Built without memory, and before the first trial: the one that meets it may be the fiftieth.
    """
    import torch

    shape, images = data.seen(params), len(data.learned(params))
    dimensions = dimensions_with_meaning(params)
    for varied in (*combinations(dimensions, 1), *combinations(dimensions, 2)):
        builds = all(dimension.path[0] == "model" or dimension.name == "train.batch_size" for dimension in varied)
        for values in product(*(dimension.choices or (dimension.low, dimension.high) for dimension in varied)):
            changes: dict[str, Any] = {}
            for dimension, value in zip(varied, values, strict=True):
                _put(changes, dimension.path, value)
            try:
                reached = params.overlaid(changes)
                if builds:
                    with torch.device("meta"):
                        started(initialised_network(reached, shape), reached, paths.INITIAL)
                    require_enough(reached, images)
            except Mistake as mistake:
                reaches = " and ".join(f"{d.name} reaches {show(v)}" for d, v in zip(varied, values, strict=True))
                narrow = f"params.yaml: search.space: {reaches}; narrow {'it' if len(varied) == 1 else 'one of them'}"
                raise Mistake(*mistake.lines, narrow) from None


def _suggest(asked: "optuna.Trial", dimension: Dimension) -> Any:
    if dimension.choices is not None:
        return asked.suggest_categorical(dimension.name, dimension.choices)
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.integral:
        return asked.suggest_int(dimension.name, int(dimension.low), int(dimension.high), log=dimension.log)
    return asked.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.log)


def own_values(params: Params) -> dict[str, Any] | None:
    """What params.yaml itself has at the searched keys that have a meaning; None where a value is outside the space."""
    flat = params.flat() | {
        "optimizer.momentum": params.optimizer.effective_momentum,
        "regularization.dropout": params.dropout,
    }
    dimensions = dimensions_with_meaning(params)
    if not all(_contains(dimension, flat[dimension.name]) for dimension in dimensions):
        return None
    return {dimension.name: flat[dimension.name] for dimension in dimensions}


def _contains(dimension: Dimension, value: Any) -> bool:
    if dimension.choices is not None:
        return value in dimension.choices
    assert dimension.low is not None
    assert dimension.high is not None
    return value is not None and dimension.low <= value <= dimension.high


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _sampler(params: Params, number: int) -> "optuna.samplers.BaseSampler":
    import optuna

    seed = seeding.number(params.seed, "sampler", number) % 2**32  # what NumPy's seeding takes
    if params.search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


# --- the outputs ------------------------------------------------------------------------------------------------------


def best_values(trials: list[Outcome]) -> dict[str, Any]:
    """What train lays over params.yaml: the best trial's values as a tree; empty without trials.

    Raises Mistake where every trial diverged.
    """
    if not trials:
        return {}
    best = max(trials, key=lambda trial: trial.rank)
    if best.state == "diverged":
        raise Mistake(
            f"params.yaml: search: all {len(trials)} trials diverged, the one with the file's own values too",
            "lower optimizer.lr and search.space.optimizer.lr, or add schedule.warmup_epochs",
        )
    tree: dict[str, Any] = {}
    for name, value in best.values.items():
        _put(tree, tuple(name.split(".")), value)
    return tree


def trials_table(trials: list[Outcome], figure: Figure) -> str:
    """All trials as CSV, one row each."""
    names = sorted({name for trial in trials for name in trial.values})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "epochs", f"val_{figure.name}", "val_loss", *names])
    for trial in trials:
        figures = [trial.number, trial.state, trial.epochs, trial.val_figure, trial.val_loss]
        writer.writerow([*figures, *(trial.values.get(name, "") for name in names)])
    return text.getvalue()


def write_search(folder: Path, trials: list[Outcome], figure: Figure) -> None:
    """best.yaml and trials.csv."""
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    with open(folder / "best.yaml", "w", encoding="utf-8") as stream:
        writer.dump(best_values(trials), stream)
    (folder / "trials.csv").write_text(trials_table(trials, figure), encoding="utf-8")


def run(params: Params) -> None:
    data = TrainingData.open()
    for dimension in params.space:
        why = dimension.meaning_in(params)
        if why is not None:
            print(f"search: {dimension.name} is skipped: {why}")
    if params.search.trials and own_values(params) is None:
        print("search: params.yaml's own values lie outside search.space: they are trial 0 alone")
    inputs = [paths.PREPARED, paths.AUGMENTED, *initial_weights(params)]
    with open_run("search", params, inputs=inputs, outputs=[paths.SEARCH]) as tracked:
        trials = search(params, data, tracked)
        figure = params.figure
        with paths.replacing(paths.SEARCH) as (folder,):
            write_search(folder, trials, figure)
        for file in sorted(paths.SEARCH.iterdir()):
            tracked.log_artifact(file)
        if trials:
            best = max(trials, key=lambda trial: trial.rank)
            tracked.log_metrics({f"search/best_val_{figure.name}": best.val_figure}, step=best.number)
            tracked.set_tags({"retrace.best_trial": str(best.number)})
            worth = f"validation {figure.title} {best.val_figure:.4f}"
            print(f"search: best of {len(trials)} trials is {best.number}: {worth}")
        else:
            print("search: switched off (search.trials: 0)")


if __name__ == "__main__":
    sys.exit(stage.main(run))
