"""`retrace ui`: MLflow's own pages over this project's runs, on this machine only."""

import os
import socket
import sys

from pipeline import params
from pipeline.errors import Mistake
from pipeline.tracking.destination import ENVIRONMENT, destination

HOST = "127.0.0.1"


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
    command = [sys.executable, *server_arguments(port)]
    print(f"http://{HOST}:{port} (experiment {target.experiment}); Ctrl-C ends it", flush=True)
    # the signals of the terminal reach it directly
    os.execve(sys.executable, command, {**os.environ, **server_environment(target.uri, target.artifact_root)})


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
