"""A real `mlflow server` on this machine's own address."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from pipeline.tracking import open_run, sync


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def server(folder, port):
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/kept"]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, *stores], cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
    try:
        limit = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < limit, (folder / "server.log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it dies, workers included
        process.wait()


@pytest.mark.long
def test_a_server_that_dies_in_the_middle_and_comes_back(project, chosen, tmp_path_factory, capfd):
    from mlflow import MlflowClient

    folder, port = tmp_path_factory.mktemp("server"), free_port()
    there = chosen(uri=f"http://127.0.0.1:{port}", drain_seconds=30.0)
    with server(folder, port) as address, open_run("prepare", there, [], name="run") as run:
        (project / "note.txt").write_text("note")
        run.log_artifact(project / "note.txt")
        for step in range(100):
            run.log_metrics({"a": step}, step)
        client = MlflowClient(address)
        limit = time.monotonic() + 60
        while not points(client):
            assert time.monotonic() < limit
            time.sleep(0.2)
    assert capfd.readouterr().err == ""
    with open_run("prepare", there, [], name="alone") as run:  # nobody is there
        for step in range(100):
            run.log_metrics({"a": step}, step)
    assert "retrace sync" in capfd.readouterr().err
    with server(folder, port) as address:
        summary = sync(there)
        assert (len(summary.sent), summary.left, summary.refused) == (1, [], [])
        client = MlflowClient(address)
        found = points(client)
        assert {name: (status, steps) for name, (status, steps) in found.items()} == {
            "run": ("FINISHED", list(range(100))),
            "alone": ("FINISHED", list(range(100))),
        }
    assert [path.read_text() for path in folder.rglob("note.txt")] == ["note"]


def points(client):
    """Name to status and sorted steps, of every run on the server."""
    experiment = client.get_experiment_by_name("retrace")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return {
        run.info.run_name: (
            run.info.status,
            sorted(point.step for point in client.get_metric_history(run.info.run_id, "a")),
        )
        for run in runs
    }
