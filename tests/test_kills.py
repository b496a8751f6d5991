"""kill -9 at random moments: what was killed goes on, and ends as if nothing had happened.

The moments are drawn from a seed that is printed; RETRACE_KILLS=200 RETRACE_KILL_SEED=7 asks for more, or for others.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from PIL import Image
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tests.conftest import make_clone
from tests.test_end_to_end import commit, edit, environment, run

pytestmark = pytest.mark.long

SEED = int(os.environ.get("RETRACE_KILL_SEED", "20261125"))
KILLS = int(os.environ.get("RETRACE_KILLS", "60"))
LIMIT_SECONDS = 240.0

SMALL = {
    "  epochs: 20 ": "  epochs: 4 ",
    "    width: 32 ": "    width: 16 ",
    "  checkpoint_seconds: 30.0 ": "  checkpoint_seconds: 0.0 ",
    "  trials: 6 ": "  trials: 0 ",
    "  log_every_steps: 10 ": "  log_every_steps: 2 ",
}
ADAM = {"  name: sgd ": "  name: adam ", "  lr: 0.1 ": "  lr: 0.01 ", "  momentum: 0.9 ": "  momentum: null "}
PLATEAU = {
    "  name: one_cycle ": "  name: plateau ",
    "    patience_epochs: 3 ": "    patience_epochs: 0 ",
    "  early_stopping_epochs: null ": "  early_stopping_epochs: 2 ",
    "  epochs: 4 ": "  epochs: 6 ",
}
CONFIGURATIONS: dict[str, dict[str, str]] = {
    "dropout": {"  dropout: 0.1 ": "  dropout: 0.5 ", "  cutout_size: 0 ": "  cutout_size: 2 "},
    "adam": ADAM,
    "plateau": PLATEAU,
    "accumulation": {"  accumulate_batches: 1 ": "  accumulate_batches: 3 "},
    "moving average": {"  ema_decay: null ": "  ema_decay: 0.95 "},
    "bf16": {"  precision: 32-true ": "  precision: bf16-mixed ", "  name: convnet ": "  name: preresnet "},
}


PER_CONFIGURATION = -(-KILLS // (len(CONFIGURATIONS) + 1))  # the search is one more


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which everything before the search has run."""
    project = tmp_path_factory.mktemp("prepared") / "project"
    make_clone(project)
    edit(project, SMALL)
    run(project, "dvc", "repro", "augment")
    commit(project)
    return project


