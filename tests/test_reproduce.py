"""`retrace reproduce` as a user runs it: on runs of a real pipeline, each told by a verdict and an exit status."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline import cli
from pipeline.lineage import hashes
from tests.conftest import make_clone
from tests.test_end_to_end import commit, edit, environment, run, runs

long = pytest.mark.long

SMALL = {  # seconds of work
    "  name: convnet ": "  name: linear ",
    "  epochs: 20 ": "  epochs: 1 ",
    "  trials: 6 ": "  trials: 1 ",
    "  epochs: 6 ": "  epochs: 1 ",
}


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the stages without torch have run, from a clean commit."""
    project = tmp_path_factory.mktemp("reproduce") / "project"
    make_clone(project)
    edit(project, SMALL)
    commit(project)
    run(project, "dvc", "repro", "augment")
    return project


@pytest.fixture(scope="module")
def full(light: Path) -> Path:
    """The same clone after all stages."""
    run(light, "dvc", "repro")
    return light


def copied(project: Path, target: Path) -> Path:
    """A copy with runs of its own, which a test may spoil."""
    shutil.copytree(project, target, symlinks=True)
    with sqlite3.connect(target / "mlflow.db") as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(f"update {table} set {column} = replace({column}, ?, ?)", (str(project), str(target)))
    return target


def change(project: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(project / "mlflow.db") as database:
        assert database.execute(statement, values).rowcount > 0


def run_of(project: Path, stage: str) -> dict[str, str]:
    """The latest run of a stage."""
    return [found for found in runs(project) if found.get("retrace.stage") == stage][-1]


def artefact(project: Path, stage: str, name: str) -> Path:
    return next(project.glob(f"mlartifacts/{run_of(project, stage)['id']}/artifacts/lineage/{name}"))


def reproduce(project: Path, stage: str, *options: str, **changes: str) -> tuple[int, str]:
    """Exit status and what was said."""
    command = ["python", "-m", "pipeline.cli", "reproduce", run_of(project, stage)["id"], "--here", *options]
    finished = run(project, *command, check=False, **changes)
    assert "Traceback" not in finished.stderr
    return finished.returncode, finished.stdout + finished.stderr


def left_behind(project: Path) -> list[Path]:
    return list((project / ".retrace/reproduce").iterdir())


# --- not long ---------------------------------------------------------------------------------------------------------


def test_a_clean_commit_is_made_again_bit_for_bit(light):
    def told() -> list[str]:
        folders = [sorted(map(str, (light / name).rglob("*"))) for name in (".dvc/cache", "data", ".retrace/runs")]
        return [*map(str, folders), run(light, "git", "status", "--porcelain").stdout, (light / "dvc.lock").read_text()]

    before, known = told(), len(runs(light))
    # an address that leads elsewhere must not draw the runs of the reproduction
    elsewhere = f"sqlite:///{light}/mlflow.db"
    status, said = reproduce(light, "augment", MLFLOW_TRACKING_URI=elsewhere, DVC_STAGE="x")
    assert status == 0, said
    assert "verdict: bit-identical" in said
    assert "6 outputs and 9 points of metrics of source, prepare, augment are equal" in said
    assert re.search(r"time: source, prepare, augment: [\d.]+ s, [\d.]+ s when recorded", said)
    assert told() == before
    assert len(runs(light)) == known
    assert left_behind(light) == []
    made = run_of(light, "augment")
    assert made["retrace.reproduced"] == "bit-identical"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["retrace.reproduced_at"])
    file = next(light.glob(f"mlartifacts/{made['id']}/artifacts/reproductions/*.json"))
    report = json.loads(file.read_text())
    assert [stage["stage"] for stage in report["stages"]] == ["source", "prepare", "augment"]
    recorded = {found["retrace.key"] for found in runs(light)}
    assert not recorded & {stage["key"] for stage in report["stages"]}, "the stages did not run anew"
    assert {stage["run"] for stage in report["stages"]} == {found["id"] for found in runs(light)[:3]}


def called(project: Path, capsys, monkeypatch, *words: str) -> tuple[int, str]:
    monkeypatch.chdir(project)
    status = cli.main(["reproduce", *words])
    said = capsys.readouterr()
    return status, said.out + said.err


