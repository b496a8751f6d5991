"""What a stage keeps while it works: who holds it, when it has landed in dvc.lock, when it goes."""

import contextlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pipeline import locks, paths
from pipeline.errors import Mistake
from pipeline.lineage import dvc_files
from pipeline.state.work import Work

_RECORD = "state.json"
_LOCK = "lock"


@dataclass
class State:
    """The state of one piece of work, held by this process alone."""

    work: Work
    run_key: str  # of its MLflow run
    is_resumed: bool = False
    _outputs: dict[str, str] | None = field(default=None, repr=False)

    def finish(self, outputs: Mapping[str, str]) -> None:
        """Note that the outputs (path -> hash) are in their places: until dvc.lock has them, the state is kept.

        A stage that was started by hand, not by DVC, ends here: nothing will come into dvc.lock; and so does one of a
        temporary experiment, whose dvc.lock goes with its folder.
        """
        if "DVC_STAGE" in os.environ and Path.cwd() == paths.root():
            self._outputs = dict(outputs)
            self.write()
        else:
            shutil.rmtree(self.work.folder)

    def write(self) -> None:
        content = {
            "stage": self.work.stage,
            "run": self.run_key,
            "parameters": dict(self.work.parameters),
            "dependencies": dict(self.work.dependencies),
            "environment": dict(self.work.environment),
            "outputs": self._outputs,
        }
        paths.write_atomically(self.work.folder / _RECORD, json.dumps(content, indent=1).encode())


@contextlib.contextmanager
def held(of: Work) -> Iterator[State]:
    """The state of a piece of work: what an earlier process left of it, or a new one. One process at a time holds it;
    a second one waits, saying so, for the first to end."""
    folder = of.folder
    with _locked(folder, f"{of.stage}: the same work is under way in process {{process}}; waiting for it to end"):
        lock = _read_lock()
        sweep_landed(lock, without=folder)
        record = _read(folder)
        if record is not None and record["outputs"] is not None and _has_landed(record, lock):
            _empty(folder)  # it is run again on purpose
            record = None
        state = State(of, record["run"] if record is not None else uuid.uuid4().hex, record is not None)
        state.write()
        yield state


@contextlib.contextmanager
def _locked(folder: Path, waiting: str) -> Iterator[None]:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            stream = open(folder / _LOCK, "a+b")  # noqa: SIM115
        except FileNotFoundError:
            continue  # whoever deletes the folder was in between
        with stream:
            if not locks.try_lock(stream):
                stream.seek(0)
                print(waiting.format(process=stream.read().decode() or "?"), file=sys.stderr, flush=True)
                locks.lock(stream)
            if not _is_there(folder / _LOCK, stream):
                continue  # whoever held it has deleted the folder
            stream.truncate(0)
            stream.write(str(os.getpid()).encode())
            stream.flush()
            yield
            return


def _is_there(path: Path, stream: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _read(folder: Path) -> dict[str, Any] | None:
    """The record of a state; None where it has none, or one that a full disk or another version has spoilt."""
    try:
        record = json.loads((folder / _RECORD).read_bytes())
        return {name: record[name] for name in ("stage", "run", "parameters", "dependencies", "outputs")}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _empty(folder: Path) -> None:
    """Delete all but the lock, by which another process may be waiting."""
    for entry in folder.iterdir():
        if entry.name == _LOCK:
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


# --- landing ----------------------------------------------------------------------------------------------------------


def _read_lock() -> Mapping[str, Any]:
    """The stages of dvc.lock; none where there is no such file, or one that cannot be read (DVC says what is wrong)."""
    try:
        return dict(dvc_files.dvc_file(paths.DVC_LOCK).get("stages") or {})
    except (FileNotFoundError, Mistake):
        return {}


def _has_landed(record: Mapping[str, Any], lock: Mapping[str, Any]) -> bool:
    """Whether dvc.lock has just this result: of these dependencies and parameters, with these outputs."""
    entry = lock.get(record["stage"])
    if entry is None:
        return False
    listed = {part: {item["path"]: item.get("md5") for item in entry.get(part, [])} for part in ("deps", "outs")}
    values = dict(_flattened(entry.get("params", {}).get(str(paths.PARAMS), {})))
    return (
        all(record["dependencies"].get(path) == digest for path, digest in listed["deps"].items())
        and all(record["parameters"].get(name) == value for name, value in values.items())
        and listed["outs"].items() <= dict(record["outputs"] or {}).items()
    )


def _flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and f"{prefix}{key}" != "search.space":
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def sweep_landed(lock: Mapping[str, Any] | None = None, without: Path | None = None) -> None:
    """Delete the states of finished work whose results dvc.lock has."""
    for folder in _all():
        record = _read(folder) if folder != without else None
        if record is None or record["outputs"] is None:
            continue
        lock = _read_lock() if lock is None else lock
        if _has_landed(record, lock):
            delete(folder, record)


def _all() -> list[Path]:
    return sorted(folder for folder in paths.states().glob("*/*") if folder.is_dir())


def delete(folder: Path, record: Mapping[str, Any] | None = None) -> bool:
    """Delete a state unless a process holds it, or its record is not the given one any more; whether it is gone."""
    try:
        stream = open(folder / _LOCK, "a+b")  # noqa: SIM115
    except FileNotFoundError:
        return True
    with stream:
        if not locks.try_lock(stream) or not _is_there(folder / _LOCK, stream):
            return False
        if record is not None and _read(folder) != record:
            return False
        shutil.rmtree(folder, ignore_errors=True)  # a process may just be making its lock there
    return not folder.exists()


@dataclass(frozen=True)
class Kept:
    """A state as it lies there."""

    folder: Path
    stage: str
    run_key: str | None  # of its MLflow run; None where the record cannot be read
    outputs: Mapping[str, str] | None  # None: the work has not ended
    has_landed: bool  # whether dvc.lock has the result
    is_held: bool  # by a living process
    modified: float  # seconds since 1970: when anything in it was last written


def kept() -> list[Kept]:
    """All states of this project."""
    lock = _read_lock()
    return [_kept(folder, lock) for folder in _all()]


def _kept(folder: Path, lock: Mapping[str, Any]) -> Kept:
    record = _read(folder)
    outputs = None if record is None else record["outputs"]
    times = [0.0]
    for place in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            times.append(place.stat().st_mtime)
    return Kept(
        folder=folder,
        stage=folder.parent.name,
        run_key=None if record is None else record["run"],
        outputs=outputs,
        has_landed=record is not None and outputs is not None and _has_landed(record, lock),
        is_held=_is_held(folder),
        modified=max(times),
    )


def _is_held(folder: Path) -> bool:
    try:
        return locks.is_locked(folder / _LOCK)
    except FileNotFoundError:
        return False