def copied(prepared: Path, folder: Path, changes: dict[str, str]) -> Path:
    shutil.copytree(prepared, folder, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts", ".retrace"))
    edit(folder, changes)
    return folder


# --- what must be equal -----------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What a finished pipeline leaves: hashes of its outputs, and what MLflow has of its runs, whose ids differ."""

    outputs: dict[str, str]
    runs: Counter[tuple[str, str, str]]  # stage, name where it is fixed, status
    points: Counter[tuple[str, str, int, float]]  # run, metric, step, value


def found(project: Path, stage: str) -> Found:
    outputs = {
        str(file.relative_to(project)): hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in ("data", "artifacts")
        for file in (project / folder).rglob("*")
        if file.is_file()
    }
    with sqlite3.connect(f"file:{project / 'mlflow.db'}?mode=ro", uri=True) as database:
        tags: dict[str, dict[str, str]] = {}
        for run_id, key, value in database.execute("select run_uuid, key, value from tags"):
            tags.setdefault(run_id, {})[key] = value
        live = database.execute("select run_uuid, status from runs where lifecycle_stage = 'active'").fetchall()
        names = {
            run_id: (tags[run_id]["retrace.stage"], tags[run_id].get("retrace.trial", ""))
            for run_id, _ in live
            if tags[run_id]["retrace.stage"] in (stage, "trial")
        }
        points = database.execute("select run_uuid, key, step, value, is_nan from metrics").fetchall()
        lost = [run_id for run_id in names if "retrace.determinism" in tags[run_id]]
    assert not lost
    return Found(
        outputs,
        Counter((*names[run_id], status) for run_id, status in live if run_id in names),
        Counter(
            (" ".join(names[run_id]), key, step, value)
            for run_id, key, step, value, _ in points
            if run_id in names and not key.startswith("measured/")
        ),
    )


def processes_of(project: Path) -> list[psutil.Process]:
    """Whatever still works in the project's folder."""
    there = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(project) and process.status() != psutil.STATUS_ZOMBIE:
                there.append(process)
        except psutil.Error:
            continue
    return there


def wait_until_nobody_works(project: Path) -> None:
    limit = time.monotonic() + 60
    while left := processes_of(project):
        assert time.monotonic() < limit, f"still there: {[process.cmdline() for process in left]}"
        time.sleep(0.2)


def left_over(project: Path) -> list[str]:
    """Temporary files: all that is hidden in the folders that the stages write to."""
    folders = [project / name for name in ("data", "artifacts", ".retrace")]
    return [str(file) for folder in folders for file in folder.rglob(".*")]


# --- killing ----------------------------------------------------------------------------------------------------------


def kill_dvc(process: subprocess.Popen[bytes]) -> None:
    process.kill()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def kill_stage(process: subprocess.Popen[bytes]) -> None:
    """The stage's own process, which dvc then finds failed."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "pipeline." in " ".join(child.cmdline()) and "sender" not in " ".join(child.cmdline()):
                child.kill()
        except psutil.NoSuchProcess:
            continue


WAYS: list[Callable[[subprocess.Popen[bytes]], None]] = [kill_dvc, kill_group, kill_group, kill_stage]


def started(project: Path, stage: str) -> subprocess.Popen[bytes]:
    mend_dvc(project)
    return subprocess.Popen(
        ["dvc", "repro", "--single-item", stage],
        cwd=project, env=environment(), start_new_session=True,
        stdout=(project / "said.log").open("ab"), stderr=subprocess.STDOUT,
    )  # fmt: skip


def mend_dvc(project: Path) -> None:
    """Do what `retrace check` says of a file that DVC was killed in writing: it writes its own in place."""
    for file in (project / ".dvc/tmp/rwlock", project / "dvc.lock"):
        try:
            whole = not file.exists() or isinstance(YAML(typ="safe", pure=True).load(file.read_text()), dict)
        except YAMLError:
            whole = False
        if not whole:
            print(f"{file}: left half-written by dvc")
            file.unlink()


def records(project: Path) -> int:
    """How much has been recorded: it grows once a stage is at work."""
    return sum(file.stat().st_size for file in project.glob(".retrace/runs/*/events.jsonl"))


def killed_at(project: Path, stage: str, seconds: float, begun: bool, kill: Callable[..., None]) -> bool:
    """Start the stage and kill it after `seconds`, counted from its first record if `begun`. False: it had ended."""
    before = records(project)
    with started(project, stage) as process:
        limit = time.monotonic() + LIMIT_SECONDS
        while begun and records(project) == before and process.poll() is None:
            assert time.monotonic() < limit
            time.sleep(0.01)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(process)
            process.wait(LIMIT_SECONDS)
            return True
    assert process.returncode == 0, (project / "said.log").read_text()
    return False


def finish(project: Path, stage: str) -> float:
    """Run the stage to its end; how many seconds that took from its first record on."""
    before = records(project)
    with started(project, stage) as process:
        while records(project) == before and process.poll() is None:
            time.sleep(0.01)
        begun = time.monotonic()
        process.wait(LIMIT_SECONDS)
    assert process.returncode == 0, (project / "said.log").read_text()
    return time.monotonic() - begun


def survive(prepared: Path, tmp_path: Path, stage: str, changes: dict[str, str], kills: int, name: str) -> None:
    """Kill the stage so often: in one project until the stage has ended, then in the next. Each must end as one that
    was never killed."""
    whole = ready(prepared, tmp_path / "whole", stage, changes)
    seconds = finish(whole, stage)
    expected = found(whole, stage)
    draw = random.Random(f"{SEED} {name}")
    said = ""
    done = lives = 0
    while done < kills:
        lives += 1
        project = ready(prepared, tmp_path / f"life {lives}", stage, changes)
        has_ended = False
        if stage == "train" and lives == 1:  # on a busy machine none of the random moments may be that late
            print(f"{name}: kill 0: kill_group after some steps")
            with started(project, stage) as process:
                wait_for_steps(project)
                kill_group(process)
                process.wait(LIMIT_SECONDS)
            done += 1
        while done < kills and not has_ended:
            begun, kill = draw.random() < 0.85, draw.choice(WAYS)
            delay = draw.uniform(0, seconds / 3 if begun else 8.0)
            print(
                f"{name}: kill {done}: {kill.__name__} {delay:.2f} s after its {'first record' if begun else 'start'}"
            )
            has_ended = not killed_at(project, stage, delay, begun, kill)
            done += not has_ended
        finish(project, stage)
        wait_until_nobody_works(project)
        run(project, "retrace", "sync")
        said += (project / "said.log").read_text()
        assert found(project, stage) == expected
        assert left_over(project) == []
        shutil.rmtree(project)
    print(f"{name}: survived {done} kills in {lives} lives")
    assert "takes up what an interrupted run of the same work has left" in said
    if stage == "train":  # and not always from the beginning
        assert any(int(step) > 0 for step in re.findall(r"train: goes on at step (\d+)", said))


def ready(prepared: Path, folder: Path, stage: str, changes: dict[str, str]) -> Path:
    """A project in which all before the stage has run."""
    project = copied(prepared, folder, changes)
    before = {"prepare": "source", "train": "search"}
    if stage in before:
        run(project, "dvc", "repro", "--single-item", before[stage])
    return project


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_training_survives(prepared: Path, tmp_path: Path, name: str) -> None:
    survive(prepared, tmp_path, "train", CONFIGURATIONS[name], PER_CONFIGURATION, name)


@pytest.mark.parametrize("kept_as", ["pixels", "jpeg"])
def test_a_prepare_survives(prepared: Path, tmp_path: Path, kept_as: str) -> None:
    for number in range(2_000):
        file = tmp_path / f"raw/{number % 5}/{number:04d}.{'jpg' if number % 2 else 'png'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((300, 220)).save(file)
    changes = {
        "  source: digits ": "  source: folder ",
        "  path: null ": f"  path: {tmp_path / 'raw'} ",
        "  image_size: null ": "  image_size: 128 ",
    }
    if kept_as == "jpeg":
        changes["  max_packed_bytes: 4000000000 "] = "  max_packed_bytes: 0 "
    survive(prepared, tmp_path, "prepare", changes, 5, kept_as)


def test_a_search_survives(prepared: Path, tmp_path: Path) -> None:
    changes = {"  trials: 0 ": "  trials: 4 ", "  epochs: 6 ": "  epochs: 2 "}
    survive(prepared, tmp_path, "search", changes, PER_CONFIGURATION, "search")


# --- one at a time ----------------------------------------------------------------------------------------------------


@pytest.fixture
def searched(prepared: Path, tmp_path: Path) -> Path:
    """A project of its own in which all but train and evaluate has run."""
    project = copied(prepared, tmp_path / "project", {})
    run(project, "dvc", "repro", "--single-item", "search")
    return project


def runs_of(project: Path, stage: str) -> list[str]:
    """The states of a stage's runs in MLflow."""
    run(project, "retrace", "sync")
    return sorted(status for (name, _, status), count in found(project, stage).runs.items() for _ in range(count))


def wait_for_steps(project: Path) -> None:
    """Until a training is some steps further than it was."""
    before, limit = steps(project), time.monotonic() + LIMIT_SECONDS
    while steps(project) < before + 4:
        assert time.monotonic() < limit
        time.sleep(0.02)


def steps(project: Path) -> int:
    return sum(file.read_text().count("train/loss_step") for file in project.glob(".retrace/runs/*/events.jsonl"))


def test_a_stage_ends_with_its_dvc(searched: Path) -> None:
    edit(searched, {"  epochs: 4 ": "  epochs: 4000 "})
    with started(searched, "train") as process:
        wait_for_steps(searched)
        process.kill()
    wait_until_nobody_works(searched)
    assert "dvc is gone; this stage ends too" in (searched / "said.log").read_text()
    assert runs_of(searched, "train") == ["KILLED"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_goes_on(searched: Path, number: signal.Signals) -> None:
    edit(searched, {"  epochs: 4 ": "  epochs: 12 "})
    whole = copied(searched, searched.parent / "whole", {})
    finish(whole, "train")
    with started(searched, "train") as process:
        wait_for_steps(searched)
        os.killpg(process.pid, number)
        process.wait(LIMIT_SECONDS)
    assert process.returncode != 0
    wait_until_nobody_works(searched)
    assert "Traceback" not in (searched / "said.log").read_text()
    assert runs_of(searched, "train") == ["KILLED"]
    (state,) = (searched / ".retrace/state/train").iterdir()
    assert [file.name for file in (state / "checkpoints").iterdir() if not file.name.startswith("0" * 12)]
    finish(searched, "train")
    assert runs_of(searched, "train") == ["FINISHED"]
    assert found(searched, "train") == found(whole, "train")


def test_a_result_that_dvc_did_not_note_is_taken_up_and_a_forced_run_really_runs(searched: Path) -> None:
    run(searched, "python", "-m", "pipeline.train", DVC_STAGE="train")  # and then dvc is killed
    (state,) = (searched / ".retrace/state/train").iterdir()
    shutil.rmtree(searched / "artifacts/model")  # which the next one does first
    trained = steps(searched)
    run(searched, "dvc", "repro", "--single-item", "train")
    assert steps(searched) == trained
    assert runs_of(searched, "train") == ["FINISHED"]
    run(searched, "dvc", "repro", "--single-item", "--force", "train")
    assert runs_of(searched, "train") == ["FINISHED", "FINISHED"]
    run(searched, "dvc", "repro", "evaluate")
    assert not state.exists(), "it has landed"


def test_nothing_stale_is_resumed(searched: Path) -> None:
    with started(searched, "train") as process:
        wait_for_steps(searched)
        os.killpg(process.pid, signal.SIGKILL)
    wait_until_nobody_works(searched)
    code = searched / "models/losses.py"
    code.write_text(code.read_text() + "\n# another version\n")
    edit(searched, {"  checkpoint_seconds: 0.0 ": "  checkpoint_seconds: 0.5 "})
    finish(searched, "train")
    assert runs_of(searched, "train") == ["FINISHED", "KILLED"]
    assert len(list((searched / ".retrace/state/train").iterdir())) == 2


def test_parameters_that_change_under_a_stage_are_told_and_the_old_ones_go_on(searched: Path) -> None:
    with started(searched, "train") as process:
        wait_for_steps(searched)
        edit(searched, {"  dropout: 0.1 ": "  dropout: 0.2 "})
        process.wait(LIMIT_SECONDS)
    assert process.returncode != 0
    said = (searched / "said.log").read_text()
    assert "params.yaml: regularization.dropout: was 0.1 when train began and is 0.2 now" in said
    assert not (searched / "artifacts/model").exists()
    assert runs_of(searched, "train") == ["FAILED"]
    edit(searched, {"  dropout: 0.2 ": "  dropout: 0.1 "})
    finish(searched, "train")
    assert runs_of(searched, "train") == ["FINISHED"]
