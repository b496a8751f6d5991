"""The whole pipeline as a user runs it: `dvc repro` in fresh clones, on the embedded digits and on own pictures."""

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, make_clone

QUICK = {  # a minute's work instead of the shipped experiment
    "  epochs: 20 ": "  epochs: 2 ",
    "    width: 32 ": "    width: 8 ",
    "  trials: 6 ": "  trials: 2 ",
    "  epochs: 6 ": "  epochs: 1 ",
}
STAGES = ["source", "prepare", "augment", "search", "train", "evaluate"]


def edit(project: Path, changes: dict[str, str]) -> None:
    file = project / "params.yaml"
    text = file.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} must occur once in params.yaml"
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")


def environment(**changes: str) -> dict[str, str]:
    """What a user has who has entered this interpreter's environment, and tracks nowhere else."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    return {**own, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **changes}


def run(project: Path, *command: str, check: bool = True, **changes: str) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=300, env=environment(**changes), check=False
    )
    assert not check or finished.returncode == 0, finished.stdout + finished.stderr
    return finished


def outputs(project: Path) -> dict[str, str]:
    """The hash of every file that the stages wrote."""
    files = [file for folder in ("data", "artifacts") for file in (project / folder).rglob("*") if file.is_file()]
    return {str(file.relative_to(project)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def runs(project: Path) -> list[dict[str, str]]:
    """Status and tags of all runs in the project's MLflow database."""
    with sqlite3.connect(f"file:{project / 'mlflow.db'}?mode=ro", uri=True) as database:
        found = database.execute("select run_uuid, status from runs order by start_time").fetchall()
        return [
            {"status": status, "id": run_id}
            | dict(database.execute("select key, value from tags where run_uuid = ?", (run_id,)).fetchall())
            for run_id, status in found
        ]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the quick experiment has run once."""
    project = tmp_path_factory.mktemp("digits") / "project"
    make_clone(project)
    edit(project, QUICK)
    run(project, "dvc", "repro")
    return project


@pytest.fixture
def begun(digits: Path, tmp_path: Path) -> Path:
    """A copy of that clone, committed, without its MLflow runs: what a changed parameter does not touch is done."""
    project = tmp_path / "project"
    shutil.copytree(digits, project, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts", ".retrace"))
    commit(project)
    return project


def commit(project: Path) -> None:
    run(project, "git", "add", "--all")
    run(project, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "results")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of JPEG, PNG and GIF files of several sizes and modes."""
    folder = tmp_path_factory.mktemp("pictures") / "my pictures"
    generator = np.random.default_rng(0)
    for label, (name, colour) in enumerate(
        {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}.items()
    ):
        (folder / name).mkdir(parents=True)
        for index in range(16):
            height, width = generator.integers(20, 60, 2)
            noise = generator.integers(-30, 30, (height, width, 3))
            picture = Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))
            suffix = ("jpg", "png", "gif")[(index + label) % 3]
            picture.convert({"jpg": "RGB", "png": "RGBA", "gif": "P"}[suffix]).save(
                folder / name / f"{index} é.{suffix}"
            )
    return folder


def test_everything_is_there(digits):
    metrics = json.loads((digits / "artifacts/evaluation/metrics.json").read_text())
    assert 0 < metrics["test"]["accuracy"] <= 1
    for file in [
        "data/test/images.npy",
        "data/augmented/preview.png",
        "artifacts/search/best.yaml",
        "artifacts/model/weights.safetensors",
        "artifacts/model/model.yaml",
        "artifacts/model/learning_curves.csv",
        "artifacts/evaluation/predictions.parquet",
        "artifacts/evaluation/report.html",
    ]:
        assert (digits / file).stat().st_size > 0
    assert not list(digits.rglob("*.tmp"))
    status = run(digits, "git", "status", "--porcelain").stdout.splitlines()
    assert sorted(status) == [" M params.yaml", "?? dvc.lock"]


def test_a_second_repro_runs_nothing(digits):
    before, known = outputs(digits), len(runs(digits))
    said = run(digits, "dvc", "repro").stdout
    for stage in STAGES[1:]:
        assert f"Stage '{stage}' didn't change, skipping" in said
    assert outputs(digits) == before
    assert len(runs(digits)) == known


def test_equal_work_gives_equal_bytes(digits, tmp_path):
    make_clone(tmp_path / "elsewhere")
    edit(tmp_path / "elsewhere", QUICK)
    run(tmp_path / "elsewhere", "dvc", "repro")
    assert outputs(tmp_path / "elsewhere") == outputs(digits)


def test_every_stage_is_an_mlflow_run_with_its_lineage(digits):
    found = runs(digits)
    assert {run["status"] for run in found} == {"FINISHED"}
    by_stage = {run["retrace.stage"]: run for run in found}
    assert sorted(run["retrace.stage"] for run in found) == sorted([*STAGES, "trial", "trial"])
    assert by_stage["trial"]["mlflow.parentRunId"] == by_stage["search"]["id"]
    commit = run(digits, "git", "rev-parse", "HEAD").stdout.strip()
    lock = (digits / "dvc.lock").read_text()
    for stage in STAGES:
        assert by_stage[stage]["mlflow.source.git.commit"] == commit
        hashes = {
            key: value for key, value in by_stage[stage].items() if key.startswith(("retrace.dep", "retrace.out"))
        }
        listing = hashes.pop("retrace.dep.data.path", None)  # of the raw files, which DVC does not see
        assert (listing is not None) == (stage == "source")
        assert hashes
        assert all(value in lock for value in hashes.values())


