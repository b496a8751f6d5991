"""Servers that fail in every way while a stage runs: it neither stops nor loses nor doubles a point.

Each case prints what was logged and what MLflow holds in the end (`pytest -m long -s`).
"""

import hashlib
import itertools
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.tracking import open_run, spool, sync
from pipeline.tracking.courier import LONGEST_RETRY_AFTER_SECONDS, Courier, Unanswered, is_lasting
from pipeline.tracking.destination import destination
from pipeline.tracking.run import runs_folder
from tests.pipeline.tracking.proxy import Proxy, Server, running
from tests.pipeline.tracking.test_delivery import wait_until
from tests.pipeline.tracking.test_resume import opened

STEPS = 1200
STAGE = """
import math, sys, time
from pathlib import Path
from pipeline import params, stage
from pipeline.tracking import open_run

STEPS, PAUSE = int(sys.argv[1]), float(sys.argv[2])

def work(chosen):
    with open_run("train", chosen, [], name="stage") as run:
        print("begun", flush=True)
        started = time.perf_counter()
        for step in range(STEPS):
            odd = math.nan if step % 2 else step / 3
            run.log_metrics({"train/loss": 1 / (step + 1), "lr": 0.1 * step, "odd": odd}, step)
            time.sleep(PAUSE)
        print(time.perf_counter() - started)
        run.log_artifact(Path("params.yaml"))
        with run.as_parent.child("trial", "trial", chosen) as child:
            child.log_metrics({"val/loss": 0.5}, 1)

sys.exit(stage.main(work))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(Server(tmp_path_factory.mktemp("server"))) as started:
        yield started


@pytest.fixture
def proxy(server):
    opened = Proxy(server.port)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Case:
    """What goes wrong, when, and how often.

    kill: the server dies for real, and is started again before the sync.
    timeout: how long the client waits for an answer, in seconds; slow requests take `seconds`.
    """

    name: str
    fault: str
    from_start: bool = False
    share: float = 1.0
    matching: str = ""
    retry_after: str | None = None
    kill: bool = False
    timeout: int = 15
    seconds: float = 10.0


CASES = [
    Case("down at the start", "down", from_start=True),
    Case("killed in the middle", "none", kill=True),
    Case("hanging", "hang"),
    Case("500, two of three", "500", share=0.67),
    Case("429", "429", retry_after="2"),
    Case("slow by 10 s a call", "slow", from_start=True),
    Case("runs made after the client gave up", "slow", from_start=True, matching="runs/create", timeout=2, seconds=5.0),
    Case("lost replies, every second", "lost", from_start=True, share=0.5),
    Case("lost replies of runs/create", "lost", from_start=True, matching="runs/create"),
    Case("cut answers, every second", "cut", from_start=True, share=0.5),
]


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_loses_and_doubles_nothing(case, project, chosen, environment, server, proxy):
    experiment = case.name.replace(" ", "-")
    text = (project / "params.yaml").read_text()
    text = text.replace("experiment: retrace", f"experiment: {experiment!r}")
    (project / "params.yaml").write_text(text.replace("drain_seconds: 60.0", "drain_seconds: 5.0"))
    proxy.retry_after, proxy.seconds = case.retry_after, case.seconds
    if case.from_start:
        proxy.set(case.fault, case.share, case.matching)
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE, str(STEPS), "0.005"], cwd=project, text=True,
        env={**environment, "MLFLOW_TRACKING_URI": proxy.address, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(case.timeout)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    if not case.from_start:
        wait_until(lambda: any("log-batch" in path for _, path in proxy.requests))
        proxy.set(case.fault, case.share, case.matching)
        if case.kill:
            server.kill()
    looped, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert said == "" or (said.count("\n") == 1 and "retrace sync" in said), said
    direct = chosen(uri=server.address, experiment=experiment)
    there = chosen(uri=proxy.address, experiment=experiment)
    for _ in range(2 if case.share < 1 else 0):
        sync(there)  # gets on while the fault lasts
    hits = proxy.hits[case.fault]
    assert hits or case.kill or case.fault == "down", "the fault was never met"
    proxy.set("none")
    wait_until(lambda: proxy.in_work == 0)
    if case.kill:
        server.start()
    summary = sync(there)
    assert (summary.left, summary.refused) == ([], []), summary
    logged, found = compare(direct, STEPS)
    print(
        f"\n{case.name}: {logged} points logged, {found} found; {hits} requests hit;"
        f" the loop took {float(looped):.2f} s; at the end of the stage {'all sent' if not said else 'some left'}"
    )


def compare(params, steps):
    """Check what MLflow holds against what the stage logged, and against its spool; the numbers of points."""
    from mlflow import MlflowClient

    client = MlflowClient(params.tracking.uri)
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    runs = client.search_runs([experiment.experiment_id])
    assert Counter((run.info.run_name, run.info.status) for run in runs) == {
        ("stage", "FINISHED"): 1, ("trial", "FINISHED"): 1,
    }  # fmt: skip
    by_name = {run.info.run_name: run for run in runs}
    stage, trial = by_name["stage"], by_name["trial"]
    assert trial.data.tags["mlflow.parentRunId"] == stage.info.run_id
    expected = {
        "train/loss": {step: 1 / (step + 1) for step in range(steps)},
        "lr": {step: 0.1 * step for step in range(steps)},
        "odd": {step: math.nan if step % 2 else step / 3 for step in range(steps)},
    }
    for name, values in expected.items():
        history = client.get_metric_history(stage.info.run_id, name)
        assert Counter(point.step for point in history) == Counter(range(steps)), name
        assert all(repr(point.value) == repr(values[point.step]) for point in history), name
    assert [point.value for point in client.get_metric_history(trial.info.run_id, "val/loss")] == [0.5]
    assert "params.yaml" in [entry.path for entry in client.list_artifacts(stage.info.run_id)]
    logged, sent = points_of_spools(client, runs)
    assert Counter(logged) == Counter(sent)  # the times included
    return len(logged), len(sent)


def points_of_spools(client, runs):
    """Every point (run, name, step, value, time) as the spools have it, and as MLflow does."""
    logged, sent = [], []
    for run in runs:
        key = run.data.tags["retrace.key"]
        names = set()
        for record in spool.read(runs_folder() / key):
            if record.content["type"] == "metrics":
                step, moment = record.content["step"], record.content["time"]
                for name, value in record.content["values"].items():
                    names.add(name)
                    logged.append((key, name, step, repr(value), moment))
        for name in names:
            for point in client.get_metric_history(run.info.run_id, name):
                sent.append((key, name, point.step, repr(point.value), point.timestamp))
    return logged, sent


# --- the real stage ---------------------------------------------------------------------------------------------------


def train(folder, environment, uri, experiment):
    """`python -m pipeline.train` with this tracking; the SHA-256 of the weights."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.train"], cwd=folder, capture_output=True, text=True, timeout=200,
        env={**environment, "MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return hashlib.sha256((folder / "artifacts" / "model" / "weights.safetensors").read_bytes()).hexdigest()


@pytest.mark.long
def test_training_under_changing_faults_makes_the_same_weights_and_the_whole_history(
    digits, chosen, environment, server, proxy, monkeypatch, tmp_path
):
    (digits / "params.yaml").write_text(
        (digits / "params.yaml")
        .read_text()
        .replace("log_every_steps: 10", "log_every_steps: 1")
        .replace("experiment: retrace", "experiment: digits")
        .replace("drain_seconds: 0.0", "drain_seconds: 3.0")
    )
    undisturbed = train(digits, environment, f"sqlite:///{tmp_path}/undisturbed.db", "digits")
    shutil.rmtree(digits / ".retrace")
    ended = threading.Event()

    def make_trouble():
        while True:
            for fault, share in (
                ("lost", 0.5),
                ("hang", 0.5),
                ("500", 0.5),
                ("cut", 0.5),
                ("none", 1.0),
                ("down", 1.0),
            ):
                proxy.set(fault, share)
                if ended.wait(1.0):
                    return

    trouble = threading.Thread(target=make_trouble)
    trouble.start()
    try:
        assert train(digits, environment, proxy.address, "digits") == undisturbed
    finally:
        ended.set()
        trouble.join()
    proxy.set("none")
    monkeypatch.chdir(digits)
    summary = sync(chosen(uri=proxy.address, experiment="digits"))
    assert (summary.left, summary.refused) == ([], []), summary
    from mlflow import MlflowClient

    client = MlflowClient(server.address)
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert "retrace.model_error" not in run.data.tags
    logged, sent = points_of_spools(client, [run])
    assert Counter(logged) == Counter(sent)
    assert len(set(logged)) == len(logged) > 150
    ready = [m for m in client.search_logged_models([experiment.experiment_id]) if str(m.status) == "READY"]
    assert [model.source_run_id for model in ready] == [run.info.run_id]
    print(f"\npython -m pipeline.train: {len(logged)} points logged, {len(sent)} found; hits {dict(proxy.hits)}")


# --- what a server asks for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "understood"),
    [("3", 3.0), ("100000", LONGEST_RETRY_AFTER_SECONDS), ("Fri, 31 Dec 2100 23:59:59 GMT", 60.0), ("soon", None)],
)
def test_what_a_busy_server_asks_for_is_heard_within_bounds(project, chosen, asked, understood):
    with open_run("train", chosen(drain_seconds=0.0), []):
        pass
    proxy = Proxy(upstream=9)
    try:
        proxy.set("429")
        proxy.retry_after = asked
        courier = Courier(destination(chosen(uri=proxy.address)), print)
        with pytest.raises(Unanswered) as caught:
            courier.send(spool.spools(runs_folder()))
        assert (caught.value.retry_after, caught.value.is_reachable) == (understood, False)
        proxy.set("500")
        with pytest.raises(Unanswered) as caught:
            courier.send(spool.spools(runs_folder()))
        assert (caught.value.retry_after, caught.value.is_reachable) == (None, True)
        proxy.set("down")
        with pytest.raises(Unanswered) as caught:
            courier.send(spool.spools(runs_folder()))
        assert not caught.value.is_reachable
        assert courier.refused == {}
    finally:
        proxy.close()


