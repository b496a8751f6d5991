"""One trial: a function of its order alone, pruned as a study with the earlier rounds would prune it."""

import dataclasses
import json
import math
import pickle

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import params as params_module
from pipeline import paths
from pipeline.params import Params
from pipeline.state import Work
from pipeline.tracking import Parent
from pipeline.training import trials
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.trials import Outcome, TrialOrder, asked_again, new_study, run_trial, tell
from tests.pipeline.conftest import SHIPPED


def order_of(params: Params, number: int = 0, earlier: tuple[Outcome, ...] = (), search: str = "one") -> TrialOrder:
    """search: trials of another one find nothing that this one's have left."""
    work = Work("search", params.flat(), {"search": f"{search} {len(earlier)}"}, {}, {})
    parent = Parent("parent-key", "session", {"mlflow.user": "somebody"}, work)
    return TrialOrder(number, {"optimizer.lr": params.optimizer.lr}, params, earlier, parent)


def good(number: int, *reports: float) -> Outcome:
    return Outcome(number, "complete", {}, reports, max(reports), 0.1)


def records() -> list[dict[str, object]]:
    (file,) = paths.state().glob("runs/*/events.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_an_order_comes_whole_out_of_a_pickle(project, small_params):
    order = order_of(small_params(), 4, (good(0, 0.5, 0.75),))
    copy = pickle.loads(pickle.dumps(order))
    assert copy == order
    assert copy.params.model.settings.width == 4


def test_a_trial_is_a_function_of_its_order(project, small_params):
    first, second = (run_trial(order_of(small_params(), search=name)) for name in ("one", "other"))
    assert first == second
    assert (first.number, first.state, first.values) == (0, "complete", {"optimizer.lr": 0.1})
    assert first.epochs == len(first.reports) == 3
    assert first.val_figure == max(first.reports)
    assert run_trial(order_of(small_params(seed=1))).val_loss != first.val_loss


def test_an_outcome_survives_json(project, small_params):
    diverged = Outcome(3, "diverged", {"train.batch_size": 8, "optimizer.lr": 0.1}, (), 1 / 3, math.inf)
    for outcome in (run_trial(order_of(small_params())), diverged):
        read = json.loads(json.dumps(dataclasses.asdict(outcome)))
        assert Outcome(**{**read, "reports": tuple(read["reports"])}) == outcome


def test_it_is_recorded_below_its_parent(project, small_params):
    outcome = run_trial(order_of(small_params(), number=12))
    start, *_, end = records()
    assert (start["stage"], start["name"]) == ("trial", "trial-012")
    assert (start["parent"], start["session"]) == ("parent-key", "session")
    assert {"retrace.trial": "12", "mlflow.user": "somebody"}.items() <= start["tags"].items()
    assert end["status"] == "FINISHED"
    (worth,) = [record for record in records() if "search/val_accuracy" in record.get("values", {})]
    assert worth["values"]["search/val_accuracy"] == outcome.val_figure


def test_it_is_pruned_by_the_earlier_rounds_and_by_nothing_else(project, small_params):
    hopeless = small_params(optimizer={"lr": 1e-9}, train={"epochs": 4}, search={"pruner": "median"})
    earlier = tuple(good(number, 0.9, 0.9, 0.9, 0.9) for number in range(trials.PRUNER_STARTUP_TRIALS))
    pruned = run_trial(order_of(hopeless, 5, earlier))
    assert (pruned.state, pruned.epochs) == ("pruned", trials.PRUNER_WARMUP_EPOCHS)
    assert {"type": "tags", "values": {"retrace.pruned": "after epoch 2"}} in records()
    assert run_trial(order_of(hopeless, 5, earlier[:2])).state == "complete"  # too few to be compared with
    unpruned = hopeless.overlaid({"search": {"pruner": "none"}})
    assert run_trial(order_of(unpruned, 5, earlier)).state == "complete"


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=4, max_size=8))
def test_it_decides_as_the_one_study_does_that_sees_all_trials(curves: list[list[int]]) -> None:
    """Trials one by one: the study that asks, and the trial's own copy of it, prune at the same epochs."""
    params = params_module.load(SHIPPED)
    study = new_study(params)
    earlier: list[Outcome] = []
    for number, curve in enumerate(curves):
        asked, again = study.ask(), asked_again(order_of(params, number, tuple(earlier)))
        assert again.number == asked.number == number
        state, reports = "complete", []
        for epoch, accuracy in enumerate(curve, 1):
            reports.append(accuracy / 10)
            asked.report(accuracy / 10, epoch)
            again.report(accuracy / 10, epoch)
            assert asked.should_prune() == again.should_prune()
            if asked.should_prune():
                state = "pruned"
                break
        if state == "pruned":
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(asked, max(reports))
        earlier.append(Outcome(number, state, {}, tuple(reports), max(reports), 0.5))


def test_the_rest_of_its_round_has_a_number_and_no_result(small_params):
    again = asked_again(order_of(small_params(), 4, (good(0, 0.5), good(1, 0.5))))
    assert again.number == 4
    states = [trial.state for trial in again.study.trials]
    assert states == [optuna.trial.TrialState.COMPLETE] * 2 + [optuna.trial.TrialState.RUNNING] * 3


@pytest.mark.parametrize(
    ("outcome", "state", "value"),
    [
        (Outcome(0, "complete", {}, (0.75, 0.5), 0.75, 0.4), "COMPLETE", 0.75),
        (Outcome(0, "pruned", {}, (0.75, 0.5), 0.75, 0.4), "PRUNED", 0.5),  # Optuna's: the last report
        (Outcome(0, "diverged", {}, (), 0.25, math.inf), "COMPLETE", 0.25),
    ],
)
def test_what_the_study_is_told(small_params, outcome, state, value):
    study = new_study(small_params())
    tell(study, study.ask(), outcome)
    (told,) = study.trials
    assert (told.state.name, told.value) == (state, value)
    assert told.intermediate_values == dict(enumerate(outcome.reports, 1))


def test_a_trial_that_has_ended_is_not_trained_again(project, small_params, monkeypatch):
    first = run_trial(order_of(small_params()))
    before = records()
    monkeypatch.setattr(trials, "fit", None)
    assert run_trial(order_of(small_params())) == first
    assert records() == before


class Killed(BaseException):
    """As good as a kill."""


def test_an_interrupted_trial_goes_on_and_ends_alike(project, small_params, monkeypatch):
    """Killed after its second checkpoint of each kind; the epochs before it are reported to the pruner again."""
    whole = run_trial(order_of(small_params(), search="whole"))
    params = small_params(train={"checkpoint_seconds": 0.0})
    saves = []
    save = Checkpoints.save_checkpoint

    def save_and_die(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path)
        saves.append(path.name)
        if len(saves) in (3, 9, 10, 21):
            raise Killed

    monkeypatch.setattr(Checkpoints, "save_checkpoint", save_and_die)
    for _ in range(4):  # the last one after the whole training, before it is noted
        with pytest.raises(Killed):
            run_trial(order_of(params))
    assert run_trial(order_of(params)) == whole
    assert len(saves) == len(set(saves)), "a step was trained twice"
    folder = order_of(params).parent.work.folder / "trial-000"
    assert [entry.name for entry in folder.iterdir()] == ["outcome.json"]


def test_an_outcome_comes_whole_out_of_its_json():
    for outcome in (good(3, 0.25, 0.5), Outcome(1, "diverged", {"optimizer.lr": 9.0}, (), 0.1, math.inf)):
        assert Outcome.from_json(outcome.to_json()) == outcome
