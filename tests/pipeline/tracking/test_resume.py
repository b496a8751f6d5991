"""A run that is continued, and several MLflow runs of one: one run, each point once, the status that is true."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import traceback
from collections import Counter
from pathlib import Path

import pytest

from pipeline.state import Work
from pipeline.tracking import open_run, resolve_tracking, spool, sync
from pipeline.tracking.delivery import MERGED_INTO, SENT
from pipeline.tracking.run import _recorded, runs_folder
from tests.pipeline.tracking.test_delivery import wait_until


@pytest.fixture
def quick(chosen):
    """Parameters with which a stage does not wait for its sender: the tests send by themselves."""
    return chosen(drain_seconds=0.0)


@pytest.fixture
def client(project, quick):
    from mlflow import MlflowClient

    client = MlflowClient(resolve_tracking(quick)[0])
    client.create_experiment("retrace", artifact_location=(project / "mlartifacts").as_uri())
    return client


def opened(params, key, name="run", session="a session", tags=(), parent=None):
    """A run of this key, begun or continued: what `open_run` does with it, without a sender."""
    return _recorded(
        "train", params, session, name, dict(tags), {}, work=Work("train", {}, {}, {}, {}), key=key, parent=parent
    )


def failed(params, key, **metrics):
    """A run that ended with an error."""

    def fail():
        with opened(params, key, session="old session") as run:
            run.log_metrics(metrics, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def all_runs(client):
    return client.search_runs([client.get_experiment_by_name("retrace").experiment_id])


def points(client, run_id, name):
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, name))


TRAINING = """
import os, signal, sys
from pipeline import params
from pipeline.state import Work
from pipeline.tracking.run import _recorded

first, last, kill = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "kill"
chosen, work = params.load(), Work("train", {}, {}, {}, {})
with _recorded("train", chosen, f"session {first}", "run", {}, {}, work=work, key="k" * 32) as run:
    for step in range(first, last):
        run.log_metrics({"train/loss": 1 / (step + 1), "odd": float("nan")}, step)
        run.log_measurements({"seconds": float(os.getpid())}, step)
    for number in range(2):
        with run.as_parent.child("trial", f"trial-{number}", chosen) as child:
            child.log_metrics({"val/loss": number}, 1)
            if number and kill:
                os.kill(os.getpid(), signal.SIGKILL)
