"""docs/tracking-server.md, command by command, and a stage and a training tracked by that server."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from pipeline.tracking import sync
from tests.pipeline.tracking.conftest import REPOSITORY
from tests.pipeline.tracking.proxy import Proxy, free_port
from tests.pipeline.tracking.test_faults import STAGE, compare, points_of_spools, train

pytestmark = pytest.mark.long


def programs() -> Path | None:
    """Where PostgreSQL's programs are, if it is installed; the newest of several."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return installed[-1].parent if installed else None


def ordinary_user() -> list[str]:
    """What makes a command run as somebody else than root."""
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []


@pytest.fixture(scope="module")
def server():
    """The address of a server that was set up as the page says."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (no initdb on PATH or in /usr/lib/postgresql/*/bin)")
    pytest.importorskip(
        "psycopg2", reason="the driver is not installed: pip install -c constraints.txt '.[postgresql]'"
    )
    page = (REPOSITORY / "docs" / "tracking-server.md").read_text()
    database_port, server_port = free_port(), free_port()
    page = page.replace("5433", str(database_port)).replace("5000", str(server_port))
    database, serving, using = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    place = Path(tempfile.mkdtemp(prefix="retrace-postgresql-"))
    environment = {
        **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PATH": os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]),
    }  # fmt: skip
    if ordinary_user():
        shutil.chown(place, "nobody", "nogroup")
    stop = [*ordinary_user(), folder / "pg_ctl", "--pgdata=tracking/postgresql", "--mode=immediate", "stop"]
    process = None
    try:
        made = subprocess.run(
            [*ordinary_user(), "bash", "-euc", database], cwd=place, env=environment, capture_output=True, text=True
        )
        assert made.returncode == 0, made.stdout + made.stderr
        process = subprocess.Popen(["bash", "-euc", serving], cwd=place, env=environment, start_new_session=True)
        address = re.search(r"MLFLOW_TRACKING_URI=(\S+)", using).group(1)
        limit = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < limit
                time.sleep(0.3)
        yield address
    finally:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if (place / "tracking" / "postgresql" / "postmaster.pid").exists():
            subprocess.run(stop, cwd=place, check=True, capture_output=True)
        shutil.rmtree(place)


def test_the_database_is_for_its_user_alone(server):
    import psycopg2

    port = int(re.search(r":(\d+)$", server).group(1))
    assert port
    with open("/proc/net/tcp") as table:
        listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
    assert [address for address in listening if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
    (pgpass,) = Path(tempfile.gettempdir()).glob("retrace-postgresql-*/tracking/pgpass")
    database_port = pgpass.read_text().split(":")[1]
    assert pgpass.stat().st_mode & 0o077 == 0
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(host="127.0.0.1", port=database_port, user="mlflow", dbname="mlflow", password="wrong")


def test_a_stage_arrives_whole_though_replies_are_lost(server, project, chosen, environment):
    proxy = Proxy(int(server.rpartition(":")[2]))
    try:
        proxy.set("lost", share=0.3)
        text = (project / "params.yaml").read_text().replace("drain_seconds: 60.0", "drain_seconds: 10.0")
        (project / "params.yaml").write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", STAGE, "1000", "0.003"], cwd=project, capture_output=True, text=True, timeout=100,
            env={**environment, "MLFLOW_TRACKING_URI": proxy.address},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for _ in range(3):
            sync(chosen(uri=proxy.address))
        assert proxy.hits["lost"]
    finally:
        proxy.close()
    assert sync(chosen(uri=server)).refused == []
    # the spool's own destination is the proxy's address: what the direct sync sent again is there once
    logged, found = compare(chosen(uri=server), 1000)
    print(f"\nPostgreSQL, lost replies: {logged} points logged, {found} found; {proxy.hits['lost']} requests hit")
    assert logged == found


def test_a_training_arrives_whole_with_its_model(server, digits, environment, monkeypatch):
    from mlflow import MlflowClient

    text = (digits / "params.yaml").read_text().replace("drain_seconds: 0.0", "drain_seconds: 60.0")
    (digits / "params.yaml").write_text(text.replace("experiment: retrace", "experiment: digits"))
    train(digits, environment, server, "digits")
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    logged, sent = points_of_spools(client, [run])
    assert Counter(logged) == Counter(sent)
    assert len(set(logged)) == len(logged) > 30
    assert "learning_curves.png" in {entry.path for entry in client.list_artifacts(run.info.run_id)}
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert (model.source_run_id, str(model.status)) == (run.info.run_id, "READY")
