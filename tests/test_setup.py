"""The first minutes of a user, for real: `make repro` in a fresh clone, twice, and the pages."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import make_clone

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A clone, at a path with a space, in which `make repro` has run; and what it printed."""
    project = tmp_path_factory.mktemp("setup") / "a clone"
    make_clone(project)
    return project, make(project, "repro")


def make(project: Path, target: str) -> str:
    outside = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS")
    }
    finished = subprocess.run(
        ["make", target], cwd=project, env=outside, capture_output=True, text=True, timeout=1500, check=False
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished.stdout


def test_make_repro_ends_with_the_table(installed):
    project, said = installed
    for part in ("accuracy", "optimizer.lr", f"{project}/artifacts/evaluation/report.html", "make ui"):
        assert part in said
    accuracy = float(next(line for line in said.splitlines() if line.startswith("accuracy")).split()[-1])
    assert accuracy >= 0.98


def test_a_second_make_repro_installs_and_runs_nothing(installed):
    said = make(installed[0], "repro")
    assert "installing" not in said
    assert said.count("didn't change, skipping") == 5


def test_make_ui_serves_the_runs_on_this_machine_alone(installed):
    project, _ = installed
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [project / ".venv/bin/retrace", "ui", "--port", str(port)]
    server = subprocess.Popen(command, cwd=project, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                    assert page.status == 200
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.5)
        with open("/proc/net/tcp") as table:
            listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
        assert [address for address in listening if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