print(run._writer.differences)
"""


def train(project, environment, *words):
    command = [sys.executable, "-c", TRAINING, *map(str, words)]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=60)


def test_a_killed_run_that_is_continued_is_one_run_with_each_point_once(project, quick, client, environment):
    assert train(project, environment, 0, 50, "kill").returncode == -9
    assert len(sync(quick).sent) == 3  # the run and its two trials, of which one was finished
    before = {run.info.run_name: run for run in all_runs(client)}
    assert {name: run.info.status for name, run in before.items()} == {
        "run": "KILLED", "trial-0": "FINISHED", "trial-1": "KILLED",
    }  # fmt: skip
    assert "without saying so" in before["run"].data.tags["retrace.error"]

    done = train(project, environment, 30, 80, "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    assert len(sync(quick).sent) == 3
    after = {run.info.run_name: run for run in all_runs(client)}
    assert {name: run.info.run_id for name, run in after.items()} == {n: r.info.run_id for n, r in before.items()}
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    run = after["run"]
    assert points(client, run.info.run_id, "train/loss") == [(step, 1 / (step + 1)) for step in range(80)]
    assert Counter(step for step, _ in points(client, run.info.run_id, "odd")) == Counter(range(80))
    seconds = dict(points(client, run.info.run_id, "measured/seconds"))
    assert len(points(client, run.info.run_id, "measured/seconds")) == 80
    assert seconds[0] == seconds[49] != seconds[50]  # the first value of a measurement is kept
    assert "retrace.resumed" in run.data.tags
    assert not {"retrace.error", "retrace.determinism"} & set(run.data.tags)
    assert run.info.end_time > before["run"].info.end_time
    for number in range(2):
        child = after[f"trial-{number}"]
        assert child.data.tags["mlflow.parentRunId"] == run.info.run_id
        assert points(client, child.info.run_id, "val/loss") == [(1, number)]


def test_a_run_is_running_again_while_it_is_continued(quick, client):
    failed(quick, "k" * 32, a=1.0)
    sync(quick)
    assert [run.info.status for run in all_runs(client)] == ["FAILED"]
    with opened(quick, "k" * 32) as run:
        run.log_metrics({"a": 2.0}, 2)
        assert len(sync(quick).left) == 1
        (found,) = all_runs(client)
        assert (found.info.status, found.data.metrics["a"]) == ("RUNNING", 2.0)
        assert "retrace.error" not in found.data.tags
        assert "retrace.heartbeat" in found.data.tags
    assert len(sync(quick).sent) == 1
    assert [run.info.status for run in all_runs(client)] == ["FINISHED"]


def test_lost_determinism_is_told_and_the_first_value_kept(quick, client, capfd):
    with opened(quick, "k" * 32) as run:
        for step in range(20):
            run.log_metrics({"train/loss": 0.5, "same": 1.0}, step)
    with opened(quick, "k" * 32) as run:
        for step in range(10, 21):
            run.log_metrics({"train/loss": 0.25, "same": 1.0}, step)
        assert run._writer.differences == 10
        run.flush()
    said = capfd.readouterr().err
    assert "train/loss at step 10 was 0.5 and is 0.25 when replayed" in said
    assert "10 points in all" in said
    sync(quick)
    (found,) = all_runs(client)
    assert points(client, found.info.run_id, "train/loss") == [(step, 0.5) for step in range(20)] + [(20, 0.25)]
    assert points(client, found.info.run_id, "same") == [(step, 1.0) for step in range(21)]
    told = found.data.tags["retrace.determinism"]
    assert told.startswith("lost: 10 points")
    assert "train/loss at step 10 was 0.5, then 0.25" in told


def test_parameters_that_changed_meanwhile_stay_and_are_named(chosen, quick, client):
    with opened(quick, "k" * 32):
        pass
    sync(quick)
    changed = chosen(drain_seconds=7.0)
    with opened(changed, "k" * 32):
        pass
    summary = sync(quick)
    assert (len(summary.sent), summary.refused) == (1, []), summary
    (found,) = all_runs(client)
    assert found.data.params["tracking.drain_seconds"] == "0.0"
    assert found.data.tags["retrace.params_changed"] == "tracking.drain_seconds: 7.0"


def test_a_run_that_goes_on_while_a_sender_ends_it_loses_nothing(quick, client, monkeypatch):
    """The sender has just read a dead process's spool when another process opens it."""
    from pipeline.tracking.delivery import Delivery

    failed(quick, "k" * 32, b=1.0)
    events = runs_folder() / ("k" * 32) / spool.EVENTS
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:-1]) + b'{"type":"to')  # killed, torn
    end, continued = Delivery._end, []

    def go_on_first(self, status, *rest):
        if not continued:
            continued.append(opened(quick, "k" * 32))
            run = continued[0].__enter__()
            run.log_metrics({"a": 1.0}, 1)
            run.log_artifact(quick_file)
        end(self, status, *rest)

    quick_file = events.parent.parent.parent.parent / "params.yaml"
    monkeypatch.setattr(Delivery, "_end", go_on_first)
    sync(quick)
    continued[0].__exit__(None, None, None)
    sync(quick)
    (found,) = all_runs(client)
    assert found.info.status == "FINISHED"
    assert points(client, found.info.run_id, "a") == [(1, 1.0)]
    assert [entry.path for entry in client.list_artifacts(found.info.run_id)] == ["params.yaml"]


def test_a_run_that_goes_on_while_a_sender_reads_it_stays_running(quick, client, monkeypatch):
    """The sender has just found its process dead."""
    failed(quick, "k" * 32)
    events = runs_folder() / ("k" * 32) / spool.EVENTS
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:-1]))  # killed
    real, continued = spool.size, []

    def go_on_first(folder):
        size = real(folder)
        if not continued and "_send" in {frame.name for frame in traceback.extract_stack()}:
            continued.append(opened(quick, "k" * 32))
            continued[0].__enter__().log_metrics({"a": 1.0}, 1)
        return size

    monkeypatch.setattr(spool, "size", go_on_first)
    sync(quick)
    assert continued
    (found,) = all_runs(client)
    assert (found.info.status, found.data.metrics["a"]) == ("RUNNING", 1.0)
    continued[0].__exit__(None, None, None)
    sync(quick)
    assert [run.info.status for run in all_runs(client)] == ["FINISHED"]