def test_the_metrics_of_training_are_in_mlflow_once(digits):
    train = next(run for run in runs(digits) if run["retrace.stage"] == "train")
    with sqlite3.connect(f"file:{digits / 'mlflow.db'}?mode=ro", uri=True) as database:
        points = database.execute("select key, step, value from metrics where run_uuid = ?", (train["id"],)).fetchall()
    places = [(key, step) for key, step, _ in points]
    assert len(places) == len(set(places))
    curves = (digits / "artifacts/model/learning_curves.csv").read_text().splitlines()
    columns = curves[0].split(",")
    for line in curves[1:]:
        row = dict(zip(columns, line.split(","), strict=True))
        for metric in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            assert (metric.replace("_", "/"), int(row["step"]), float(row[metric])) in points


def test_the_logged_model_takes_raw_pictures(digits):
    """Loaded without any of our code, with a batch size other than the example's."""
    script = """
import json, sys, mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///mlflow.db")
model, = mlflow.search_logged_models(experiment_ids=["1"], output_format="list")
images = np.load("data/test/images.npy")[:7]
print(json.dumps(np.asarray(mlflow.pyfunc.load_model(model.model_uri).predict(images)).tolist()))
"""
    said = run(digits, "python", "-P", "-c", script, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false").stdout
    probabilities = np.array(json.loads(said.splitlines()[-1]))
    import pyarrow.parquet as pq

    table = pq.read_table(digits / "artifacts/evaluation/predictions.parquet").to_pylist()[:7]
    expected = np.array([list(row["probabilities"]) for row in table])
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def readme_commands() -> list[str]:
    """Every command of the README's console blocks, without its comment."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]


def test_every_command_of_the_readme_works(digits, tmp_path):
    """All but those that make the clone and its environment, which tests/test_setup.py runs."""
    begun = tmp_path / "project"
    shutil.copytree(digits, begun)
    commit(begun)
    own = [command for command in readme_commands() if command.startswith(("retrace ", "dvc "))]
    others = [command for command in readme_commands() if command not in own]
    assert others == ["git clone <this repository> retrace && cd retrace", "make repro"]
    said = {command: run(begun, "sh", "-c", command).stdout for command in own}
    assert "params.yaml and dvc.yaml are valid" in said["retrace check"]
    assert "optimizer.lr" in said["dvc params diff"]
    assert "test.accuracy" in said["dvc metrics diff"]
    assert "test.accuracy" in said["dvc exp show"] or "│" in said["dvc exp show"]
    assert (begun / "dvc_plots/index.html").stat().st_size > 0
    assert {run["retrace.stage"] for run in runs(begun)} >= {"search", "train", "evaluate"}


def test_a_temporary_experiment_keeps_its_runs(begun):
    run(begun, "dvc", "exp", "run", "--temp", "-S", "search.trials=0", "-S", "train.epochs=1")
    assert {run["retrace.stage"] for run in runs(begun)} >= {"search", "train", "evaluate"}
    assert {run["status"] for run in runs(begun)} == {"FINISHED"}


def test_ones_own_pictures(pictures, tmp_path):
    project = tmp_path / "project"
    make_clone(project)
    edit(project, {**QUICK, "source: digits ": "source: folder ", "path: null ": f"path: {json.dumps(str(pictures))} "})
    run(project, "dvc", "repro")
    metrics = json.loads((project / "artifacts/evaluation/metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.5
    report = json.loads((project / "data/prepared/report.json").read_text())
    assert np.load(project / "data/prepared/train/images.npy").shape[1:] == (32, 32, 3)
    assert json.dumps(report).count("quarantine") <= 2
    (pictures / "red" / "new.png").write_bytes((pictures / "red" / next(os.walk(pictures / "red"))[2][0]).read_bytes())
    assert "Running stage 'prepare'" in run(project, "dvc", "repro", "prepare").stdout


def test_a_mistake_in_params_yaml_is_told_by_every_stage_and_writes_nothing(tmp_path):
    project = tmp_path / "project"
    make_clone(project)
    edit(project, {"  momentum: 0.9 ": "  momentun: 0.9 "})
    for stage in STAGES:
        finished = run(project, "python", "-m", f"pipeline.{stage}", check=False)
        assert finished.returncode == 2
        assert "optimizer.momentun: unknown key; did you mean 'momentum'?" in finished.stderr
        assert "Traceback" not in finished.stderr
    assert not (project / "data").exists()
    assert not (project / "artifacts").exists()


def test_a_diverging_training_says_so(begun):
    project = begun
    edit(project, {"  lr: 0.1 ": "  lr: 1000.0 ", "  trials: 2 ": "  trials: 0 "})
    edit(project, {"  name: convnet ": "  name: linear ", "  l2: 0.0001 ": "  l2: 100.0 "})
    finished = run(project, "dvc", "repro", check=False)
    assert finished.returncode == 255
    assert "loss became" in finished.stderr
    assert "learning rate" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (project / "artifacts/model").exists()
    train = next(run for run in runs(project) if run["retrace.stage"] == "train")
    assert train["status"] == "FAILED"


def test_ctrl_c_in_training_leaves_nothing_half_written(begun):
    project = begun
    edit(project, {"  trials: 2 ": "  trials: 0 ", "  epochs: 2 ": "  epochs: 2000 "})
    with subprocess.Popen(
        ["dvc", "repro"],
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        spool = project / ".retrace/runs"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if any(
                '"train/loss"' in f.read_text() and '"stage":"train"' in f.read_text()
                for f in spool.glob("*/events.jsonl")
            ):
                break
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[0].decode()
    assert process.returncode != 0
    assert "Traceback" not in said
    assert not (project / "artifacts/model").exists()
    assert not list(project.glob("artifacts/.*"))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        train = [run for run in runs(project) if run["retrace.stage"] == "train" and run["status"] != "RUNNING"]
        if train:
            break
        time.sleep(0.5)
    assert train[0]["status"] == "KILLED"
