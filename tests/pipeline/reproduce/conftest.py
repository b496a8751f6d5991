"""Recorded runs without a server."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.reproduce.record import Record
from pipeline.tracking.store import Recorded

COMMIT = "0123456789" * 4


def recorded(run_id: str = "abc", stage: str = "train", **changes: Any) -> Recorded:
    """A run as MLflow has it; `tags` are added to those it has anyway."""
    tags = {"retrace.stage": stage, "retrace.key": "k", "retrace.commit": COMMIT, **changes.pop("tags", {})}
    values = {
        "run_id": run_id,
        "name": f"{stage}-{run_id}",
        "experiment_id": "1",
        "status": "FINISHED",
        "started": 0,
        "ended": 1000,
        "params": {},
        "metrics": {},
        **changes,
    }
    return Recorded(tags=tags, **values)


class Server:
    """What of `tracking.recorded.Runs` reads, over runs given here, each with its lineage files, or None."""

    shown = "the server"

    def __init__(self, runs: Sequence[tuple[Recorded, Mapping[str, Any] | None]]) -> None:
        self.runs = [run for run, _ in runs]
        self.files = {run.run_id: files for run, files in runs}

    def run(self, run_id: str) -> Recorded | None:
        return next((run for run in self.runs if run.run_id == run_id), None)

    def find(self, tags: Mapping[str, str], experiment_id: str | None = None) -> list[Recorded]:
        return [run for run in self.runs if tags.items() <= run.tags.items()]

    def download(self, run: Recorded, folder: str, target: Path) -> bool:
        files = self.files[run.run_id]
        if files is None:
            return False
        for name, content in files.items():
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        return True


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Record]:
    """Makes a record with lineage files."""

    def make(files: Mapping[str, str], **changes: Any) -> Record:
        folder = tmp_path / "record"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return Record(recorded(**changes), folder, {}, {}, {}, ())

    return make