def test_a_last_record_without_its_line_end_is_sent_before_and_after_a_continuation(quick, client):
    with opened(quick, "k" * 32) as run:
        run.log_metrics({"a": 1.0}, 1)
        run.log_metrics({"a": 2.0}, 2)
    events = runs_folder() / ("k" * 32) / spool.EVENTS
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:-1]).rstrip(b"\n"))
    sync(quick)
    with opened(quick, "k" * 32) as run:
        run.log_metrics({"a": 2.0}, 2)
        run.log_metrics({"a": 3.0}, 3)
    sync(quick)
    (found,) = all_runs(client)
    assert points(client, found.info.run_id, "a") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert found.info.status == "FINISHED"


def test_children_are_found_again_by_their_names(quick, client):
    keys = []
    for _ in range(2):
        with opened(quick, "k" * 32) as run:
            for number in range(2):
                with run.as_parent.child("fold", f"fold-{number}", quick) as child:
                    keys.append(child.key)
                    child.log_metrics({"a": number}, 0)
            with run.as_parent.child("fold", "other", quick, key="o" * 32) as child:
                assert child.key == "o" * 32
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2
    sync(quick)
    assert Counter(run.info.run_name for run in all_runs(client)) == {"run": 1, "fold-0": 1, "fold-1": 1, "other": 1}


SENDER = """
import sys, time
from pipeline import params
from pipeline.state import Work
from pipeline.tracking import run as tracking
from pipeline.tracking.destination import destination

chosen = params.load()
sender = tracking.Sender("new session", destination(chosen), 30.0, preload_model=False)  # before the spool is opened
time.sleep(1.0)
work = Work("train", {}, {}, {}, {})
with tracking._recorded("train", chosen, "new session", "run", {}, {}, work=work, key="k" * 32) as run:
    run.log_metrics({"a": 2.0}, 2)
    print("logged", flush=True)
    sys.stdin.readline()
sender.finish()
"""