def test_what_cannot_be_reproduced_says_why(light, tmp_path, capsys, monkeypatch):
    project = copied(light, tmp_path / "project")
    augment = run_of(project, "augment")["id"]

    status, said = called(project, capsys, monkeypatch, "0" * 32, "--here")
    assert status == 2
    assert f"{'0' * 32}: no such run on sqlite:///{project}/mlflow.db" in said

    status, said = called(project, capsys, monkeypatch, augment, "--here", "--seeds", "2")
    assert status == 2
    assert "--seeds: asks whether a training was luck" in said

    lock = artefact(project, "augment", "constraints.txt")
    lock.write_text(lock.read_text().replace("numpy==", "numpy==0."))
    status, said = called(project, capsys, monkeypatch, augment, "--here")
    assert status == 3
    assert "verdict: cannot be compared here" in said
    assert "lineage/constraints.txt" in said
    assert run_of(project, "augment")["retrace.reproduced"] == "cannot be compared here"
    shutil.copy(project / "constraints.txt", lock)

    change(project, "update tags set value = ? where key = 'retrace.commit' and run_uuid = ?", "f" * 40, augment)
    status, said = called(project, capsys, monkeypatch, augment, "--here")
    assert status == 3
    assert f"commit {'f' * 40}: missing" in said

    shutil.rmtree(lock.parent)
    status, said = called(project, capsys, monkeypatch, augment, "--here")
    assert status == 2
    assert "no lineage recorded" in said

    change(project, "update runs set lifecycle_stage = 'deleted' where run_uuid = ?", augment)
    status, said = called(project, capsys, monkeypatch, augment, "--here")
    assert status == 2
    assert "mlflow runs restore" in said
    assert left_behind(project) == []


@pytest.mark.parametrize("words", [["../x"], ["abc", "--tolerance", "-1"], ["abc", "--seeds", "0"], []])
def test_mistakes_on_the_command_line(light, capsys, monkeypatch, words):
    status, said = called(light, capsys, monkeypatch, *words)
    assert status == 2
    assert "reproduce" in said or "no run's id" in said


# --- long -------------------------------------------------------------------------------------------------------------


@long
def test_the_whole_chain_of_an_evaluation(full):
    status, said = reproduce(full, "evaluate")
    assert status == 0, said
    assert "verdict: bit-identical" in said
    assert "source, prepare, augment, search, train, evaluate are equal to the last bit" in said


@long
def test_a_dirty_tree_with_a_new_file(light, tmp_path):
    project = copied(light, tmp_path / "project")
    (project / "pipeline/tint.py").write_text("TINT = 3\n")
    code = project / "pipeline/augment.py"
    code.write_text(code.read_text().replace("import sys\n", "import sys\n\nfrom pipeline.tint import TINT\n", 1))
    code.write_text(code.read_text() + "\nassert TINT == 3\n")
    run(project, "dvc", "repro", "augment")
    assert run_of(project, "augment")["retrace.dirty"] == "true"
    run(project, "git", "checkout", "--quiet", ".")
    (project / "pipeline/tint.py").unlink()
    status, said = reproduce(project, "augment", "--only", "augment", "--keep")
    assert status == 0, said
    assert "verdict: bit-identical" in said
    assert list(project.glob(".retrace/reproduce/*/clone/pipeline/tint.py"))
    artefact(project, "augment", "untracked/pipeline/tint.py").write_text("TINT = 4\n")
    status, said = reproduce(project, "augment", "--only", "augment")
    assert status == 3
    assert "lineage/untracked/pipeline/tint.py: altered" in said


@long
def test_a_tampered_lock_changes_nothing(light, tmp_path):
    project = copied(light, tmp_path / "project")
    lock = (project / "dvc.lock").read_text()
    (project / "dvc.lock").write_text(re.sub(r"md5: [0-9a-f]{32}", f"md5: {'f' * 32}", lock))
    commit(project)
    run(project, "dvc", "repro", "--force", "--single-item", "augment")
    (project / "dvc.lock").write_text("{broken")
    status, said = reproduce(project, "augment", "--only", "augment")
    assert status == 0, said
    assert "verdict: bit-identical" in said


@long
def test_a_tampered_metric_is_named(light, tmp_path):
    project = copied(light, tmp_path / "project")
    prepare = run_of(project, "prepare")["id"]
    change(project, "update metrics set value = value + 1 where key = 'images/train' and run_uuid = ?", prepare)
    status, said = reproduce(project, "prepare", "--only", "prepare")
    assert status == 1
    assert "verdict: differs" in said
    assert "first at stage prepare: images/train at step 0: " in said
    assert "the result was altered after it was recorded" in said


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(12):
            pixels = generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{index}.png")
    return tmp_path / "pictures"


