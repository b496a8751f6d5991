"""An HTTP proxy that goes wrong on purpose, and the `mlflow server` that stands behind it in tests and benchmarks."""

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ("none", "down", "hang", "500", "429", "slow", "lost", "cut")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Proxy:
    """Passes requests on to a port of this machine, or does what `fault` says.

    fault: none; down (connections are refused); hang (a request is read and never answered); 500; 429 (with
    `retry_after`); slow (each request waits `seconds`); lost (the server acts, and the connection is closed instead of
    its answer); cut (the connection is closed in the middle of the answer).
    share: of the requests that the fault hits, drawn from `seed`; 1 hits all.
    """

    def __init__(self, upstream: int, seed: int = 0) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.hits: Counter[str] = Counter()
        self.requests: list[tuple[float, str]] = []  # when, and what was asked for
        self.retry_after: str | None = None
        self.seconds = 10.0
        self.in_work = 0  # requests that are being dealt with
        self._counting = threading.Lock()
        self._upstream = upstream
        self._random = random.Random(seed)
        self._fault, self._share, self._matching = "none", 1.0, ""
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._up()

    def set(self, fault: str, share: float = 1.0, matching: str = "") -> None:
        """Go wrong from now on: for this share of the requests, of those whose path contains `matching`."""
        assert fault in FAULTS
        self._released.set()  # who hangs is let go, without an answer
        self._released = threading.Event()
        self._fault, self._share, self._matching = fault, share, matching
        self._down() if fault == "down" else self._up()

    def close(self) -> None:
        self._released.set()
        self._down()

    def _up(self) -> None:
        if self._server is None:
            self._server = _Server(("127.0.0.1", self.port), _Handler)
            self._server.proxy = self
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def handle(self, request: "_Handler") -> None:
        """Do with one request what the fault says."""
        with self._counting:
            self.in_work += 1
        try:
            self._handle(request)
        finally:
            with self._counting:
                self.in_work -= 1

    def _handle(self, request: "_Handler") -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append((time.monotonic(), request.path))
        fault, released = self._fault, self._released
        if fault != "none" and not (self._matching in request.path and self._random.random() < self._share):
            fault = "none"
        self.hits[fault] += 1
        request.close_connection = True
        if fault == "hang":
            released.wait()
            return
        if fault in ("500", "429"):
            request.send_response(int(fault))
            if fault == "429" and self.retry_after is not None:
                request.send_header("Retry-After", self.retry_after)
            request.send_header("Content-Length", "0")
            request.send_header("Connection", "close")
            request.end_headers()
            return
        if fault == "slow":
            released.wait(self.seconds)
        status, headers, content = self._ask(request, body)
        if fault == "lost":
            return
        request.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

    def _ask(self, request: "_Handler", body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=60)
        try:
            headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
            upstream.request(request.command, request.path, body or None, headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        except OSError:  # the server behind is dead
            return 502, [], b""
        finally:
            upstream.close()


class _Server(ThreadingHTTPServer):
    proxy: Proxy
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up waiting is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_any(self) -> None:
        self.server.proxy.handle(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the tests look at what arrives."""


class Server:
    """A real `mlflow server` that can be killed and started again on the same port and stores."""

    def __init__(self, folder: Path, backend: str | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._backend = backend or f"sqlite:///{folder}/server.db"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        stores = ["--backend-store-uri", self._backend, "--artifacts-destination", f"{self.folder}/kept"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--workers", "1", *stores], cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            )  # fmt: skip
        limit = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=2).close()
                return
            except OSError:
                assert time.monotonic() < limit, (self.folder / "server.log").read_text()
                time.sleep(0.2)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # workers included
            self._process.wait()
            self._process = None


@contextmanager
def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


def main() -> None:
    """A proxy as a process of its own: `proxy.py PORT` prints its address and obeys lines such as `hang 1.0`."""
    proxy = Proxy(int(sys.argv[1]))
    print(proxy.address, flush=True)
    for line in sys.stdin:
        fault, share = line.split()
        proxy.set(fault, float(share))
        print("set", flush=True)
    proxy.close()


if __name__ == "__main__":
    main()
