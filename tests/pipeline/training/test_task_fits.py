"""Fits, trials and searches of every task: they learn, repeat bit for bit, and are judged by the task's own figure."""

import csv
import io
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import train
from pipeline.data.copies import write_copies
from pipeline.errors import Mistake
from pipeline.params import Params
from pipeline.paths import COPIES
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.fit import TrainingData, describe, fit
from pipeline.training.trials import Outcome, _guessed, new_study, tell
from tests.pipeline.boxed import prepare
from tests.pipeline.training.test_checkpoint import Killed, points, recorded, result

TASKS = {
    "regression": ("targets", {"loss": {"name": "l2"}}),
    "localisation": ("boxes", {"loss": {"name": "localisation"}}),
    "binary": ("classes", {"loss": {"name": "binary_hinge"}}),
}
GOOD = {"regression": 0.08, "localisation": 0.4, "binary": 0.85}  # at least so good after eight epochs; mae at most


@pytest.fixture
def task_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_params: Callable[..., Params]):
    """Makes a task's data in the working directory: its parameters and what it trains on."""

    def make(task: str, **changes: object) -> tuple[Params, TrainingData]:
        monkeypatch.chdir(tmp_path)
        kind, chosen = TASKS[task]
        common = {
            "augment": {"crop_padding": 0},
            "model": {"name": "mlp", "mlp": {"width": 64, "depth": 2}},  # which knows where a pixel is
            "optimizer": {"name": "adam", "momentum": None, "lr": 0.01},
            "regularization": {"dropout": 0.0},
            "train": {"epochs": 8, "batch_size": 16, "channels_last": False},
        }
        params = small_params(**chosen).overlaid(common).overlaid(changes)
        prepare(params.augment, kind)
        return params, TrainingData.open()

    return make


@pytest.mark.parametrize("task", TASKS)
def test_learns_and_repeats_bit_for_bit(task_of, task):
    params, data = task_of(task)
    first = fit(params, data)
    torch.manual_seed(999)
    second = fit(params, data)
    assert result(first) == result(second)
    figure = params.figure
    better = max if figure.larger_is_better else min
    assert first.best.val_figure == better(epoch.val_figure for epoch in first.history)
    assert better(first.best.val_figure, GOOD[task]) == first.best.val_figure
    guessed = _guessed(params.task, data)
    assert better(first.best.val_figure, guessed) == first.best.val_figure


def test_the_validation_figure_is_what_the_saved_model_makes(task_of):
    params, data = task_of("regression", train={"epochs": 2})
    fitted = fit(params, data)
    description = describe(params, data)
    assert (description.classes, description.targets) == ([], ["across", "down"])
    from models.build import Predictor

    with torch.no_grad():
        said = Predictor(fitted.network.eval(), description)(torch.from_numpy(np.array(data.validation.images)))
    expected = np.abs(said.numpy() - data.validation.targets).mean()
    assert fitted.best.val_figure == pytest.approx(expected, rel=1e-5)


def test_tables_and_metrics_have_the_figures_name(task_of, tmp_path):
    params, data = task_of("regression", train={"epochs": 2})
    with recorded(tmp_path / "run") as run:
        fitted = fit(params, data, run=run)
    names = {name for name, _, _ in points(tmp_path / "run")}
    assert names >= {"train/mae", "val/mae", "train/mae_step", "train/loss", "val/loss"}
    assert not {name for name in names if "accuracy" in name}
    (first, *_) = csv.DictReader(io.StringIO(train.history_table(fitted.history, params.figure)))
    assert list(first) == ["epoch", "step", "train_loss", "train_mae", "val_loss", "val_mae", "lr"]


@pytest.mark.parametrize("task", ["regression", "localisation"])
def test_stopped_at_every_save_point_it_ends_in_the_same_bits(task_of, tmp_path, monkeypatch, task):
    params, data = task_of(task, train={"epochs": 2, "checkpoint_seconds": 0.0}, augment={"crop_padding": 2})
    with recorded(tmp_path / "whole") as run:
        whole = result(fit(params, data, run=run))
    saves: list[str] = []
    save = Checkpoints.save_checkpoint

    def save_and_die(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path)
        if path.name not in saves:
            saves.append(path.name)
            raise Killed

    monkeypatch.setattr(Checkpoints, "save_checkpoint", save_and_die)
    while True:
        with recorded(tmp_path / "resumed") as run, suppress(Killed):
            fitted = fit(params, data, run=run, checkpoints=Checkpoints(tmp_path / "state", "a fit"))
            break
    assert len(saves) > 10
    assert result(fitted) == whole
    assert sorted(set(points(tmp_path / "resumed"))) == points(tmp_path / "whole")


def test_mixed_numbers_are_learned(task_of):
    params, data = task_of("regression", augment={"mixup": 0.4})
    assert fit(params, data).best.val_figure < _guessed("regression", data)


def test_copies_are_learned_from_with_their_boxes(task_of):
    params, data = task_of("localisation", augment={"copies": 2, "crop_padding": 2}, train={"epochs": 4})
    write_copies(COPIES, data.train, data.policy(params), 2, data.classes)
    assert fit(params, data).best.val_figure > 0.3


def test_a_wrong_pairing_is_refused(task_of):
    params, data = task_of("regression")
    with pytest.raises(Mistake, match=r"loss\.name: softmax needs classes, but .* has targets \(across, down\)"):
        fit(params.overlaid({"loss": {"name": "softmax"}}), data)


# --- trials -----------------------------------------------------------------------------------------------------------


def outcome(number: int, *reports: float, task: str, state: str = "complete") -> Outcome:
    best = min(reports) if task == "regression" else max(reports)
    return Outcome(number, state, {}, reports, best, 0.1, task)


def test_a_trial_with_a_smaller_error_is_better():
    worse, better = outcome(0, 0.5, 0.4, task="regression"), outcome(1, 0.3, 0.2, task="regression")
    assert better.rank > worse.rank
    assert outcome(0, 0.4, task="localisation").rank > outcome(1, 0.3, task="localisation").rank
    diverged = Outcome(2, "diverged", {}, (), 0.01, math.inf, "regression")
    assert worse.rank > diverged.rank
    assert Outcome.from_json(worse.to_json()) == worse


def test_optuna_is_told_which_way_is_better(small_params):
    study = new_study(small_params(loss={"name": "l2"}))
    for number, error in enumerate((0.5, 0.2, 0.4)):
        tell(study, study.ask(), outcome(number, error, task="regression"))
    assert study.direction.name == "MINIMIZE"
    assert study.best_trial.number == 1
    assert new_study(small_params()).direction.name == "MAXIMIZE"


def test_the_pruner_stops_the_larger_error(small_params):
    study = new_study(small_params(loss={"name": "l2"}))
    for number in range(3):
        tell(study, study.ask(), outcome(number, 0.5, 0.4, 0.3, 0.2, task="regression"))
    for error, stops in ((0.9, True), (0.1, False)):
        asked = study.ask()
        for epoch in range(1, 5):
            asked.report(error, epoch)
        assert bool(asked.should_prune()) is stops


def test_guessing_is_the_mean_of_the_training_targets(task_of):
    _, data = task_of("regression")
    expected = np.abs(data.validation.targets - data.train.targets.mean(0)).mean()
    assert _guessed("regression", data) == pytest.approx(expected)