@long
def test_raw_data_that_change_and_go(pictures, tmp_path):
    project = tmp_path / "project"
    make_clone(project)
    edit(project, {**SMALL, "source: digits ": "source: folder ", "path: null ": "path: ../pictures "})
    commit(project)
    run(project, "dvc", "repro", "augment")

    status, said = reproduce(project, "augment")
    assert status == 0, said
    assert "of source, prepare, augment are equal" in said

    shutil.copy(pictures / "dog/2.png", pictures / "dog/1.png")
    (pictures / "cat/3.png").unlink()
    status, said = reproduce(project, "augment")
    assert status == 0, said
    assert "the raw data changed: dog/1.png: other content" in said
    assert "the raw data changed: cat/3.png: gone" in said
    assert "begins at augment" in said

    status, said = reproduce(project, "prepare")
    assert status == 1
    assert "first at stage source: data/source.json" in said
    assert "an input changed: data.path" in said
    assert "the raw data changed: dog/1.png: other content" in said

    shutil.rmtree(project / ".dvc/cache")
    shutil.rmtree(project / "data")
    pictures.rename(tmp_path / "elsewhere")
    status, said = reproduce(project, "augment")
    assert status == 3
    assert f"data/prepared: {run_of(project, 'augment')['retrace.dep.data/prepared']}" in said
    assert "the raw data cannot be listed" in said
    assert "no default DVC remote" in said


def alter_weights(project: Path, by: float) -> None:
    """Let the run of train, and DVC's cache, say that the weights were others, consistently."""
    from safetensors.torch import load_file, save_file

    model = project / "artifacts/model"
    weights = load_file(model / "weights.safetensors")
    next(iter(weights.values())).view(-1)[0] += by
    save_file(weights, model / "weights.safetensors")
    listing = [
        {"md5": hashes.md5(file), "relpath": file.name} for file in sorted(model.iterdir(), key=lambda file: file.name)
    ]
    digest = hashes.md5(model)
    cache = project / ".dvc/cache/files/md5"
    for name, content in [
        (digest, json.dumps(listing, sort_keys=True).encode()),
        (hashes.md5(model / "weights.safetensors"), (model / "weights.safetensors").read_bytes()),
    ]:
        (cache / name[:2]).mkdir(exist_ok=True)
        (cache / name[:2] / name[2:]).write_bytes(content)
    train = run_of(project, "train")["id"]
    where = "where key = 'retrace.out.artifacts/model' and run_uuid = ?"
    change(project, f"update tags set value = ? {where}", digest, train)
    artefact(project, "train", "outputs.json").write_text(json.dumps({"artifacts/model": digest}))


@long
def test_weights_within_tolerance_and_other_seeds(full, tmp_path):
    project = copied(full, tmp_path / "project")
    alter_weights(project, 1e-4)
    status, said = reproduce(project, "train", "--only", "train", "--tolerance", "1e-3", "--seeds", "2")
    assert status == 0, said
    assert "verdict: within tolerance" in said
    assert re.search(
        r"largest difference: artifacts/model/weights\.safetensors, tensor .* \(by (9\.99e-05|0\.0001)\)", said
    )
    assert re.search(r"best/val_accuracy: this run [\d.]+; 2 other seeds: mean [\d.]+, standard deviation", said)
    assert re.search(r"higher than [012] of 2: (typical|luck)", said)


@long
def test_another_capability_and_thread_count(full, tmp_path):
    project = copied(full, tmp_path / "project")
    alter_weights(project, 1e-4)
    file = artefact(project, "train", "environment.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "threads": 7}))
    status, said = reproduce(project, "train", "--only", "train", ATEN_CPU_CAPABILITY="default")
    assert status == 3
    assert "verdict: cannot be compared here" in said
    assert "thread count: 7 when it was recorded, 2 here" in said
    assert re.search(r"processor capability: \w+ when it was recorded, DEFAULT here", said)
    assert "artifacts/model/weights.safetensors, tensor" in said


@long
def test_ctrl_c_leaves_nothing_running_and_names_the_folder(light):
    command = ["python", "-m", "pipeline.cli", "reproduce", run_of(light, "augment")["id"], "--here"]
    with subprocess.Popen(
        command, cwd=light, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        spools = ".retrace/reproduce/*/clone/.retrace/runs/*/events.jsonl"
        deadline = time.monotonic() + 120
        while not list(light.glob(spools)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130
    assert "Traceback" not in said
    folder = light / ".retrace/reproduce" / command[4]
    assert f"left: {folder}" in said
    assert left_behind(light) == [folder]
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    shutil.rmtree(folder)


@long
def test_the_recorded_environment_is_made(light):
    run_id = run_of(light, "augment")["id"]
    finished = subprocess.run(
        ["python", "-m", "pipeline.cli", "reproduce", run_id, "--only", "augment", "--keep"],
        cwd=light, env=environment(), capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "verdict: bit-identical" in finished.stdout
    folder = light / ".retrace/reproduce" / run_id
    assert str(folder / "venv/bin/python") in (folder / "log.txt").read_text()
    assert list((folder / "venv/lib").glob("python*/site-packages/torch"))
    shutil.rmtree(folder)
