"""Recording where mlflow is not, and sending from elsewhere: `retrace sync FOLDER`."""

import json
import shutil
import subprocess
import sys

import pytest

from pipeline import cli
from pipeline.tracking import open_run, resolve_tracking, spool, sync
from pipeline.tracking.courier import SENDER_LOCK

STAGE = """
import sys
from pathlib import Path
from pipeline import params, stage
from pipeline.tracking import open_run

def work(chosen):
    with open_run("search", chosen, [], name="stage") as run:
        for step in range(30):
            run.log_metrics({"train/loss": 1 / (step + 1)}, step)
        run.log_artifact(Path("params.yaml"))
        with run.as_parent.child("trial", "trial", chosen) as child:
            child.log_metrics({"val/loss": 0.5}, 1)
    print("done")

sys.exit(stage.main(work))
"""


def run_there(words, folder, environment):
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def elsewhere(project, tmp_path_factory, no_mlflow):
    """The project folder of a machine without mlflow, in which a stage was recorded; and what it said."""
    folder = tmp_path_factory.mktemp("air-gapped") / "project"
    folder.mkdir()
    shutil.copy(project / "params.yaml", folder)
    (project / "dvc.yaml").write_text("stages: {}\n")  # makes `project` one that `retrace` works in
    return folder, run_there([sys.executable, "-c", STAGE], folder, no_mlflow)


def found_in(project, params):
    from mlflow import MlflowClient

    client = MlflowClient(resolve_tracking(params)[0])
    runs = client.search_runs([client.get_experiment_by_name("retrace").experiment_id])
    return client, {run.info.run_name: run for run in runs}


def test_without_mlflow_a_stage_is_recorded_and_says_in_a_line_how_to_send_it(elsewhere):
    folder, done = elsewhere
    assert (done.returncode, done.stdout) == (0, "done\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tracking: mlflow cannot be imported here; the runs are kept in {folder}/.retrace/runs")
    assert "`retrace sync FOLDER`" in line
    assert "Traceback" not in (folder / ".retrace" / "sender.log").read_text()


def test_sync_itself_without_mlflow_names_the_remedy(elsewhere, no_mlflow):
    folder, _ = elsewhere
    (folder / "dvc.yaml").write_text("stages: {}\n")
    done = run_there([sys.executable, "-m", "pipeline.cli", "sync"], folder, no_mlflow)
    assert done.returncode == 2
    assert "mlflow cannot be imported here" in done.stderr
    assert "run `retrace sync` where it is installed" in done.stderr


@pytest.mark.parametrize("given", [".", ".retrace", ".retrace/runs"])
def test_a_project_carried_over_is_sent_whole(project, chosen, elsewhere, given, capsys, monkeypatch):
    folder, _ = elsewhere
    shutil.copytree(folder, project / "inside" / "carried")
    monkeypatch.chdir(project / "inside")  # a relative folder is meant from where the user is
    assert cli.main(["sync", f"carried/{given}"]) == 0
    assert capsys.readouterr().out == "2 runs sent, 0 left, 0 refused\n"
    client, runs = found_in(project, chosen())
    assert {name: run.info.status for name, run in runs.items()} == {"stage": "FINISHED", "trial": "FINISHED"}
    run_id = runs["stage"].info.run_id
    history = client.get_metric_history(run_id, "train/loss")
    assert sorted((p.step, p.value) for p in history) == [(s, 1 / (s + 1)) for s in range(30)]
    assert "params.yaml" in [entry.path for entry in client.list_artifacts(run_id)]
    assert runs["trial"].data.tags["mlflow.parentRunId"] == run_id


def test_one_run_is_sent_by_its_folder(project, chosen, elsewhere, capsys):
    folder, _ = elsewhere
    runs = {next(spool.read(path)).content["name"]: path for path in spool.spools(folder / ".retrace" / "runs")}
    assert cli.main(["sync", str(runs["trial"])]) == 1
    said = capsys.readouterr()
    assert said.out == "0 runs sent, 1 left, 0 refused\n"
    assert "which has to be sent first" in said.err  # else it would be nobody's trial
    assert cli.main(["sync", str(runs["stage"])]) == 0
    assert cli.main(["sync", str(runs["trial"])]) == 0
    _, found = found_in(project, chosen())
    assert found["trial"].data.tags["mlflow.parentRunId"] == found["stage"].info.run_id


def test_a_wrong_folder_is_named_with_the_remedy(project, tmp_path_factory, capsys):
    (project / "dvc.yaml").write_text("stages: {}\n")
    empty = tmp_path_factory.mktemp("empty")
    (empty / "file").write_text("")
    for given, said in {
        "nowhere": f"{project}/nowhere: not found; give a project's folder",
        str(empty): f"{empty}: holds no runs; give a project's folder",
        str(empty / "file"): f"{empty}/file: is no folder; give a project's folder",
    }.items():
        assert cli.main(["sync", given]) == 2
        assert said in capsys.readouterr().err
    (empty / ".retrace" / "runs").mkdir(parents=True)  # a project that has no run yet
    assert cli.main(["sync", str(empty)]) == 0


def test_runs_that_went_to_another_mlflow_are_counted(project, chosen, elsewhere, tmp_path_factory, capsys):
    folder, _ = elsewhere
    other = chosen(uri=f"sqlite:///{tmp_path_factory.mktemp('other')}/mlflow.db")
    assert len(sync(other, folder).sent) == 2
    assert cli.main(["sync", str(folder)]) == 0
    assert "2 more were sent before, to another MLflow" in capsys.readouterr().out


def test_a_run_that_is_removed_while_it_is_looked_at_stops_nothing(project, chosen, monkeypatch):
    from pipeline.tracking import courier

    with open_run("train", chosen(drain_seconds=0.0), [], name="kept"):
        pass
    gone = project / ".retrace" / "runs" / "gone"
    gone.mkdir()
    (gone / spool.EVENTS).write_text(json.dumps({"type": "start"}) + "\n")
    listed = spool.spools

    def spools_then_gone(runs, *rest):
        found = listed(runs, *rest)
        shutil.rmtree(gone, ignore_errors=True)
        return found

    monkeypatch.setattr(courier, "_unsent", lambda runs: set())
    monkeypatch.setattr(spool, "spools", spools_then_gone)
    sync(chosen())
    _, found = found_in(project, chosen())
    assert {name: run.info.status for name, run in found.items()} == {"kept": "FINISHED"}
    assert not (gone / SENDER_LOCK).exists()


@pytest.mark.long
def test_training_without_mlflow_is_sent_from_elsewhere_with_its_model(digits, project, chosen, no_mlflow, monkeypatch):
    done = run_there([sys.executable, "-m", "pipeline.train"], digits, no_mlflow)
    assert done.returncode == 0, done.stderr
    assert next(line for line in done.stderr.splitlines() if line.startswith("tracking:")).startswith(
        "tracking: mlflow cannot be imported here"
    )
    assert "Traceback" not in done.stderr
    monkeypatch.chdir(project)
    (project / "dvc.yaml").write_text("stages: {}\n")
    assert cli.main(["sync", str(digits)]) == 0
    client, runs = found_in(project, chosen())
    ((name, run),) = runs.items()
    assert (name.partition("-")[0], run.info.status) == ("train", "FINISHED")
    assert run.data.metrics["best/val_accuracy"] > 0.8
    assert {entry.path for entry in client.list_artifacts(run.info.run_id)} >= {"learning_curves.png"}
    assert "retrace.model_error" not in run.data.tags
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.source_run_id, str(model.status)) == (run.info.run_id, "READY")