def test_a_busy_server_is_asked_again_when_it_said_and_not_before(project, chosen, environment):
    """Through the sender: it waits at the stage's end too, though three attempts in vain end it else."""
    proxy = Proxy(upstream=9)
    try:
        proxy.set("429")
        proxy.retry_after = "2"
        with open_run("train", chosen(uri=proxy.address, drain_seconds=12.0), []):
            pass
        moments = [moment for moment, _ in proxy.requests]
        assert len(moments) >= 4  # of 12 seconds; the sender needs some for its start
        assert all(later - earlier >= 2.0 for earlier, later in itertools.pairwise(moments))
    finally:
        proxy.close()


@pytest.mark.parametrize(("status", "lasting"), [(400, True), (403, True), (413, True), (408, False), (503, False)])
def test_what_is_refused_is_not_sent_again_and_what_fails_is(status, lasting):
    """Of an artefact store, whose refusals are not MLflow's own errors."""
    from requests import HTTPError, Response

    answer = Response()
    answer.status_code = status
    assert is_lasting(HTTPError("said", response=answer)) == lasting


def test_batches_have_at_most_a_thousand_metrics(project, chosen, monkeypatch):
    from mlflow import MlflowClient

    sizes, real = [], MlflowClient.log_batch

    def noted(self, run_id, metrics=(), params=(), tags=(), **more):
        sizes.append((len(metrics), len(params), len(tags)))
        return real(self, run_id, metrics=metrics, params=params, tags=tags, **more)

    quick = chosen(drain_seconds=0.0)
    with open_run("train", quick, []) as run:
        run.log_metrics({f"wide/{number}": number for number in range(2300)}, 1)
        for step in range(900):
            run.log_metrics({"a": step, "b": step, "c": step}, step)
        run.set_tags({f"tag{number}": "x" for number in range(250)})
    monkeypatch.setattr(MlflowClient, "log_batch", noted)
    sync(quick)
    measured = 2  # duration and memory
    assert sum(metrics for metrics, _, _ in sizes) == 2300 + 2700 + measured
    assert max(metrics for metrics, _, _ in sizes) <= 1000
    assert max(params for _, params, _ in sizes) <= 100
    assert max(tags for _, _, tags in sizes) <= 100


