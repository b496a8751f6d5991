"""The search: trial 0 is params.yaml's own, proposals repeat, diverged and pruned trials do not stop it."""

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from ruamel.yaml import YAML

from pipeline import paths, search
from pipeline.errors import ExitStatus, Mistake
from pipeline.params import read_mapping
from pipeline.tracking import open_run
from pipeline.training.fit import TrainingData, fit
from pipeline.training.trials import Outcome, new_study

ROOT = Path(__file__).parents[2]
SPACE = {
    "optimizer": {"lr": {"low": 0.01, "high": 0.2, "log": True}, "momentum": {"low": 0.8, "high": 0.95}},
    "model": {"convnet": {"width": {"low": 2, "high": 6}}},
}


@pytest.fixture
def tracked_params(project, small_params):
    """Parameters whose MLflow server is not there: the spool has all that the tests read."""

    def make(**changes):
        offline = {"uri": "http://127.0.0.1:9", "drain_seconds": 0.0}
        params = small_params(tracking=offline, search={"trials": 4, "epochs": 2, "pruner": "none"})
        return params.model_copy(
            update={"search": params.search.model_copy(update={"space": changes.pop("space", SPACE)})}
        ).overlaid(changes)

    return make


def run_search(params) -> list[Outcome]:
    with open_run("search", params, inputs=[]) as run:
        return search.search(params, TrainingData.open(), run)


def test_trial_0_is_the_files_own_and_all_repeat(tracked_params):
    params = tracked_params()
    first, second = run_search(params), run_search(params)
    assert first == second
    assert [trial.number for trial in first] == [0, 1, 2, 3]
    assert first[0].values == {"optimizer.lr": 0.1, "optimizer.momentum": 0.9, "model.convnet.width": 4}
    assert len({json.dumps(trial.values) for trial in first}) == 4
    for trial in first:
        assert 0.01 <= trial.values["optimizer.lr"] <= 0.2
        assert 0.8 <= trial.values["optimizer.momentum"] <= 0.95
        assert isinstance(trial.values["model.convnet.width"], int)


def test_another_seed_proposes_other_values(tracked_params):
    two = {"trials": 2, "epochs": 1}
    first, second = (run_search(tracked_params(search=two, seed=seed))[1].values for seed in (0, 1))
    assert all(first[name] != second[name] for name in ("optimizer.lr", "optimizer.momentum"))


def test_a_range_is_searched_on_its_own_scale(tracked_params):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rates, momenta = zip(
        *(search.propose(study.ask(), tracked_params())["optimizer"].values() for _ in range(100)), strict=True
    )
    assert statistics.median(rates) == pytest.approx((0.01 * 0.2) ** 0.5, rel=0.3)  # logarithmic
    assert statistics.median(momenta) == pytest.approx((0.8 + 0.95) / 2, abs=0.03)


def test_a_trial_is_worth_its_best_epoch(tracked_params):
    params = tracked_params(
        space={"optimizer": {"lr": {"low": 0.01, "high": 0.2}}}, search={"trials": 1, "epochs": 8},
        optimizer={"lr": 0.05}, schedule={"name": "constant"}, model={"name": "mlp"},
    )  # fmt: skip
    best = fit(params.overlaid({"train": {"epochs": 8}}), TrainingData.open()).best
    assert best.epoch < 8, "choose another rate: the last epoch is the best, which shows nothing"
    (trial,) = run_search(params)
    assert (trial.val_figure, trial.val_loss) == (best.val_figure, best.val_loss)


def test_a_trial_does_not_depend_on_how_many_follow(tracked_params):
    assert run_search(tracked_params(search={"trials": 2})) == run_search(tracked_params())[:2]


