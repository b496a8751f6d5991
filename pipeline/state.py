"""What a stage keeps while it works, so that a kill at any moment costs nothing: `.retrace/state/STAGE/FINGERPRINT/`.

The fingerprint is a hash of all that the result is a function of: parameters, dependencies, environment. Whoever starts
the same work goes on with the same state: its MLflow run, its checkpoints. If anything has changed, the fingerprint is
another, and nothing stale is resumed. DVC knows nothing of the folder: deleting a stage's outputs leaves it alone.

A state outlives its stage until dvc.lock has the result: DVC may be killed in between, and would delete the outputs and
run the stage anew, which then takes them from the state. It is deleted once the result has landed in dvc.lock, so that
`dvc repro --force` really runs.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from pipeline import lineage, paths
from pipeline.errors import Mistake
from pipeline.params import Params, is_operational, leaves, load

_RECORD = "state.json"
_LOCK = "lock"


# --- what a stage's result is a function of ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """One piece of work: a stage with all that its result is a function of."""

    stage: str
    parameters: Mapping[str, Any]  # the values that dvc.yaml names, by dotted path; operational ones never
    dependencies: Mapping[str, str]  # path -> hash, as dvc.lock has it
    environment: Mapping[str, str]
    stamps: Mapping[str, tuple[int, ...]]  # size, times and inode of params.yaml and of every file it depends on
    defaults: Mapping[str, str] = field(default_factory=dict)  # what null stands for

    @cached_property
    def fingerprint(self) -> str:
        content = [
            self.stage,
            dict(self.parameters),
            dict(self.dependencies),
            dict(self.environment),
            dict(self.defaults),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def folder(self) -> Path:
        """Where its state is."""
        return states_folder() / self.stage / self.fingerprint


def work(stage: str, params: Params, inputs: Sequence[Path] = (), contents: Mapping[str, str] | None = None) -> Work:
    """The work of a stage that is about to start: hashes its dependencies, `inputs` and those of dvc.yaml.

    contents: hashes, by name, of what it depends on beyond files of the project.
    Raises FileNotFoundError where a file is missing.
    """
    files, keys = _definition(stage, params)
    dependencies = dict(contents or {})
    dependencies |= {path.as_posix(): lineage.md5(path) for path in sorted({*inputs, *map(Path, files)})}
    values = params.flat()
    operational = {".".join(path) for path, field_ in leaves() if is_operational(field_)}
    named = {
        name: value
        for name, value in values.items()
        if name not in operational and (keys is None or any(_is_within(name, key) for key in keys))
    }
    return Work(
        stage, named, dependencies, environment(), _stamps([*dependencies, str(paths.PARAMS)]), _defaults(params)
    )


def _defaults(params: Params) -> dict[str, str]:
    """What null stands for: it is in the catalogue, which is no dependency."""
    return {
        "optimizer.momentum": str(params.optimizer.effective_momentum),
        "data.image_size": str(params.data.resolved_image_size),
        "data.channels": str(params.data.resolved_channels),
    }


def what_changed(done: Work) -> list[str]:
    """What is not any more as it was when the work began, each with what to do; DVC would take it for what was used.

    Files are hashed again only where their stamps differ; of params.yaml, the values that the work has used count.
    """
    lines: list[str] = []
    if not paths.DVC_YAML.is_file():
        return lines  # nobody notes anything
    now = _stamps([*done.dependencies, str(paths.PARAMS)])
    for path, digest in done.dependencies.items():
        of_path = [name for name in {*now, *done.stamps} if name == path or name.startswith(f"{path}/")]
        if any(now.get(name) != done.stamps.get(name) for name in of_path) and _digest(Path(path)) != digest:
            lines.append(f"{path}: changed while {done.stage} ran")
    if now.get(str(paths.PARAMS)) == done.stamps.get(str(paths.PARAMS)):
        return lines
    try:
        values = load().flat()
    except (FileNotFoundError, Mistake) as error:
        return [*lines, f"{paths.PARAMS}: cannot be read any more: {error}"]
    for name, value in done.parameters.items():
        if values.get(name) != value:
            lines.append(f"{paths.PARAMS}: {name}: was {value} when {done.stage} began and is {values.get(name)} now")
    return lines


def refuse_changes(done: Work) -> None:
    """Raises Mistake where what the stage is made from is not there any more: DVC hashes it only when the stage has
    ended, and would take the new for what was used. Costs a stat a file, so that a stage may ask now and then."""
    changed = what_changed(done)
    if changed:
        raise Mistake(
            *changed,
            f"{done.stage}: stopped, since DVC would note its result as made from what is there now; run `dvc repro`"
            " again: with the old content back it goes on from where it was, with the new it starts anew",
        )


def _digest(path: Path) -> str | None:
    try:
        return lineage.md5(path)
    except FileNotFoundError:
        return None


def _stamps(files: Iterable[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name in files:
        inside = [Path(parent, file) for parent, _, names in os.walk(name, followlinks=True) for file in names]
        for file in inside or [Path(name)]:
            with contextlib.suppress(FileNotFoundError):
                told = file.stat()
                found[file.as_posix()] = (told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino)
    return found


def _definition(stage: str, params: Params) -> tuple[list[str], list[str] | None]:
    """What dvc.yaml says of a stage: its dependencies and its parameters' keys; ([], None) where it says nothing."""
    if not paths.DVC_YAML.is_file():
        return [], None
    said = lineage.dvc_file(paths.DVC_YAML).get("stages", {}).get(stage, {})
    values = params.flat()

    def resolved(text: str) -> str:
        return re.sub(r"\$\{([\w.]+)\}", lambda match: str(values[match[1]]), text)

    keys = said.get("params")
    return [resolved(path) for path in said.get("deps", [])], None if keys is None else [resolved(k) for k in keys]


