"""What MLflow holds in the end: a real sqlite store, filled by `sync` unless the sender is the point."""

import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from pipeline.errors import Mistake
from pipeline.lineage.redaction import redacted
from pipeline.tracking import open_run, resolve_tracking, spool, sync
from pipeline.tracking.delivery import SENT
from pipeline.tracking.run import runs_folder


def everything(chosen_params):
    """All runs by name, with every point of every metric."""
    from mlflow import MlflowClient

    client = MlflowClient(resolve_tracking(chosen_params)[0])
    experiment = client.get_experiment_by_name(chosen_params.tracking.experiment)
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return client, {run.info.run_name: run for run in runs}, experiment


def points(client, run, key):
    return [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run.info.run_id, key)]


def wait_until(condition, seconds=30.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def quick(chosen):
    """Parameters with which a stage does not wait for its sender: the tests send by themselves."""
    return chosen(drain_seconds=0.0)


def test_a_stage_with_children_arrives_whole(project, quick, capfd):
    (project / "data").mkdir()
    (project / "data" / "in").write_text("in")
    (project / "made").mkdir()
    source, made = (project / "data" / "in").relative_to(project), (project / "made").relative_to(project)
    before = time.time_ns() // 1_000_000
    with open_run("search", quick, [source], [made], name="whole") as run:
        for step in range(1, 2501):  # more than two batches
            run.log_metrics({"train/loss": 1 / step, "lr": 0.1}, step)
        run.log_metrics({"odd": math.nan}, 1)
        run.log_metrics({"odd": math.inf}, 2)
        run.log_measurements({"images_per_second": 5.0}, 1)
        run.set_tags({"note": "first"})
        run.set_tags({"note": "second", "long": "x" * 9000})
        (project / "made" / "out").write_text("out")
        run.log_artifact(project / "made", "folder")
        run.log_artifact(project / "made" / "out")
        (project / "made" / "out").write_text("changed after it was logged")
        for number in range(2):
            tried = quick.overlaid({"optimizer": {"lr": 0.25 + number}})
            with run.as_parent.child("trial", f"trial-{number}", tried, {"retrace.trial": str(number)}) as child:
                child.log_metrics({"val/loss": number}, 1)
    after = time.time_ns() // 1_000_000
    assert "retrace sync" in capfd.readouterr().err
    summary = sync(quick)
    assert (len(summary.sent), summary.left, summary.refused) == (3, [], []), summary

    client, runs, experiment = everything(quick)
    assert set(runs) == {"whole", "trial-0", "trial-1"}
    whole = runs["whole"]
    assert whole.info.status == "FINISHED"
    assert before <= whole.info.start_time <= whole.info.end_time <= after
    found = points(client, whole, "train/loss")
    assert Counter(found) == Counter(set(found))
    assert sorted((step, value) for step, value, _ in found) == [(step, 1 / step) for step in range(1, 2501)]
    assert all(before <= timestamp <= after for _, _, timestamp in found)
    odd = {step: value for step, value, _ in points(client, whole, "odd")}
    assert math.isnan(odd[1])
    assert odd[2] > 1e308  # MLflow has no infinity
    assert whole.data.metrics["measured/images_per_second"] == 5.0

    tags = whole.data.tags
    assert (tags["retrace.stage"], tags["note"], len(tags["long"])) == ("search", "second", 8000)
    assert tags["retrace.dep.data/in"] == "13b5bfe96f3e2fe411c9f66f4a582adf"
    assert tags["retrace.out.made"].endswith(".dir")
    assert tags["mlflow.source.name"] == "python -m pipeline.search"
    (dataset,) = whole.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("data/in", "13b5bfe96f3e2fe411c9f66f4a582adf")
    assert whole.data.params["optimizer.lr"] == "0.1"

    artifacts = project / "mlartifacts" / whole.info.run_id / "artifacts"
    assert experiment.artifact_location == (project / "mlartifacts").as_uri()
    assert (artifacts / "folder" / "made" / "out").read_text() == "out"
    assert (artifacts / "out").read_text() == "out"
    assert not (runs_folder() / tags["retrace.key"] / "artifacts").exists()  # one copy is enough

    for number in range(2):
        child = runs[f"trial-{number}"]
        assert child.data.tags["mlflow.parentRunId"] == whole.info.run_id
        assert (child.data.tags["retrace.stage"], child.data.tags["retrace.trial"]) == ("trial", str(number))
        assert child.data.params["optimizer.lr"] == str(0.25 + number)
        assert child.info.status == "FINISHED"
    assert sync(quick).sent == []

    # What was sent, but not noted as sent, is sent again and changes nothing
    for folder in runs_folder().iterdir():
        (folder / SENT).unlink()
    assert len(sync(quick).sent) == 3
    client, again, _ = everything(quick)
    assert {name: run.info.run_id for name, run in again.items()} == {n: r.info.run_id for n, r in runs.items()}
    assert Counter(points(client, again["whole"], "train/loss")) == Counter(found)
    assert len(again["whole"].inputs.dataset_inputs) == 1


def test_how_runs_end(project, quick):
    class Strange(Exception):
        pass

    def interrupted():
        with open_run("train", quick, [], name="interrupted") as run, run.as_parent.child("fold", "fold", quick):
            raise KeyboardInterrupt

    def failed():
        with open_run("evaluate", quick, [], name="failed"):
            raise Strange("what went wrong")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(Strange):
        failed()
    with pytest.raises(Mistake, match="data/nothing: not found"), open_run("train", quick, [project / "data/nothing"]):
        pass
    assert len(sync(quick).sent) == 3
    with open_run("augment", quick, [], name="living"):  # a train would go on with the interrupted one
        wait_until(lambda: "living" in everything(quick)[1])
        _, runs, _ = everything(quick)
        assert {name: run.info.status for name, run in runs.items()} == {
            "interrupted": "KILLED", "fold": "KILLED", "failed": "FAILED", "living": "RUNNING",
        }  # fmt: skip
    assert runs["failed"].data.tags["retrace.error"] == "Strange: what went wrong"


def test_a_run_that_was_sent_between_its_last_record_and_its_writers_end_keeps_its_status(project, quick):
    with open_run("train", quick, [], name="run") as run:
        pass
    assert len(sync(quick).sent) == 1
    (runs_folder() / run.key / SENT).unlink()
    writer = spool.Writer(runs_folder() / run.key)  # its process still holds the lock
    for _ in range(2):
        sync(quick)
    writer.close()
    sync(quick)
    assert everything(quick)[1]["run"].info.status == "FINISHED"


STAGE = """
import os, signal, sys, time
from pathlib import Path
from pipeline import params
from pipeline.tracking import open_run

def work(run):
    for step in range(1, 31):
        run.log_metrics({"train/loss": float(step)}, step)
    with run.as_parent.child("trial", "trial", chosen) as child:
        child.log_metrics({"val/loss": 0.5}, 1)
        if "kill" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
        if "wait" in sys.argv:
            print("waiting", flush=True)
            time.sleep(60)

chosen = params.load()
with open_run("search", chosen, [], name="stage") as run:
    work(run)
heavy = {"mlflow", "torch", "pandas", "pytorch_lightning"} & set(sys.modules)
assert not heavy, heavy
"""


def stage(project, environment, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, *arguments], cwd=project, env=environment, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def sender_of(process):
    """The sender that a stage started."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listing.splitlines()]
    return next((pid for pid, parent, words in rows if parent == str(process.pid) and "tracking.sender" in words), None)


def test_a_stage_and_its_sender(project, chosen, environment):
    process = stage(project, environment)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    client, runs, _ = everything(chosen())
    assert {name: run.info.status for name, run in runs.items()} == {"stage": "FINISHED", "trial": "FINISHED"}
    assert len(points(client, runs["stage"], "train/loss")) == 30
    assert (project / ".retrace" / "sender.log").read_text() == ""


def test_a_stage_brings_what_an_earlier_one_had_to_leave(project, chosen, quick, environment):
    with open_run("train", quick, [], name="left"):
        pass
    assert stage(project, environment).wait(timeout=60) == 0
    _, runs, _ = everything(chosen())
    assert {name: run.info.status for name, run in runs.items()} == {
        "left": "FINISHED", "stage": "FINISHED", "trial": "FINISHED",
    }  # fmt: skip


def test_a_killed_stage_is_sent_and_marked_by_its_sender_which_then_ends(project, chosen, environment):
    process = stage(project, environment, "wait")
    assert process.stdout.readline() == "waiting\n"
    sender = sender_of(process)
    assert sender
    process.kill()
    process.communicate()
    wait_until(lambda: subprocess.run(["ps", "-p", sender], capture_output=True).returncode != 0)
    client, runs, _ = everything(chosen())
    assert {name: run.info.status for name, run in runs.items()} == {"stage": "KILLED", "trial": "KILLED"}
    assert len(points(client, runs["stage"], "train/loss")) == 30


def test_a_stage_killed_with_its_sender_is_marked_by_the_next_stage(project, chosen, environment):
    process = stage(project, environment, "wait")
    assert process.stdout.readline() == "waiting\n"
    wait_until(lambda: len(everything(chosen())[1]) == 2)
    os.kill(int(sender_of(process)), signal.SIGKILL)
    process.kill()
    process.communicate()
    _, runs, _ = everything(chosen())
    assert {run.info.status for run in runs.values()} == {"RUNNING"}
    with open_run("train", chosen(), [], name="next"):
        pass
    _, runs, _ = everything(chosen())
    assert {name: run.info.status for name, run in runs.items()} == {
        "stage": "KILLED", "trial": "KILLED", "next": "FINISHED",
    }  # fmt: skip


def test_an_interrupted_stage_is_sent_as_killed(project, chosen, environment):
    process = stage(project, environment, "wait")
    assert process.stdout.readline() == "waiting\n"
    sender = sender_of(process)
    process.send_signal(2)
    process.communicate(timeout=40)  # it waits three seconds for its sender; a busy machine adds some
    wait_until(lambda: subprocess.run(["ps", "-p", sender], capture_output=True).returncode != 0)
    _, runs, _ = everything(chosen())
    assert {name: run.info.status for name, run in runs.items()} == {"stage": "KILLED", "trial": "KILLED"}


def test_nobody_answers_and_later_somebody_does(project, chosen, environment, capfd):
    nobody = chosen(uri="http://user:secret@127.0.0.1:9", drain_seconds=20.0)  # the discard port: refused
    began = time.monotonic()
    with open_run("train", nobody, [], name="alone") as run:
        run.log_metrics({"a": 1.0}, 1)
    assert time.monotonic() - began < 15
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "127.0.0.1:9 has not taken everything" in said
    written = [file.read_text() for file in (project / ".retrace").rglob("*") if file.is_file()]
    assert "secret" not in said + "".join(written)  # the parameter tracking.uri is in the spool, and then in MLflow
    assert "Traceback" not in said
    somebody = chosen()
    assert len(sync(somebody).sent) == 1
    client, runs, _ = everything(somebody)
    assert len(points(client, runs["alone"], "a")) == 1
    assert runs["alone"].info.status == "FINISHED"


def test_a_refusal_is_said_once_and_does_not_stop_the_others(project, quick):
    with open_run("train", quick, [], name="good"):
        pass
    with open_run("train", quick, [], name="bad") as run:
        run.set_tags({"": "a tag without a name is refused"})
    summary = sync(quick)
    assert (len(summary.sent), len(summary.refused), len(summary.reasons)) == (1, 1, 1), summary


@pytest.mark.parametrize("content", [b"", b'{"type":"start","stage":"tr'])
def test_a_run_that_died_before_its_start_was_written_is_nothing_to_send(project, quick, content):
    folder = runs_folder() / "torn"
    folder.mkdir(parents=True)
    (folder / spool.EVENTS).write_bytes(content)
    summary = sync(quick)
    assert (summary.sent, summary.left, summary.refused) == ([], [], [])


def test_several_senders_and_no_database(project, quick, environment):
    """Three processes start without a database and on the same runs; each run and point is there once."""
    (project / "mlflow.db").unlink()
    for number in range(2):
        with open_run("train", quick, [], name=f"run-{number}") as run:
            for step in range(20):
                run.log_metrics({"a": step}, step)
    code = "from pipeline import params; from pipeline.tracking import sync; print(sync(params.load()))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=project, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    assert all("refused=[]" in answer for answer in answers)
    assert sync(quick).left == []
    client, runs, experiment = everything(quick)
    assert len(client.search_runs([experiment.experiment_id])) == 2
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert Counter(step for step, _, _ in points(client, run, "a")) == Counter(range(20))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:secret@host:1/x", "http://***@host:1/x"),
        ("postgresql://user:p@ss/w:ord@host/db", "postgresql://***@host/db"),
        ("https://token@host", "https://***@host"),
        (
            "postgresql://host/db?user=u&password=secret&sslmode=off",
            "postgresql://host/db?user=u&password=***&sslmode=off",
        ),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_addresses_are_shown_without_their_secrets(text, shown):
    assert redacted(f"before {text} after") == f"before {shown} after"


def test_addresses(project, chosen, monkeypatch):
    root = project.resolve()
    artifacts = root / "mlartifacts"
    assert resolve_tracking(chosen()) == (f"sqlite:///{root}/mlflow.db", artifacts)
    assert resolve_tracking(chosen(uri="sqlite:///other/x.db")) == (f"sqlite:///{root}/other/x.db", artifacts)
    assert resolve_tracking(chosen(uri="sqlite:////abs/x.db")) == ("sqlite:////abs/x.db", artifacts)
    assert resolve_tracking(chosen(uri="file:./runs")) == (f"file://{root}/runs", artifacts)
    assert resolve_tracking(chosen(uri="runs")) == (f"file://{root}/runs", artifacts)
    assert resolve_tracking(chosen(uri="http://h:1")) == ("http://h:1", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://wins:1")
    assert resolve_tracking(chosen(uri="http://h:1")) == ("http://wins:1", None)
    monkeypatch.setenv("DVC_ROOT", str(root / "parent"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert resolve_tracking(chosen())[0] == f"sqlite:///{root}/parent/mlflow.db"