def test_one_run_that_a_server_fails_on_does_not_hold_back_the_others(project, chosen):
    """A server that answers 500 to one run's artefact still gets the later runs."""
    quick = chosen(drain_seconds=0.0)
    with open_run("train", quick, [], name="first") as run:
        (project / "blocked.txt").write_text("x")
        run.log_artifact(project / "blocked.txt")
    with opened(quick, "k" * 32, name="second") as run:  # without lineage, which is artefacts too
        run.log_metrics({"a": 1.0}, 1)
    (project / "mlartifacts").write_text("a file in the way")
    summary = sync(quick)
    assert (len(summary.sent), len(summary.left)) == (1, 1), summary
    (project / "mlartifacts").unlink()
    assert len(sync(quick).sent) == 1


# --- a full disk ------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(megabytes):
    """A file system of its own, of so many megabytes. Skips where that is not permitted."""
    with tempfile.TemporaryDirectory(prefix="retrace-small-") as name:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", name], capture_output=True, text=True
        )
        if mounted.returncode != 0:
            pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def fill(disk, leave):
    """Fill a disk up to `leave` bytes; returns the file to remove."""
    ballast = disk / "ballast"
    state = os.statvfs(disk)
    with ballast.open("wb") as stream:
        stream.write(bytes(max(0, state.f_bavail * state.f_frsize - leave)))
    return ballast


