"""The spool: a run's record on the local disk, appended while it happens, sent to MLflow by another process.

A run is a folder `runs/KEY` with

    events.jsonl    append-only, one JSON record a line (NaN and Infinity as Python's json writes them, knowingly)
    artifacts/      copies of what was logged, as it was then; `model/` likewise
    sent.json       how far a sender has brought it, replaced atomically (written by pipeline.tracking.delivery)

Records, by `type`: start (stage, name, key, parent, session, params, tags, inputs, time), metrics (step, values, time,
measured), tags (values), artifact (path, folder), model (sha256), end (status, message). Times are milliseconds since
1970. Every record reaches the operating system in the call that makes it, so a killed process loses none; the disk is
told to keep them every FSYNC_SECONDS, so that a power cut loses at most that much and no step ever waits for a disk.
"""

import contextlib
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FSYNC_SECONDS = 1.0
EVENTS = "events.jsonl"
ARTIFACTS = "artifacts"
MODEL = "model"
_READ_BYTES = 4 << 20


def milliseconds() -> int:
    """Now, in MLflow's unit."""
    return time.time_ns() // 1_000_000


class Writer:
    """Appends to a run's spool. Holds a lock on it for as long as it lives: a run whose lock is free has ended."""

    def __init__(self, folder: Path) -> None:
        """Open (or reopen) the spool in `folder`. Raises OSError when the disk refuses."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(folder / EVENTS, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._end_torn_tail()
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._syncer = threading.Thread(target=self._sync_at_intervals, name="spool-fsync", daemon=True)
        self._syncer.start()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record: microseconds. Raises OSError when the disk is full."""
        line = json.dumps(record, separators=(",", ":"), default=str).encode() + b"\n"
        written = os.write(self._descriptor, line)
        while written < len(line):  # a nearly full disk takes a part; the next attempt says why
            written += os.write(self._descriptor, line[written:])
        self._dirty.set()

    def keep(self, source: Path, target: str) -> Path:
        """Copy a file or a folder to `target` inside the spool; returns the copy. The original may change later."""
        copy = self.folder / target
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, copy)
        return copy

    def flush(self) -> None:
        """Bring what was appended to the disk. Raises OSError."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Bring everything to the disk and let the lock go."""
        self._closing.set()
        self._dirty.set()
        self._syncer.join()
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def _end_torn_tail(self) -> None:
        """A predecessor may have died within a line: end it, so that the next record has a line of its own."""
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")

    def _sync_at_intervals(self) -> None:
        while not self._closing.is_set():
            self._dirty.wait()
            self._dirty.clear()
            with contextlib.suppress(OSError):  # close() syncs again, and raises
                os.fsync(self._descriptor)
            self._closing.wait(FSYNC_SECONDS)


@dataclass(frozen=True)
class Record:
    """One record of a spool and the byte after it, from which reading goes on."""

    content: dict[str, Any]
    end: int


def read(folder: Path, offset: int = 0) -> Iterator[Record]:
    """The records from byte `offset` on. A torn last line is left for later; a torn line elsewhere is dropped."""
    with (folder / EVENTS).open("rb") as stream:
        stream.seek(offset)
        rest = b""
        while block := stream.read(_READ_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                offset += len(line) + 1
                with contextlib.suppress(ValueError):
                    content = json.loads(line)
                    if isinstance(content, dict) and "type" in content:
                        yield Record(content, offset)


def size(folder: Path) -> int:
    """Bytes written so far."""
    return (folder / EVENTS).stat().st_size


def is_alive(folder: Path) -> bool:
    """Whether a process still writes this spool. Ask before reading: what a dead one left is then complete."""
    with (folder / EVENTS).open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def spools(runs: Path, without: Collection[Path] = ()) -> list[Path]:
    """The folders of all runs under `runs` (or `runs` itself, when it is one run's), in no particular order.

    without: folders that are of no interest, and are not looked into.
    """
    if (runs / EVENTS).is_file():
        return [runs]
    if not runs.is_dir():
        return []
    return [folder for folder in runs.iterdir() if folder not in without and (folder / EVENTS).is_file()]


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """An advisory lock between processes, gone with its holder. Yields whether it was got; with `wait`, always."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
