"""The spool: a run's record on the local disk, appended while it happens, sent to MLflow by another process.

A run is a folder `runs/KEY` with

    events.jsonl    append-only, one JSON record a line (NaN and Infinity as Python's json writes them, knowingly)
    artifacts/      copies of what was logged, as it was then; `model/` likewise
    sent.json       how far a sender has brought it, replaced atomically (written by pipeline.tracking.delivery)
    session         which stage's process continues it, once one does

Records, by `type`: start (stage, name, key, parent, session, params, tags, datasets, time), resume (the same, of a
process that goes on with the run), metrics (step, values, time, measured), tags (values), artifact (path, folder),
model (sha256), determinism (points that had another value when they were replayed), end (status, message). Times are
milliseconds since 1970. Every record reaches the operating system in the call that makes it, so a killed process loses
none; the disk is told to keep them every FSYNC_SECONDS, so that a power cut loses at most that much and no step ever
waits for a disk; `flush` tells it at once.

A run is continued by opening its spool again. A step that is then replayed is judged by what the spool holds: a point
is written once, with the value it had first.
"""

import contextlib
import json
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import locks, paths

FSYNC_SECONDS = 1.0
EVENTS = "events.jsonl"
ARTIFACTS = "artifacts"
MODEL = "model"
SESSION = "session"
_READ_BYTES = 4 << 20
_SHOWN_DIFFERENCES = 5  # of which stderr tells one by one
_PATIENCE_SECONDS = 0.5  # a sender that looks whether the writer lives holds its lock for microseconds


def milliseconds() -> int:
    """Now, in MLflow's unit."""
    return time.time_ns() // 1_000_000