def _is_within(name: str, key: str) -> bool:
    return name == key or name.startswith(f"{key}.")


def environment() -> dict[str, str]:
    """What of this machine a result's bits may depend on: installed versions, processor, GPU."""
    # Our own version is in no result: the files of its code are hashed as dependencies.
    names = {name.lower().replace("_", "-") for name in lineage.distributions()}
    installed = sorted(name for name in names if "retrace-" not in name)
    found = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": hashlib.sha256("\n".join(installed).encode()).hexdigest()[:32],
    }
    torch = sys.modules.get("torch")  # a stage that has not imported it makes no numbers with it
    if torch is not None:
        found["torch"] = torch.__version__
        found["capability"] = torch.backends.cpu.get_cpu_capability()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
            found["cuda"] = str(torch.version.cuda)
    return found


# --- what it keeps ----------------------------------------------------------------------------------------------------


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


def states_folder() -> Path:
    return paths.state() / "state"


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
            if not _try_lock(stream):
                stream.seek(0)
                print(waiting.format(process=stream.read().decode() or "?"), file=sys.stderr, flush=True)
                fcntl.flock(stream, fcntl.LOCK_EX)
            if not _is_there(folder / _LOCK, stream):
                continue  # whoever held it has deleted the folder
            stream.truncate(0)
            stream.write(str(os.getpid()).encode())
            stream.flush()
            yield
            return


def _try_lock(stream: BinaryIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
        return dict(lineage.dvc_file(paths.DVC_LOCK).get("stages") or {})
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
    return sorted(folder for folder in states_folder().glob("*/*") if folder.is_dir())


def delete(folder: Path, record: Mapping[str, Any] | None = None) -> bool:
    """Delete a state unless a process holds it, or its record is not the given one any more; whether it is gone."""
    try:
        stream = open(folder / _LOCK, "a+b")  # noqa: SIM115
    except FileNotFoundError:
        return True
    with stream:
        if not _try_lock(stream) or not _is_there(folder / _LOCK, stream):
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
        with open(folder / _LOCK, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
