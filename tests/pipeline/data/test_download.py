"""The downloader against servers as they are: with ranges and without, cut, wrong, absent."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.data.raw import download
from pipeline.data.raw.base import Source
from pipeline.data.raw.download import Remote, fetch
from pipeline.data.sources import cifar10, idx
from pipeline.errors import Mistake
from tests.pipeline.data import official

CONTENT = bytes(official.pixels(0, 1_000_000))
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files` by name on this machine alone; its settings are a real server's faults."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"set.bin": CONTENT}
        self.ranges = True
        self.cut_after: list[int] = []  # bytes sent before the connection ends, an answer each
        self.statuses: list[int] = []  # answers without the file, before it is given
        self.asked: list[str | None] = []  # the Range of each request
        self.lying_range = False
        self.says_length = True
        self.stalls_after: int | None = None  # bytes of one answer, which then waits
        self.go_on = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        content = self.server.files.get(self.path.lstrip("/"))
        if self.server.statuses or content is None:
            self.send_error(self.server.statuses.pop(0) if self.server.statuses else 404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            said = 0 if self.server.lying_range else start
            self.send_header("Content-Range", f"bytes {said}-{len(content) - 1}/{len(content)}")
        if self.server.says_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = self.server.cut_after.pop(0) if self.server.cut_after else None
        if (stall := self.server.stalls_after) is not None:
            self.server.stalls_after = None
            self.wfile.write(content[start : start + stall])
            self.server.go_on.wait(20)
            return
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "_WAITS_SECONDS", (0.01, 0.01))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.go_on.set()
        found.shutdown()
        thread.join()


@pytest.fixture
def remote(server: Server) -> Remote:
    return Remote(f"{server.address}/set.bin", MD5)


def left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(Mistake) as caught:
        call()
    return str(caught.value)


def test_fetched_once_with_a_bar(
    server: Server, remote: Remote, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "deep" / "folder"
    assert fetch(remote, folder) == folder / "set.bin"
    assert (folder / "set.bin").read_bytes() == CONTENT
    assert left(folder) == ["set.bin"]
    assert "source: set.bin: 100%" in capsys.readouterr().err
    fetch(remote, folder)
    assert server.asked == [None]


def test_a_file_put_there_by_hand_is_taken(server: Server, remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "set.bin").write_bytes(b"mine")
    assert fetch(remote, tmp_path).read_bytes() == b"mine"
    assert server.asked == []


def test_goes_on_where_it_was_cut(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.cut_after = [300_000, 1, 400_000]
    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=300001-", "bytes=700001-"]


def test_goes_on_after_a_kill(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.stalls_after = 700_000
    code = (
        "import sys; from pathlib import Path; from pipeline.data.raw.download import Remote, fetch\n"
        "fetch(Remote(*sys.argv[1:3]), Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, remote.url, MD5, str(tmp_path)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.DEVNULL)
    part = tmp_path / "set.bin.part"
    until = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size >= 500_000):
        assert time.monotonic() < until, "nothing arrived"
        time.sleep(0.02)
    process.kill()
    process.wait()
    came = part.stat().st_size
    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={came}-"]
    (tmp_path / "set.bin").rename(part)  # killed between the last byte and the rename
    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert left(tmp_path) == ["set.bin"]


def test_a_server_that_falls_silent_is_asked_again(
    server: Server, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT_SECONDS", 0.2)
    server.stalls_after = 700_000
    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_server_without_ranges_sends_all_of_it_again(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [300_000]
    assert fetch(remote, tmp_path).read_bytes() == CONTENT


def test_a_server_that_sends_another_part_is_not_believed(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.lying_range = True
    server.cut_after = [300_000]
    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", None]


def test_a_server_that_says_no_length(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.says_length = False
    assert fetch(remote, tmp_path).read_bytes() == CONTENT


def test_cut_for_good_keeps_what_came_for_the_next_try(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.cut_after = [500_000, 0, 0, 0]
    message = refused(lambda: fetch(remote, tmp_path))
    assert "the connection ended 500000 bytes before the file" in message
    assert left(tmp_path) == ["set.bin.part"]
    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=500000-"


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert fetch(remote, tmp_path / "busy").read_bytes() == CONTENT
    server.asked.clear()
    server.statuses = [403]
    assert "cannot be downloaded: HTTP status 403" in refused(lambda: fetch(remote, tmp_path / "refused"))
    assert len(server.asked) == 1


def test_wrong_bytes_leave_nothing(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT[:-1] + b"x"
    message = refused(lambda: fetch(remote, tmp_path))
    assert message.splitlines() == [
        f"{server.address}/set.bin: cannot be downloaded: its md5 differs from the publisher's: other content",
        f"run again, or fetch it by hand (md5 {MD5}) and put it into {tmp_path}/",
    ]
    assert left(tmp_path) == []


def test_a_part_of_something_else_is_given_up(server: Server, remote: Remote, tmp_path: Path) -> None:
    for wrong in (b"x" * 1000, b"x" * 2_000_000):  # shorter than the file, and longer
        (tmp_path / "set.bin.part").write_bytes(wrong)
        assert fetch(remote, tmp_path).read_bytes() == CONTENT
        (tmp_path / "set.bin").unlink()


def test_two_at_once_fetch_it_once(server: Server, remote: Remote, tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(remote, tmp_path).read_bytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4
    assert server.asked == [None]
    assert left(tmp_path) == ["set.bin"]


def test_offline_says_what_to_fetch_by_hand_and_where_to_put_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(cifar10, "LAYOUT", cifar10.LAYOUT._replace(remote=Remote("http://127.0.0.1:1/c10.tar.gz", MD5)))
    message = refused(lambda: cifar10.Images(None).scan())
    assert message.startswith("http://127.0.0.1:1/c10.tar.gz: cannot be downloaded: [Errno 111]")
    assert message.endswith(f"fetch it by hand (md5 {MD5}) and put it into {tmp_path}/data/raw/cifar10/")


def test_a_source_downloads_what_its_folder_lacks(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    archive = official.cifar10_archive(official.cifar10(each=3)[0])
    server.files = {"cifar-10-binary.tar.gz": archive}
    remote = Remote(f"{server.address}/cifar-10-binary.tar.gz", hashlib.md5(archive).hexdigest())
    monkeypatch.setattr(cifar10, "LAYOUT", cifar10.LAYOUT._replace(remote=remote))
    source: Source = cifar10.Images(None)
    before = source.stamp()
    assert len(source.scan().found) == 18
    assert source.stamp() != before
    assert left(paths.raw("cifar10")) == ["cifar-10-binary.tar.gz"]

    files = {f"{name}.gz": official.packed(official.idx(values)) for name, values in official.mnist().items()}
    server.files = dict(files)
    home = idx.HOMES["mnist"]._replace(
        address=server.address, md5=tuple(hashlib.md5(files[name]).hexdigest() for name in idx._PUBLISHED)
    )
    monkeypatch.setitem(idx.HOMES, "mnist", home)
    by_hand = paths.raw("idx") / "mnist"
    by_hand.mkdir(parents=True)
    (by_hand / "train-labels-idx1-ubyte").write_bytes(official.idx(official.mnist()["train-labels-idx1-ubyte"]))
    server.asked.clear()
    assert len(idx.Images(None, dataset="mnist", transposed=False).scan().found) == 80
    assert len(server.asked) == 3


def test_the_publishers_hashes_are_hashes() -> None:
    """Hexadecimal MD5, none twice: a slip in one would refuse the right file."""
    digests = [md5 for home in idx.HOMES.values() for md5 in home.md5] + [cifar10.LAYOUT.remote.digest]
    assert len(set(digests)) == 13
    for digest in digests:
        assert len(bytes.fromhex(digest)) == 16
