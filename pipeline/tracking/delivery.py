"""Brings one spool to MLflow: every record once, in order, with its own time, whatever was interrupted before.

How far it came stands in `sent.json` beside the spool. A record that was sent, but not noted as sent, is sent again and
changes nothing: MLflow keeps one point for equal (key, step, time, value), a tag or artefact replaces itself, and a run
or model is searched for by its tag before it is made.
"""

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.tracking import spool
from pipeline.tracking.destination import Destination

if TYPE_CHECKING:
    from mlflow import MlflowClient

SENT = "sent.json"
_BATCH = 1000  # metrics in one request: the server's limit
_BATCH_TAGS = 100  # parameters or tags in one request: likewise
_PARAM_CHARACTERS = 6000
_TAG_CHARACTERS = 8000


@dataclass(frozen=True)
class Progress:
    """How far a spool has been brought to one destination."""

    target: str = ""
    run_id: str | None = None
    offset: int = 0  # bytes of events.jsonl that MLflow has
    closed: bool = False  # MLflow knows how the run ended


def progress(folder: Path, target: Destination | None = None) -> Progress:
    """What sent.json says; nothing sent when there is none, or when it tells of another destination and unfinished."""
    try:
        found = Progress(**json.loads((folder / SENT).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return Progress(target.fingerprint if target else "")
    if target is not None and found.target != target.fingerprint and not found.closed:
        return Progress(target.fingerprint)
    return found


def is_sent(folder: Path) -> bool:
    """Whether nothing of this spool is left to send: a `stat` and a small file."""
    found = progress(folder)
    return found.closed and found.offset == spool.size(folder)


def start_of(folder: Path) -> dict[str, Any] | None:
    """The start record; None while it is not written, or was torn."""
    first = next(spool.read(folder), None)
    return first.content if first is not None and first.content["type"] == "start" else None


@dataclass
class Connection:
    """A client, the experiment, and where this experiment is."""

    client: "MlflowClient"
    experiment_id: str
    target: Destination
    notes: list[str] = field(default_factory=list)  # what went wrong without stopping anything


class Delivery:
    """Sends one spool. Use it under the spool's sender lock."""

    def __init__(self, folder: Path, connection: Connection) -> None:
        self.folder = folder
        self._connection = connection
        self._client = connection.client
        self._progress = progress(folder, connection.target)
        self._metrics: list[Any] = []
        self._collected_to = 0

    def send(self) -> bool:
        """Send what there is; True when the run has ended and MLflow has everything.

        Raises what mlflow raises; what was sent before that is noted.
        """
        alive = spool.is_alive(self.folder)  # before reading: what a dead process left is then complete
        ended = self._progress.closed
        last_time = None
        for record in spool.read(self.folder, self._progress.offset):
            content = record.content
            last_time = content.get("time", last_time)
            ended = content["type"] == "end"
            if content["type"] == "metrics":
                self._collect(content, record.end)
                continue
            self._flush()
            if ended:
                self._end(content["status"], content["time"], content.get("message"))
            else:
                self._send_record(content)
            self._note(offset=record.end, closed=ended)
        self._flush()
        if (alive and not ended) or self._progress.run_id is None:
            return False
        if not ended:
            self._end("KILLED", last_time or self._modified(), "the process ended without saying so")
            self._note(offset=spool.size(self.folder), closed=True)  # a torn last line is nothing to wait for
        for part in (spool.ARTIFACTS, spool.MODEL):  # MLflow has them now
            shutil.rmtree(self.folder / part, ignore_errors=True)
        return True

    def _modified(self) -> int:
        return int((self.folder / spool.EVENTS).stat().st_mtime * 1000)

    def _note(self, **changes: Any) -> None:
        noted = replace(self._progress, **changes)
        if noted != self._progress:
            self._progress = noted
            paths.write_atomically(self.folder / SENT, json.dumps(asdict(noted)).encode())

    @property
    def _run_id(self) -> str:
        if self._progress.run_id is None:
            raise ValueError(f"{self.folder}: the record of the run's start is missing")
        return self._progress.run_id

    # --- metrics ------------------------------------------------------------------------------------------------------

    def _collect(self, content: dict[str, Any], end: int) -> None:
        from mlflow.entities import Metric

        values = content["values"]
        if len(self._metrics) + len(values) > _BATCH:
            self._flush()
        self._metrics += [Metric(key, value, content["time"], content["step"]) for key, value in values.items()]
        self._collected_to = end

    def _flush(self) -> None:
        if not self._metrics:
            return
        for first in range(0, len(self._metrics), _BATCH):  # more than one only if one record holds more
            self._client.log_batch(self._run_id, metrics=self._metrics[first : first + _BATCH])
        self._metrics.clear()
        self._note(offset=self._collected_to)

    # --- the other records --------------------------------------------------------------------------------------------

    def _send_record(self, content: dict[str, Any]) -> None:
        match content["type"]:
            case "start":
                self._start(content)
            case "tags":
                self._tag(content["values"])
            case "artifact":
                self._artifact(content)
            case "model":
                self._model(content["sha256"])

    def _start(self, content: dict[str, Any]) -> None:
        from mlflow.entities import Param

        tags = {**content["tags"], "mlflow.runName": content["name"]}
        if content["parent"]:
            tags["retrace.parent"] = content["parent"]
            parent = self._find(content["parent"])
            if parent is not None:
                tags["mlflow.parentRunId"] = parent
        run_id = self._find(content["key"])
        if run_id is None:
            created = self._client.create_run(
                self._connection.experiment_id,
                start_time=content["time"],
                tags={"retrace.key": content["key"]},
                run_name=content["name"],
            )
            run_id = created.info.run_id
        self._note(run_id=run_id)
        self._tag(tags)
        params = [Param(name, value[:_PARAM_CHARACTERS]) for name, value in content["params"].items()]
        for first in range(0, len(params), _BATCH_TAGS):
            self._client.log_batch(run_id, params=params[first : first + _BATCH_TAGS])
        self._datasets(content["datasets"])

    def _find(self, key: str) -> str | None:
        """The MLflow run of a local key: known from its spool, or searched for by its tag."""
        known = progress(self.folder.parent / key, self._connection.target)
        if known.run_id is not None and known.target == self._connection.target.fingerprint:
            return known.run_id
        found = self._client.search_runs(
            [self._connection.experiment_id], f"tags.`retrace.key` = '{key}'", max_results=1
        )
        return found[0].info.run_id if found else None

    def _tag(self, values: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, value[:_TAG_CHARACTERS]) for name, value in values.items()]
        for first in range(0, len(tags), _BATCH_TAGS):
            self._client.log_batch(self._run_id, tags=tags[first : first + _BATCH_TAGS])

    def _datasets(self, digests: dict[str, str]) -> None:
        """The inputs as MLflow datasets: 32 hexadecimal digits and `.dir` are just the 36 that a digest may have."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(name=name, digest=digest, source_type="local", source=json.dumps({"uri": name})),
                [InputTag("mlflow.data.context", "input")],
            )
            for name, digest in digests.items()
        ]
        if inputs:
            self._client.log_inputs(self._run_id, inputs)

    def _artifact(self, content: dict[str, Any]) -> None:
        path = self.folder / spool.ARTIFACTS / content["path"]
        if not path.exists():
            self._connection.notes.append(f"{path}: gone before it was sent")
        elif path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), content["path"])
        else:
            self._client.log_artifact(self._run_id, str(path), content["folder"] or None)

    def _model(self, sha256: str) -> None:
        from pipeline.tracking.logged_model import send_model

        note = send_model(self._connection, self._run_id, self.folder / spool.MODEL, sha256)
        if note:
            self._tag({"retrace.model_error": note})

    def _end(self, status: str, time: int, message: str | None) -> None:
        if message:
            self._tag({"retrace.error": message})
        self._client.set_terminated(self._run_id, status, time)