def test_the_sender_of_the_stage_that_goes_on_sends_the_run_while_it_lives(project, quick, client, environment):
    """Though that sender, at its start, found the run sent, and begun by another stage."""
    failed(quick, "k" * 32, b=1.0)
    sync(quick)
    process = subprocess.Popen(
        [sys.executable, "-c", SENDER], cwd=project, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "logged\n"
    wait_until(lambda: all_runs(client)[0].data.metrics.get("a") == 2.0)
    assert all_runs(client)[0].info.status == "RUNNING"
    _, said = process.communicate("\n", timeout=60)
    assert (process.returncode, said) == (0, "")
    assert [run.info.status for run in all_runs(client)] == ["FINISHED"]


# --- several MLflow runs of one logical run ---------------------------------------------------------------------------


def stray(client, key, start_time, **metrics):
    """A run of this key that another machine, or a request answered too late, has made."""
    experiment = client.get_experiment_by_name("retrace").experiment_id
    run = client.create_run(experiment, start_time=start_time, tags={"retrace.key": key})
    for name, value in metrics.items():
        client.log_metric(run.info.run_id, name, value, timestamp=start_time, step=0)
    return run.info.run_id


def start_time(key):
    return next(spool.read(runs_folder() / key)).content["time"]


@pytest.mark.parametrize("stray_is", ["earlier", "later"])
def test_strays_are_merged_into_the_earliest(project, quick, client, stray_is):
    """The stray appears after the run was begun, has an artefact of its own, and a child that points to it."""
    key = "k" * 32
    with opened(quick, key) as run:
        for step in range(5):
            run.log_metrics({"a": step}, step)
        run.log_artifact(project / "params.yaml")
        sync(quick)
        (own,) = all_runs(client)
        other = stray(client, key, start_time(key) + (-1000 if stray_is == "earlier" else 1000), b=1.0)
        (project / "only there.txt").write_text("there")
        client.log_artifact(other, str(project / "only there.txt"), "sub")
        client.log_text(other, "old", "params.yaml")
        child = client.create_run(own.info.experiment_id, tags={"mlflow.parentRunId": other}).info.run_id
        run.log_metrics({"a": 5}, 5)
    assert len(sync(quick).sent) == 1
    kept, gone = (other, own.info.run_id) if stray_is == "earlier" else (own.info.run_id, other)
    (found,) = [run for run in all_runs(client) if run.data.tags.get("retrace.key") == key]
    assert (found.info.run_id, found.info.status) == (kept, "FINISHED")
    assert points(client, kept, "a") == [(step, step) for step in range(6)]
    deleted = client.get_run(gone)
    assert (deleted.info.lifecycle_stage, deleted.data.tags[MERGED_INTO]) == ("deleted", kept)
    child_parent = client.get_run(child).data.tags["mlflow.parentRunId"]
    assert child_parent == kept
    artifacts = project / "mlartifacts" / kept / "artifacts"
    assert (artifacts / "sub" / "only there.txt").read_text() == "there"
    assert (artifacts / "params.yaml").read_bytes() == (project / "params.yaml").read_bytes()
    assert "was merged into" in (project / ".retrace" / "sender.log").read_text()


def test_a_run_is_adopted_that_was_made_and_not_noted(quick, client):
    with open_run("train", quick, []) as run:
        pass
    made = stray(client, run.key, start_time(run.key))
    sync(quick)
    assert [(run.info.run_id, run.info.status) for run in all_runs(client)] == [(made, "FINISHED")]


def test_a_run_that_is_made_on_an_unanswered_request_after_all_was_sent_is_merged(quick, client, monkeypatch):
    """The server acts when the run is in MLflow already, ended and its copies here removed."""
    from mlflow import MlflowClient

    real, late = MlflowClient.create_run, []

    def without_answer(self, *words, **named):
        if not late:
            late.append(lambda: real(self, *words, **named).info.run_id)
            raise ConnectionResetError("no answer")
        return real(self, *words, **named)

    monkeypatch.setattr(MlflowClient, "create_run", without_answer)
    with open_run("train", quick, []) as run:
        run.log_artifact(project_file := Path("params.yaml"))
        run.log_metrics({"a": 1.0}, 1)
    assert len(sync(quick).sent) == 1
    (kept,) = all_runs(client)
    strays = [late[0]()]
    while strays[-1] > kept.info.run_id:  # ids are random: one must come before the run's own
        strays.append(late[0]())
    assert sync(quick).reasons == []
    assert [found.info.run_id for found in all_runs(client)] == [kept.info.run_id]
    assert {client.get_run(stray).data.tags[MERGED_INTO] for stray in strays} == {kept.info.run_id}
    assert points(client, kept.info.run_id, "a") == [(1, 1.0)]
    assert project_file.name in [entry.path for entry in client.list_artifacts(kept.info.run_id)]


def test_a_run_that_another_machine_merged_goes_where_it_went(quick, client):
    key = "k" * 32
    with opened(quick, key) as run:
        run.log_metrics({"a": 1.0}, 1)
        sync(quick)
        (own,) = all_runs(client)
        kept = stray(client, key, start_time(key) - 1000)
        client.set_tag(own.info.run_id, MERGED_INTO, kept)
        client.delete_run(own.info.run_id)
        run.log_metrics({"a": 2.0}, 2)
    summary = sync(quick)
    assert (len(summary.sent), summary.refused) == (1, []), summary
    assert [(run.info.run_id, run.info.status) for run in all_runs(client)] == [(kept, "FINISHED")]
    assert points(client, kept, "a") == [(1, 1.0), (2, 2.0)]


def test_a_run_that_a_user_deleted_stays_deleted(quick, client):
    with opened(quick, "k" * 32) as run:
        sync(quick)
        (own,) = all_runs(client)
        client.delete_run(own.info.run_id)
        run.log_metrics({"a": 2.0}, 2)
    summary = sync(quick)
    assert (summary.sent, len(summary.refused)) == ([], 1), summary
    assert all_runs(client) == []


def test_a_run_that_is_gone_from_the_database_is_sent_whole_again(project, quick, client):
    with opened(quick, "k" * 32) as run:
        run.log_metrics({"a": 1.0}, 1)
        assert len(sync(quick).left) == 1
        (first,) = all_runs(client)
        with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as database, database:
            for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
                database.execute(f"DELETE FROM {table}")
        run.log_metrics({"a": 2.0}, 2)
    summary = sync(quick)
    assert (len(summary.sent), summary.refused) == (1, []), summary
    (found,) = all_runs(client)
    assert found.info.run_id != first.info.run_id
    assert points(client, found.info.run_id, "a") == [(1, 1.0), (2, 2.0)]
    assert found.info.status == "FINISHED"


def test_copies_of_a_spool_on_two_machines_are_one_run(project, quick, client, tmp_path_factory):
    with opened(quick, "k" * 32) as run:
        run.log_metrics({"a": 1.0}, 1)
        sync(quick)
    carried = tmp_path_factory.mktemp("carried") / "project"
    shutil.copytree(project / ".retrace" / "runs", carried / ".retrace" / "runs")
    (carried / ".retrace" / "runs" / ("k" * 32) / SENT).unlink()
    assert len(sync(quick, carried).sent) == 1
    assert len(sync(quick).sent) == 1
    (found,) = all_runs(client)
    assert points(client, found.info.run_id, "a") == [(1, 1.0)]