def test_trials_are_children_with_their_own_parameters_and_metrics(tracked_params):
    run_search(tracked_params(search={"trials": 2}))
    spools = [
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in paths.state().glob("runs/*/events.jsonl")
    ]
    starts = {spool[0]["stage"]: spool[0] for spool in spools}
    assert starts["trial"]["parent"] == starts["search"]["key"]
    numbers = sorted(spool[0]["tags"]["retrace.trial"] for spool in spools if spool[0]["stage"] == "trial")
    assert numbers == ["0", "1"]
    for spool in spools:
        if spool[0]["stage"] == "trial":
            metrics = {name for record in spool if record["type"] == "metrics" for name in record["values"]}
            assert {"train/loss", "val/loss", "val/accuracy", "lr"} <= metrics
            assert spool[-1]["status"] == "FINISHED"
            assert spool[0]["params"]["train.epochs"] == "2"


def test_a_trial_has_one_device_whatever_train_has(tracked_params):
    params = tracked_params(search={"trials": 1, "epochs": 1}, train={"devices": 2, "strategy": "ddp"})
    assert [trial.state for trial in run_search(params)] == ["complete"]


def test_own_values_outside_the_space_are_tried_all_the_same(tracked_params):
    space = {"optimizer": {"lr": {"low": 0.01, "high": 0.05}}, "train": {"batch_size": {"choices": [8, None]}}}
    trials = run_search(tracked_params(space=space))
    assert trials[0].values == {}  # nothing to lay over the file
    assert trials[0].val_figure > 0
    assert all(set(trial.values) == {"optimizer.lr", "train.batch_size"} for trial in trials[1:])


def test_what_has_no_meaning_is_skipped(tracked_params):
    params = tracked_params(optimizer={"name": "adam", "momentum": None, "lr": 0.02}, model={"name": "mlp"})
    assert [set(trial.values) for trial in run_search(params)] == [{"optimizer.lr"}] * 4


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"model": {"convnet": {"stages": {"low": 1, "high": 6}}}}, r"at least 32x32 .*\n.*convnet\.stages reaches 6"),
        ({"train": {"batch_size": {"low": 1, "high": 8}}}, r"one image a device.*\n.*train\.batch_size reaches 1"),
        (  # each alone agrees with the file
            {"train": {"batch_size": {"choices": [8, None]}, "accumulate_batches": {"low": 1, "high": 2}}},
            r"one batch an epoch.*\n.*accumulate_batches reaches 2 and train\.batch_size reaches null; narrow one of",
        ),
    ],
)
def test_a_space_with_impossible_networks_is_refused_before_the_first_trial(tracked_params, space, said):
    with pytest.raises(Mistake, match=said):
        run_search(tracked_params(space=space))
    assert len(list(paths.state().glob("runs/*"))) == 1  # the search's own


def test_families_are_compared_by_experiments_not_searched(tracked_params):
    with pytest.raises(Mistake, match=r"search\.space\.model\.name: cannot be searched: .*dvc exp run -S"):
        tracked_params().overlaid({"search": {"space": {"model": {"name": {"choices": ["linear", "convnet"]}}}}})


def test_a_diverged_trial_is_worth_guessing_and_the_search_goes_on(tracked_params):
    space = {"optimizer": {"lr": {"choices": [0.05, 1000.0]}}}
    params = tracked_params(
        space=space, search={"trials": 5, "sampler": "random", "epochs": 6}, optimizer={"lr": 0.05, "momentum": 0.99},
        model={"name": "linear"}, regularization={"l2": 1.0e-3}, schedule={"name": "constant"}, train={"epochs": 60},
        tracking={"log_every_steps": 1},
    )  # fmt: skip
    params = params.overlaid({"regularization": {"l2": 0.5}})
    trials = run_search(params)
    assert {trial.state for trial in trials} == {"complete", "diverged"}
    for trial in trials:
        assert (trial.state == "diverged") == (trial.values["optimizer.lr"] == 1000.0)
        if trial.state == "diverged":
            assert trial.val_figure == pytest.approx(1 / 3)
    assert search.best_values(trials) == {"optimizer": {"lr": 0.05}}
    text = "".join(file.read_text() for file in paths.state().glob("runs/*/events.jsonl"))
    assert text.count('"diverged":"the ') == sum(t.state == "diverged" for t in trials)