@pytest.mark.long
@pytest.mark.parametrize("leave", [0, 300_000, 1_100_000])
def test_a_full_disk_under_the_database_loses_nothing(project, chosen, environment, leave):
    """Full before the database is made; while its tables are made; while points are written."""
    with small_disk(6) as disk:
        ballast = fill(disk, 0 if leave < 1_000_000 else 3_000_000)
        text = (project / "params.yaml").read_text().replace("drain_seconds: 60.0", "drain_seconds: 4.0")
        (project / "params.yaml").write_text(text)
        uri = f"sqlite:///{disk}/mlflow.db"
        here = chosen(uri=uri)
        if leave >= 1_000_000:  # there is a database, which then has no room to grow
            sync(here)
            with open_run("train", chosen(uri=uri, drain_seconds=0.0), [], name="before"):
                pass
            sync(here)
            ballast.unlink()
            ballast = fill(disk, 20_000)
        else:
            ballast.unlink()
            ballast = fill(disk, leave)
        done = subprocess.run(
            [sys.executable, "-c", STAGE, str(STEPS), "0.004"], cwd=project, capture_output=True, text=True,
            timeout=100, env={**environment, "MLFLOW_TRACKING_URI": uri},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("\n") == 1
        assert "has not taken everything" in done.stderr
        assert "full" in (project / ".retrace" / "sender.log").read_text()
        ballast.unlink()
        shutil.rmtree(runs_folder() / "before", ignore_errors=True)
        summary = sync(here)
        assert (summary.left, summary.refused) == ([], []), summary
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        runs = client.search_runs([client.get_experiment_by_name("retrace").experiment_id], "run_name != 'before'")
        assert Counter((run.info.run_name, run.info.status) for run in runs) == {
            ("stage", "FINISHED"): 1, ("trial", "FINISHED"): 1,
        }  # fmt: skip
        logged, sent = points_of_spools(client, runs)
        assert Counter(logged) == Counter(sent)
        assert len(logged) >= 3 * STEPS + 1
        print(f"\ndisk full, {leave} bytes left: {len(logged)} points logged, {len(sent)} found")


def test_a_database_half_made_by_a_killed_process_is_made_anew(project, chosen):
    quick = chosen(drain_seconds=0.0)
    (project / "mlflow.db").unlink()
    (project / "mlflow.db").touch()
    left = project / "mlflow.db.new-killed"
    left.mkdir()
    (left / "mlflow.db").write_bytes(b"half")
    with open_run("train", quick, []):
        pass
    assert len(sync(quick).sent) == 1
    assert sorted(path.name for path in project.glob("mlflow.db*")) == ["mlflow.db", "mlflow.db.lock"]


def test_time_passes_between_heartbeats(project, chosen, monkeypatch):
    from mlflow import MlflowClient

    from pipeline.tracking import delivery

    beats, real = [], MlflowClient.log_batch

    def noted(self, run_id, metrics=(), params=(), tags=(), **more):
        beats.extend(tag.value for tag in tags if tag.key == "retrace.heartbeat")
        return real(self, run_id, metrics=metrics, params=params, tags=tags, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", noted)
    quick = chosen(drain_seconds=0.0)
    courier = Courier(destination(quick), print)
    with open_run("train", quick, []):
        for _ in range(3):
            courier.send(spool.spools(runs_folder()))
        assert len(beats) == 1
        monkeypatch.setattr(delivery, "HEARTBEAT_SECONDS", 0.0)
        courier.send(spool.spools(runs_folder()))
        assert len(beats) == 2
        assert time.strptime(beats[1], "%Y-%m-%dT%H:%M:%SZ")
    courier.send(spool.spools(runs_folder()))
    assert len(beats) == 2  # the dead have none