class Writer:
    """Appends to a run's spool. Holds a lock on it for as long as it lives: a run whose lock is free has ended."""

    def __init__(self, folder: Path) -> None:
        """Open the spool in `folder`, or open it again; waits for a process that still writes it.

        Raises OSError when the disk refuses.
        """
        self.folder = folder
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(folder / EVENTS, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        _lock(self._descriptor, folder)
        self._end_torn_tail()
        self._is_torn = False  # whether a full disk took a part of the last record
        self.continues = False  # whether a start record is there: what follows then goes on with that run
        self._replayed: dict[str, dict[int, float]] = {}  # metric -> step -> value: what was there at the opening
        self.differences = 0  # points that had another value when they were replayed, this time or an earlier one
        self._first_difference: dict[str, Any] = {}
        self._told_differences = 0
        self._read_back()
        if made:  # the names are to outlive a power cut as the records do
            for place in (folder, folder.parent):
                paths.sync_folder(place)
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._syncer = threading.Thread(target=self._sync_at_intervals, name="spool-fsync", daemon=True)
        self._syncer.start()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record: microseconds. Raises OSError when the disk is full."""
        line = json.dumps(record, separators=(",", ":"), default=str).encode() + b"\n"
        if self._is_torn:
            line = b"\n" + line
        written = os.write(self._descriptor, line)
        while written < len(line):  # a nearly full disk takes a part; the next attempt says why
            self._is_torn = True
            written += os.write(self._descriptor, line[written:])
        self._is_torn = False
        self._dirty.set()

    def append_metrics(self, values: Mapping[str, float], step: int, measured: bool) -> None:
        """Add metrics at `step`, now; of a replayed step only what is not there yet.

        A replayed value that differs from the one that was recorded is told on stderr and to MLflow, and left out: the
        replay did not do what was done before. Measurements differ by nature.
        """
        values = {name: float(value) for name, value in values.items()}
        if self._replayed:
            values = {name: value for name, value in values.items() if self._is_new(name, step, value, measured)}
            if not values:
                return
        record = {"type": "metrics", "step": step, "time": milliseconds(), "values": values}
        self.append({**record, "measured": True} if measured else record)

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
        """Bring everything to the disk, now: what is written elsewhere afterwards is never ahead of the spool."""
        self._tell_differences()
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Bring everything to the disk and let the lock go."""
        self._closing.set()
        self._dirty.set()
        self._syncer.join()
        try:
            self.flush()
        finally:
            os.close(self._descriptor)

    # --- a run that is continued --------------------------------------------------------------------------------------

    def _read_back(self) -> None:
        for record in read(self.folder):
            content = record.content
            match content["type"]:
                case "start":
                    self.continues = True
                case "metrics":
                    for name, value in content["values"].items():
                        self._replayed.setdefault(name, {}).setdefault(content["step"], value)
                case "determinism":
                    self.differences, self._first_difference = content["count"], content["first"]
        self._told_differences = self.differences

    def _is_new(self, name: str, step: int, value: float, measured: bool) -> bool:
        first = self._replayed.get(name, {}).get(step)
        if first is None:
            return True
        if not (measured or value == first or (math.isnan(value) and math.isnan(first))):
            self._differs(name, step, first, value)
        return False

    def _differs(self, name: str, step: int, first: float, value: float) -> None:
        self.differences += 1
        if self.differences - self._told_differences <= _SHOWN_DIFFERENCES:
            print(
                f"tracking: determinism lost: {name} at step {step} was {first!r} and is {value!r} when replayed;"
                " the first value is kept",
                file=sys.stderr,
            )
        if not self._first_difference:
            self._first_difference = {"metric": name, "step": step, "kept": first, "replayed": value}
            self._write_differences()  # at once: a kill must not take the news with it

    def _tell_differences(self) -> None:
        new = self.differences - self._told_differences
        if new:
            self._told_differences = self.differences
            self._write_differences()
            if new > _SHOWN_DIFFERENCES:
                print(f"tracking: determinism lost: {new} points in all", file=sys.stderr)

    def _write_differences(self) -> None:
        self.append(
            {
                "type": "determinism",
                "count": self.differences,
                "first": self._first_difference,
                "time": milliseconds(),
            }
        )

    # --- the disk -----------------------------------------------------------------------------------------------------

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


def _lock(descriptor: int, folder: Path) -> None:
    limit = time.monotonic() + _PATIENCE_SECONDS
    while not locks.try_lock(descriptor):
        if time.monotonic() > limit:
            print(f"tracking: another process still writes {folder}; waiting for its end", file=sys.stderr)
            locks.lock(descriptor)
            return
        time.sleep(0.01)


@dataclass(frozen=True)
class Record:
    """One record of a spool and the byte after it, from which reading goes on."""

    content: dict[str, Any]
    end: int


def read(folder: Path, offset: int = 0) -> Iterator[Record]:
    """The records from byte `offset` on. A torn last line is left for later; a torn line elsewhere is dropped.

    A last record that lacks nothing but its line's end is whole: no part of a JSON object is one.
    """
    with (folder / EVENTS).open("rb") as stream:
        stream.seek(offset)
        rest = b""
        while block := stream.read(_READ_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                offset += len(line) + 1
                if (content := _parsed(line)) is not None:
                    yield Record(content, offset)
        if (content := _parsed(rest)) is not None:
            yield Record(content, offset + len(rest))


def _parsed(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        content = json.loads(line)
        if isinstance(content, dict) and "type" in content:
            return content
    return None


def size(folder: Path) -> int:
    """Bytes written so far."""
    return (folder / EVENTS).stat().st_size


def is_alive(folder: Path) -> bool:
    """Whether a process still writes this spool. Ask before reading: what a dead one left is then complete."""
    return locks.is_locked(folder / EVENTS)


def claim(folder: Path, session: str) -> None:
    """Say, before opening it again, which stage's process goes on with a run: its sender looks for that."""
    if (folder / EVENTS).exists():
        paths.write_atomically(folder / SESSION, session.encode())


def session_of(folder: Path, start: Mapping[str, Any]) -> str:
    """The stage's process whose run this is: the last that went on with it, or the one that began it."""
    try:
        return (folder / SESSION).read_text()
    except FileNotFoundError:
        return str(start["session"])


@contextlib.contextmanager
def at_rest(folder: Path, expected_size: int, wait_seconds: float) -> Iterator[bool]:
    """Yields whether nobody writes this spool and it has `expected_size`; if so, nobody opens it meanwhile either.

    wait_seconds: how long a writer that has written its end is given to let its lock go.
    """
    limit = time.monotonic() + wait_seconds
    with (folder / EVENTS).open("rb") as stream:
        while not locks.try_lock(stream, shared=True):
            if time.monotonic() > limit:
                yield False
                return
            time.sleep(0.02)
        yield size(folder) == expected_size


def spools(runs: Path, without: Collection[Path] = ()) -> list[Path]:
    """The folders of all runs under `runs` (or `runs` itself, when it is one run's), in no particular order.

    without: folders that are of no interest, and are not looked into.
    """
    if (runs / EVENTS).is_file():
        return [runs]
    if not runs.is_dir():
        return []
    return [folder for folder in runs.iterdir() if folder not in without and (folder / EVENTS).is_file()]