def test_all_diverged_is_said():
    trial = Outcome(0, "diverged", {"optimizer.lr": 9.0}, (), 0.1, float("inf"))
    with pytest.raises(Mistake, match="all 1 trials diverged"):
        search.best_values([trial])


def test_the_best_is_finished_then_accurate_then_of_low_loss_then_early():
    def trial(number, state="complete", accuracy=0.9, loss=0.5):
        return Outcome(number, state, {"optimizer.lr": number}, (accuracy,) * 2, accuracy, loss)

    for better, worse in [
        (trial(5), trial(0, state="pruned", accuracy=1.0)),
        (trial(5, accuracy=0.91), trial(0)),
        (trial(5, loss=0.4), trial(0)),
        (trial(0), trial(5)),
    ]:
        assert search.best_values([worse, better]) == {"optimizer": {"lr": better.number}}


def test_pruning_ends_trials_early(tracked_params, monkeypatch):
    studies: list[optuna.Study] = []
    monkeypatch.setattr(search, "new_study", lambda params: studies.append(new_study(params)) or studies[0])
    space = {"optimizer": {"lr": {"choices": [0.05, 1e-9]}}}
    params = tracked_params(
        space=space, search={"trials": 9, "pruner": "median", "sampler": "random", "epochs": 6}, optimizer={"lr": 0.05}
    )
    trials = run_search(params)
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert all(trial.epochs < 6 and trial.values["optimizer.lr"] == 1e-9 for trial in pruned)
    told = [trial.state.name.lower() for trial in studies[0].trials]  # what the sampler and the pruner go by
    assert told == [trial.state for trial in trials]


@pytest.mark.parametrize("trials", [0, 2])
def test_the_stage_writes_what_train_overlays(tracked_params, trials, capsys):
    params = tracked_params(search={"trials": trials})
    search.run(params)
    best = read_mapping(paths.BEST)
    rows = list(csv.DictReader((paths.SEARCH / "trials.csv").read_text().splitlines()))
    assert len(rows) == trials
    if trials == 0:
        assert best == {}
        assert "switched off" in capsys.readouterr().out
    else:
        winner = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
        assert best["optimizer"]["lr"] == float(winner["optimizer.lr"])
        overlaid = params.overlaid(best)
        assert overlaid.optimizer.lr == best["optimizer"]["lr"]
        assert overlaid.model.settings.width == best["model"]["convnet"]["width"]


def test_skipped_keys_are_announced(tracked_params, capsys):
    search.run(tracked_params(search={"trials": 1}, model={"name": "linear"}))
    assert "search: model.convnet.width is skipped: model.name is linear" in capsys.readouterr().out


# --- rounds, and trials side by side ----------------------------------------------------------------------------------


