"""Files with a public home: fetched once, resumed where they were cut, checked, and whole or absent."""

import hashlib
import http.client
import io
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from pipeline.data.text import shown
from pipeline.errors import Mistake
from pipeline.locks import lock

if TYPE_CHECKING:
    from tqdm import tqdm

_CHUNK = 256 << 10
_TIMEOUT_SECONDS = 30.0  # without a byte
_WAITS_SECONDS = (1.0, 4.0)  # before trying again; each byte that arrives gives all of them anew


class Remote(NamedTuple):
    """A file and the hash that its publisher names."""

    url: str
    digest: str  # hexadecimal
    algorithm: str = "md5"

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


class _Interrupted(Exception):
    """The connection ended before the file did: worth another try."""


def fetch(remote: Remote, folder: Path) -> Path:
    """The file `remote.name` in `folder`, fetched unless it lies there: by an earlier call, or put there by hand.

    What arrives stays in NAME.part for the next try, unless it is wrong. Raises Mistake, saying what to fetch by hand
    and where to put it, when the file cannot be had or its content is wrong; OSError where it cannot be written.
    """
    target = folder / remote.name
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{remote.name}.part"
    with _locked(part) as stream:
        if target.is_file():  # another process brought it while this one waited
            part.unlink()
            return target
        resumed = _bring(remote, folder, stream)
        if not _is_right(remote, stream) and resumed:  # what lay there may have been of another file
            stream.truncate(0)
            _bring(remote, folder, stream)
        if not _is_right(remote, stream):
            part.unlink()
            raise _refused(remote, folder, f"its {remote.algorithm} differs from the publisher's: other content")
        os.fsync(stream.fileno())
        os.replace(part, target)
    return target


@contextmanager
def _locked(part: Path) -> Iterator[io.BufferedRandom]:
    """The file opened for appending, for this process alone: two that append would mix their bytes."""
    while True:
        with part.open("a+b") as stream:
            lock(stream)
            if part.exists() and os.path.samestat(part.stat(), os.fstat(stream.fileno())):
                yield stream
                return
        # renamed or removed by whoever held the lock


def _bring(remote: Remote, folder: Path, stream: io.BufferedRandom) -> bool:
    """Append what is missing, trying again after interruptions; whether anything lay there before."""
    from tqdm import tqdm

    have = began = stream.seek(0, os.SEEK_END)
    waits = iter(_WAITS_SECONDS)
    with tqdm(
        desc=f"source: {remote.name}", initial=have, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr
    ) as bar:
        while True:
            try:
                _append(remote.url, stream, bar)
                return began > 0
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500 and error.code != http.HTTPStatus.TOO_MANY_REQUESTS:
                    raise _refused(remote, folder, f"HTTP status {error.code}") from None
                reason = f"HTTP status {error.code}"
            except urllib.error.URLError as error:
                reason = str(error.reason)
            except (_Interrupted, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                reason = str(error) or type(error).__name__  # HTTPException: no HTTP at all is spoken there
            stream.flush()
            if stream.tell() > have:
                have, waits = stream.tell(), iter(_WAITS_SECONDS)
            wait = next(waits, None)
            if wait is None:
                raise _refused(remote, folder, reason)
            time.sleep(wait)


def _append(url: str, stream: io.BufferedRandom, bar: "tqdm[NoReturn]") -> None:
    """One request for what is missing. A server that knows no ranges sends all of it, which then replaces the part."""
    have = stream.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:  # all is here: the hash will tell
            error.close()
            return
        raise
    with response:
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                stream.truncate(0)
                raise _Interrupted("the server sent another part than it was asked for")
        else:
            stream.truncate(0)
            have = 0
        length = response.headers.get("Content-Length", "")
        missing = int(length) if length.isdigit() else None
        bar.total = have + missing if missing is not None else None
        bar.n = have
        bar.refresh()
        while chunk := _next(response):
            stream.write(chunk)
            bar.update(len(chunk))
            missing = missing - len(chunk) if missing is not None else None
        if missing:
            raise _Interrupted(f"the connection ended {missing} bytes before the file")


def _next(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:  # of the network, unlike one in writing to the disk
        raise _Interrupted(str(error) or type(error).__name__) from None


def _is_right(remote: Remote, stream: io.BufferedRandom) -> bool:
    stream.flush()
    stream.seek(0)
    return hashlib.file_digest(stream, remote.algorithm).hexdigest() == remote.digest


def _refused(remote: Remote, folder: Path, reason: str) -> Mistake:
    return Mistake(
        f"{remote.url}: cannot be downloaded: {reason}",
        f"run again, or fetch it by hand ({remote.algorithm} {remote.digest}) and put it into {shown(str(folder))}/",
    )
