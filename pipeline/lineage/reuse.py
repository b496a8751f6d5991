"""How often a result came back without being made again.

DVC restores a stage from its cache without running it: nobody is there to count it. So whoever comes next looks: every
stage at its start, `source` at every `dvc repro`, and the commands that show runs. What counts, exactly:

    Whenever dvc.lock is found to hold, for a stage, other outputs than when it was last looked at, and no run in this
    folder has made them since, the run that first made them was reused once.

It is noted in .retrace/reuse.json, and brought to MLflow as a tag of that run by the next command that reads MLflow.
Where a folder is looked at for the first time (a fresh clone, or .retrace was deleted), what is there counts only if
another machine made it. Temporary folders of DVC's experiments are not looked at.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline import locks, paths

_KEPT = 1000  # the most that wait to be brought to MLflow


@dataclass(frozen=True)
class Seen:
    """Outputs that came back."""

    key: str
    stage: str
    outputs: Mapping[str, str]  # path -> hash
    time: str
    is_first_look: bool


def look() -> bool:
    """Compare dvc.lock with what it held when last looked at; returns whether it is another. Takes less than a
    millisecond where it is not."""
    if Path.cwd() != paths.root():
        return False
    try:
        digest = hashlib.sha256(paths.DVC_LOCK.read_bytes()).hexdigest()
        if _read().get("lock") == digest:
            return False
        from pipeline.lineage import (
            dvc_files,  # and with it the parameter tree, which source does without where nothing changed
        )

        now = dvc_files.outputs_in_lock()
        with _kept() as kept:
            is_first, kept["lock"] = "lock" not in kept, digest
            for stage, outputs in now.items():
                if _came_back(kept, stage, outputs):
                    seen = Seen(uuid.uuid4().hex[:12], stage, outputs, _now(), is_first)
                    kept["waiting"] = [*kept.get("waiting", []), asdict(seen)][-_KEPT:]
    except OSError:  # no dvc.lock yet, or no space left on the disk: a count must stop nobody's work
        return False
    return True


def _came_back(kept: dict[str, Any], stage: str, outputs: Mapping[str, str]) -> bool:
    known = kept.setdefault("results", {}).setdefault(stage, {})
    if known.get("seen") == outputs:
        return False
    known["seen"] = outputs
    if known.get("made") == outputs:
        del known["made"]  # that is how a run's own result lands; the next time it comes from the cache
        return False
    return True


def note_made(stage: str, outputs: Mapping[str, str]) -> None:
    """A run has made them: that dvc.lock will hold them is no reuse."""
    if Path.cwd() != paths.root():
        return
    with suppress(OSError), _kept() as kept:
        known = kept.setdefault("results", {}).setdefault(stage, {})
        if known.get("seen") != dict(outputs):  # equal: made again on purpose; dvc.lock stays as it is
            known["made"] = dict(outputs)


def waiting() -> list[Seen]:
    """What MLflow does not know of yet."""
    return [Seen(**entry) for entry in _read().get("waiting", [])]


def settle(done: Sequence[Seen]) -> None:
    """MLflow knows of these."""
    if done:
        keys = {seen.key for seen in done}
        with _kept() as kept:
            kept["waiting"] = [entry for entry in kept.get("waiting", []) if entry["key"] not in keys]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _file() -> Path:
    return paths.state() / "reuse.json"


def _read() -> dict[str, Any]:
    """A count is no result: what is missing or damaged begins anew."""
    with suppress(FileNotFoundError, ValueError):
        content = json.loads(_file().read_bytes())
        if isinstance(content, dict):
            return content
    return {}


@contextmanager
def _kept() -> Iterator[dict[str, Any]]:
    """The content, to be changed; one process at a time."""
    with locks.locked(_file().with_suffix(".lock")):
        content = _read()
        yield content
        paths.write_atomically(_file(), json.dumps(content, indent=1).encode())
