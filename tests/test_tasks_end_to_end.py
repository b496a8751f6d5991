"""Every task through the whole pipeline as a user runs it: `dvc repro` on pose, shapes and two classes of points."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from tests.conftest import make_clone
from tests.test_end_to_end import outputs, run, runs

QUICK = {
    "model": {"name": "mlp", "mlp": {"width": 32}},
    "augment": {"rotation_degrees": 0.0, "crop_padding": 0},
    "optimizer": {"lr": 0.02},
    "train": {"epochs": 2},
    "search": {"trials": 2, "epochs": 1},
}
TASKS: dict[str, dict[str, Any]] = {
    "pose": {"data": {"source": "pose", "pose": {"images": 300, "side": 16}}, "loss": {"name": "smooth_l1"}},
    "shapes": {
        "data": {"source": "shapes", "shapes": {"images": 300, "side": 16}, "image_size": 16},
        "loss": {"name": "localisation"},
        "augment": {"rotation_degrees": 5.0, "crop_padding": 1},
    },
    "points": {
        "data": {"source": "points", "points": {"figure": "ring", "classes": 2, "images": 400}},
        "loss": {"name": "binary_hinge"},
        "train": {"epochs": 10},
    },
}
PLOTS = {
    "pose": {"predicted", "errors", "mistakes"},
    "shapes": {"confusion", "mistakes"},
    "points": {"confusion", "mistakes"},
}
FIGURE = {"pose": "mae", "shapes": "localisation_accuracy", "points": "accuracy"}


def set_params(project: Path, *changes: dict[str, Any]) -> None:
    yaml = YAML()
    file = project / "params.yaml"
    tree = yaml.load(file.read_text(encoding="utf-8"))

    def lay(node: Any, over: dict[str, Any]) -> None:
        for key, value in over.items():
            if isinstance(value, dict):
                lay(node[key], value)
            else:
                node[key] = value

    for change in changes:
        lay(tree, change)
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(tree, stream)


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[] if name == "pose" else pytest.mark.long) for name in TASKS]
)
def learned(request, tmp_path_factory) -> tuple[str, Path]:
    """A clone in which a task has been learned; of three, one in the quick suite."""
    name = request.param
    project = tmp_path_factory.mktemp(name) / "project"
    make_clone(project)
    set_params(project, QUICK, TASKS[name])
    assert "valid" in run(project, "retrace", "check").stdout
    run(project, "dvc", "repro")
    return name, project


def test_the_tasks_own_figure_is_everywhere(learned):
    name, project = learned
    figure = FIGURE[name]
    metrics = json.loads((project / "artifacts/evaluation/metrics.json").read_text())
    assert np.isfinite(metrics["test"][figure])
    assert f"train_{figure},val_loss,val_{figure}" in (project / "artifacts/model/learning_curves.csv").read_text()
    assert f"val_{figure}" in (project / "artifacts/search/trials.csv").read_text().splitlines()[0]
    by_stage = {one["retrace.stage"]: one for one in runs(project)}
    assert {one["status"] for one in runs(project)} == {"FINISHED"}
    with sqlite3.connect(f"file:{project / 'mlflow.db'}?mode=ro", uri=True) as database:
        named = {
            stage: {
                key for (key,) in database.execute("select distinct key from metrics where run_uuid = ?", (one["id"],))
            }
            for stage, one in by_stage.items()
        }
    assert named["train"] >= {f"train/{figure}", f"val/{figure}", f"best/val_{figure}"}
    assert f"search/best_val_{figure}" in named["search"]
    assert f"test/{figure}" in named["evaluate"]
    assert f"test/{figure}" in run(project, "retrace", "history").stdout
    assert figure in run(project, "retrace", "summary").stdout
    assert "artifacts/evaluation/metrics.json" in run(project, "dvc", "metrics", "show").stdout
    run(project, "dvc", "plots", "show")
    shown = (project / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert {plot for plot in PLOTS[name] if f"artifacts_evaluation_plots_{plot}.png" in shown} == PLOTS[name]
    assert "artifacts_model_learning_curves.png" in shown


def test_the_search_takes_the_better_trial(learned):
    name, project = learned
    header, *lines = (project / "artifacts/search/trials.csv").read_text().splitlines()
    column = header.split(",").index(f"val_{FIGURE[name]}")
    values = [float(line.split(",")[column]) for line in lines]
    best = min(values) if name == "pose" else max(values)
    search = next(one for one in runs(project) if one["retrace.stage"] == "search")
    assert values[int(search["retrace.best_trial"])] == best


def test_the_logged_model_says_what_evaluate_wrote(learned):
    """Loaded without any of our code, on raw pictures, with a batch size other than the example's."""
    name, project = learned
    script = """
import json, mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///mlflow.db")
model, = mlflow.search_logged_models(experiment_ids=["1"], output_format="list")
loaded = mlflow.pyfunc.load_model(model.model_uri)
print(loaded.metadata.signature.outputs.inputs[0].shape)
print(json.dumps(np.asarray(loaded.predict(np.load("data/test/images.npy")[:7])).tolist()))
"""
    *_, shape, said = run(
        project, "python", "-P", "-c", script, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false"
    ).stdout.splitlines()
    rows = pq.read_table(project / "artifacts/evaluation/predictions.parquet").to_pylist()[:7]
    columns = {"pose": ["predicted"], "shapes": ["probabilities", "predicted_box"], "points": ["probabilities"]}[name]
    expected = np.array([np.concatenate([row[column] for column in columns]) for row in rows])
    assert shape == f"(-1, {expected.shape[1]})"
    np.testing.assert_allclose(np.array(json.loads(said)), expected, atol=1e-4)


def test_a_second_repro_runs_nothing(learned):
    _, project = learned
    before = outputs(project)
    assert "Running stage 'train'" not in run(project, "dvc", "repro").stdout
    assert outputs(project) == before


@pytest.mark.long
def test_the_run_can_be_made_again(learned):
    """From its id, in the present environment: the verdict is the same for every task."""
    _, project = learned
    run(project, "git", "add", "--all")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "results")
    train = next(one for one in runs(project) if one["retrace.stage"] == "train")
    said = run(project, "retrace", "reproduce", train["id"], "--here", "--only", "train").stdout
    assert "verdict: bit-identical" in said


def test_a_wrong_pairing_is_told_by_check_and_by_search(learned):
    name, project = learned
    if name != "pose":
        pytest.skip("one set with targets is enough")
    kept = (project / "params.yaml").read_bytes()
    set_params(project, {"loss": {"name": "softmax"}})
    for command in (["retrace", "check"], ["python", "-m", "pipeline.search"], ["python", "-m", "pipeline.train"]):
        finished = run(project, *command, check=False)
        assert finished.returncode == 2
        assert "loss.name: softmax needs classes, but data.source pose has targets" in finished.stderr
        assert "Traceback" not in finished.stderr
    (project / "params.yaml").write_bytes(kept)