def spools() -> list[list[dict[str, object]]]:
    files = sorted(paths.state().glob("runs/*/events.jsonl"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def trial_metrics() -> dict[str, list[tuple[object, dict[str, float]]]]:
    """By trial number: (step, values) of everything that was recorded, but for the machine's measurements."""
    return {
        spool[0]["tags"]["retrace.trial"]: [
            (record["step"], record["values"])
            for record in spool
            if record["type"] == "metrics" and not record.get("measured")
        ]
        for spool in spools()
        if spool[0]["stage"] == "trial"
    }


def test_how_many_train_side_by_side_changes_no_result(tracked_params, monkeypatch):
    found = []
    space = {"optimizer": {"lr": {"choices": [0.05, 1e-9]}}, "regularization": {"l2": {"low": 1e-5, "high": 1e-3}}}
    for count in (1, 2):
        monkeypatch.setenv("DVC_ROOT", str(Path.cwd() / f"root{count}"))  # where the runs are recorded
        changes = {"trials": 8, "epochs": 3, "round": 3, "workers": count, "pruner": "median", "sampler": "random"}
        search.run(tracked_params(space=space, search=changes, optimizer={"lr": 0.05}))
        files = {file.name: file.read_bytes() for file in paths.SEARCH.iterdir()}
        found.append((files, trial_metrics()))
    assert set(found[0][0]) == {"best.yaml", "trials.csv"}
    assert sorted(found[0][1]) == [str(number) for number in range(8)]
    assert b"pruned" in found[0][0]["trials.csv"]
    assert found[1] == found[0]


def test_a_round_is_proposed_before_any_of_it_is_told(tracked_params, monkeypatch):
    """The sampler of trial n sees results of the rounds before n's alone; a round of one is a round a trial."""
    seen = []

    def ask(study, real=optuna.Study.ask):
        done = [trial.number for trial in study.trials if trial.state.is_finished()]
        asked = real(study)
        seen.append((asked.number, done))
        return asked

    create = search.new_study
    for size, expected in [(1, [0, 1, 2, 3, 4]), (2, [0, 0, 2, 2, 4]), (9, [0] * 5)]:
        seen.clear()

        def watched(params):
            study = create(params)
            study.ask = lambda: ask(study)
            return study

        monkeypatch.setattr(search, "new_study", watched)
        run_search(tracked_params(search={"trials": 5, "epochs": 1, "round": size}))
        assert seen == [(number, list(range(finished))) for number, finished in enumerate(expected)]


def test_the_bar_counts_finished_trials(tracked_params, monkeypatch):
    import tqdm

    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, **options):
            super().__init__(**{**options, "disable": False, "file": open(os.devnull, "w")})  # noqa: SIM115
            bars.append(self)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    trials = run_search(tracked_params(search={"trials": 3, "round": 2}))
    (bar,) = bars
    assert (bar.n, bar.total) == (3, 3)
    assert bar.postfix == f"best validation accuracy {max(t.val_figure for t in trials):.4f}"
    bar.fp.close()


@contextmanager
def running_search(params) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m pipeline.search` in a process group of its own, once two trials are in their epochs."""
    with open("params.yaml", "w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params.model_dump(), file)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.search"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: len(at_work()) == 2 or process.poll() is not None)
        yield process
    finally:
        if any_in_group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def at_work() -> list[Path]:
    """The spools of trials that have recorded something."""
    found = []
    for file in paths.state().glob("runs/*/events.jsonl"):
        text = file.read_text()
        if '"stage":"trial"' in text and '"type":"metrics"' in text:
            found.append(file)
    return found


def until(condition: Callable[[], bool]) -> None:
    last = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < last, "waited in vain"
        time.sleep(0.02)


def any_in_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def endless(tracked_params):
    return tracked_params(
        search={"trials": 4, "epochs": 100_000, "round": 2, "workers": 2}, tracking={"log_every_steps": 1}
    )


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupted_search_leaves_no_process_and_marks_its_trials(tracked_params, number, to_all):
    """Ctrl-C reaches the whole group of processes, `kill` the stage alone."""
    with running_search(endless(tracked_params)) as process:
        (os.killpg if to_all else os.kill)(process.pid, number)
        _, said = process.communicate()
        assert process.returncode == ExitStatus.INTERRUPTED
        assert b"Traceback" not in said
        until(lambda: not any_in_group(process.pid))  # multiprocessing's own helper ends just after the stage
    ends = [spool[-1] for spool in spools()]
    assert len(ends) == 3
    assert {(end["type"], end["status"]) for end in ends} == {("end", "KILLED")}
    assert not paths.SEARCH.exists()


def test_a_killed_worker_ends_the_search_with_what_to_do(tracked_params):
    with running_search(endless(tracked_params)) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        victims = [
            child for child in children if b"--multiprocessing-fork" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
        assert len(victims) == 2
        os.kill(int(victims[1]), signal.SIGKILL)
        _, said = process.communicate()
        assert process.returncode == ExitStatus.MISTAKE
        assert b"search: the process that trained trial 1 was ended by SIGKILL, most often because memory ran" in said
        assert b"lower search.workers" in said
        assert b"Traceback" not in said
        until(lambda: not any_in_group(process.pid))
    assert not paths.SEARCH.exists()
