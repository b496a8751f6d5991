"""`retrace ui`: MLflow's own pages over this project's runs, on this machine only."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType

from pipeline import params
from pipeline.errors import Mistake
from pipeline.tracking.destination import ENVIRONMENT, destination

HOST = "127.0.0.1"
_PATIENCE_SECONDS = 5.0  # for answers under way when the server is told to end


def ui(port: int) -> int:
    """Serve until interrupted; of a remote server, say the address. Raises Mistake where the port is taken."""
    target = destination(params.load())
    if target.artifact_root is None:
        print(f"the runs are on a server: open {target.shown} in a browser, experiment {target.experiment}")
        return 0
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Mistake(f"port {port}: {error.strerror}; choose another: retrace ui --port {port + 1}") from None
    print(f"http://{HOST}:{port} (experiment {target.experiment}); Ctrl-C ends it", flush=True)
    environment = {**os.environ, **server_environment(target.uri, target.artifact_root)}
    return _serve([sys.executable, *server_arguments(port)], environment)


def _serve(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the server; its exit status, or 0 when Ctrl-C, SIGTERM or the closing of the terminal ended it.

    It has a process group of its own, so that Ctrl-C reaches this process alone: MLflow answers it with a traceback.
    """
    told_to_end = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal told_to_end  # raises nothing: amid the start of the server that would leave it running alone
        told_to_end = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # under nohup a hang-up stays ignored
            signal.signal(number, end)
    server = subprocess.Popen(command, env=environment, process_group=0)
    while (status := server.poll()) is None and not told_to_end:
        time.sleep(0.1)
    if status is None:
        _end(server)
        return 0
    return status if status >= 0 else 128 - status


def _end(server: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the server and all that it has started; SIGKILL to what is left after some seconds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with suppress(ProcessLookupError, PermissionError):  # none of the group is left
        os.killpg(server.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            server.poll()
            os.killpg(server.pid, 0)
            time.sleep(0.05)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def server_arguments(port: int) -> list[str]:
    """The server's command line: one worker is enough for one person."""
    return ["-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]


def server_environment(uri: str, artifact_root: str) -> dict[str, str]:
    """Where the runs are: not on the command line, which every user of a machine can read, passwords included."""
    return {
        **ENVIRONMENT,
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifact_root,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its language-model features: five idle processes here
    }
