"""Brings one spool to MLflow: every record once, in order, with its own time, whatever was interrupted before.

How far it came stands in `sent.json` beside the spool. A record that was sent, but not noted as sent, is sent again and
changes nothing: MLflow keeps one point for equal (key, step, time, value), a tag or artefact replaces itself, and a run
or model is searched for by its tag before it is made.

One logical run is one MLflow run. Where two came to be all the same (a request that was answered too late, two machines
with copies of one spool), the earliest is kept: the whole spool goes to it, and the others are deleted (as MLflow does:
they can be restored) with a tag that says where their content is.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.tracking import spool
from pipeline.tracking.destination import Destination

if TYPE_CHECKING:
    from mlflow import MlflowClient

SENT = "sent.json"
HEARTBEAT_SECONDS = 30.0  # between two tags that say that a run's process lives
MERGED_INTO = "retrace.merged_into"
_ERROR = "retrace.error"
_RESTARTS = 3  # of one delivery that has to go to another MLflow run
_DOUBT_MILLISECONDS = 600_000  # after which a server does not act on a request any more
_CLOSING_SECONDS = 2.0  # how long to wait for a writer that has written its end to be gone
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
    doubtful_until: int = 0  # milliseconds: till when a request to make the run, left unanswered, may yet be acted on


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


def is_settled(folder: Path) -> bool:
    """Whether, besides, no second MLflow run can come to be of it."""
    return is_sent(folder) and not progress(folder).doubtful_until


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
    heartbeats: dict[str, float] = field(default_factory=dict)  # key -> when its last one was sent
    looked_at: set[str] = field(default_factory=set)  # keys of doubtful runs that were sent and looked for again
    steps_forward: int = 0  # how often something was noted as sent


class _Elsewhere(Exception):
    """The spool belongs to another MLflow run than the one it was being sent to (None: to one that is yet to make)."""

    def __init__(self, run_id: str | None) -> None:
        super().__init__(run_id)
        self.run_id = run_id


class Delivery:
    """Sends one spool. Use it under the spool's sender lock."""

    def __init__(self, folder: Path, connection: Connection) -> None:
        self.folder = folder
        self._connection = connection
        self._client = connection.client
        self._progress = progress(folder, connection.target)
        start = start_of(folder)
        self._key = folder.name if start is None else str(start["key"])
        self._metrics: list[Any] = []
        self._collected_to = 0

    def send(self) -> bool:
        """Send what there is; True when the run has ended and MLflow has everything.

        Raises what mlflow raises; what was sent before that is noted.
        """
        from mlflow.exceptions import MlflowException

        for _ in range(_RESTARTS):
            try:
                return self._send()
            except _Elsewhere as other:
                elsewhere = other
            except MlflowException as error:
                status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
                found = self._where_it_went() if 400 <= status < 500 else None
                if found is None:
                    raise
                elsewhere = found
                self._connection.notes.append(f"{self.folder}: sent anew, since its MLflow run is gone: {error}")
            self._metrics.clear()
            self._note(run_id=elsewhere.run_id, offset=0, closed=False)
        raise RuntimeError(f"{self.folder}: its MLflow run changed {_RESTARTS} times while it was sent")

    def _send(self) -> bool:
        if is_sent(self.folder):
            self._look_again()
            return True
        alive = spool.is_alive(self.folder)  # before reading: what a dead process left is then complete
        size = spool.size(self.folder)
        ended = self._progress.closed
        last_time = None
        for record in spool.read(self.folder, self._progress.offset):
            content = record.content
            last_time = content.get("time", last_time)
            if content["type"] == "metrics":
                self._collect(content, record.end)
                continue
            self._flush()
            ended = content["type"] == "end"
            if ended:
                self._end(content["status"], content["time"], content.get("message"))
            else:
                self._send_record(content)
            self._note(offset=record.end, closed=ended)
        self._flush()
        if self._progress.run_id is None:
            return False
        alive = alive or spool.is_alive(self.folder)  # somebody may have begun to go on with it
        if not ended:
            if alive:
                self._heartbeat()
                return False
            self._end("KILLED", last_time or self._modified(), "the process ended without saying so")
        # A torn last line is nothing to wait for. What a process that goes on adds comes after `size`.
        self._note(offset=self._progress.offset if alive else max(size, self._progress.offset), closed=True)
        with spool.at_rest(self.folder, self._progress.offset, _CLOSING_SECONDS) as at_rest:
            if at_rest:
                for part in (spool.ARTIFACTS, spool.MODEL):  # MLflow has them now
                    shutil.rmtree(self.folder / part, ignore_errors=True)
        return True

    def _where_it_went(self) -> _Elsewhere | None:
        """Where a run is to be sent that MLflow does not take any more; None where the refusal has another reason."""
        from mlflow.exceptions import MlflowException

        if self._progress.run_id is None:
            return None
        try:
            run = self._client.get_run(self._progress.run_id)
        except MlflowException as error:
            missing = error.error_code == "RESOURCE_DOES_NOT_EXIST"  # such as a database that was deleted
            return _Elsewhere(None) if missing else None
        if run.info.lifecycle_stage == "active":
            return None
        into = run.data.tags.get(MERGED_INTO)  # without it, a user deleted the run: that stands
        return _Elsewhere(into) if into else None

    def _heartbeat(self) -> None:
        now, last = time.monotonic(), self._connection.heartbeats.get(self._key)
        if last is None or now - last >= HEARTBEAT_SECONDS:
            self._tag({"retrace.heartbeat": _shown(spool.milliseconds())})
            self._connection.heartbeats[self._key] = now

    def _modified(self) -> int:
        return int((self.folder / spool.EVENTS).stat().st_mtime * 1000)

    def _note(self, **changes: Any) -> None:
        noted = replace(self._progress, target=self._connection.target.fingerprint, **changes)
        if noted != self._progress:
            self._progress = noted
            self._connection.steps_forward += 1
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
            case "resume":
                self._resume(content)
            case "tags":
                self._tag(content["values"])
            case "artifact":
                self._artifact(content)
            case "model":
                self._model(content["sha256"])
            case "determinism":
                self._determinism(content)

    def _start(self, content: dict[str, Any]) -> None:
        tags = {**content["tags"], "mlflow.runName": content["name"]}
        if content["parent"]:
            tags["retrace.parent"] = content["parent"]
            parent = self._find(content["parent"])
            if parent is not None:
                tags["mlflow.parentRunId"] = parent
        run_id = self._progress.run_id or self._find(self._key)
        present: dict[str, str] = {}
        if run_id is None:
            in_doubt = self._progress.doubtful_until
            self._note(doubtful_until=spool.milliseconds() + _DOUBT_MILLISECONDS)
            created = self._client.create_run(
                self._connection.experiment_id,
                start_time=content["time"],
                tags={"retrace.key": content["key"]},
                run_name=content["name"],
            )
            run_id = created.info.run_id
            self._note(run_id=run_id, doubtful_until=in_doubt)  # this one was answered
        else:
            present = self._client.get_run(run_id).data.params
            self._note(run_id=run_id)
        self._tag(tags)
        self._params(content["params"], present)
        self._datasets(content["datasets"])

    def _resume(self, content: dict[str, Any]) -> None:
        """The run goes on. Its end time stays until it has a new one: MLflow has no request that clears it."""
        run = self._client.get_run(self._run_id)
        self._client.update_run(self._run_id, status="RUNNING")
        if _ERROR in run.data.tags:
            self._client.delete_tag(self._run_id, _ERROR)  # what ended it last time is over
        self._tag({**content["tags"], "retrace.resumed": _shown(content["time"])})
        self._params(content["params"], run.data.params)
        self._datasets(content["datasets"])

    def _params(self, values: dict[str, str], present: dict[str, str]) -> None:
        """Parameters that are not there yet. MLflow changes none: another value goes into a tag."""
        from mlflow.entities import Param

        values = {name: value[:_PARAM_CHARACTERS] for name, value in values.items()}
        changed = [f"{name}: {value}" for name, value in values.items() if present.get(name, value) != value]
        if changed:
            self._tag({"retrace.params_changed": "\n".join(changed)})
        params = [Param(name, value) for name, value in values.items() if name not in present]
        for first in range(0, len(params), _BATCH_TAGS):
            self._client.log_batch(self._run_id, params=params[first : first + _BATCH_TAGS])

    def _find(self, key: str) -> str | None:
        """The MLflow run of a local key: known from its spool, or searched for by its tag."""
        known = progress(self.folder.parent / key, self._connection.target)
        if known.run_id is not None and known.target == self._connection.target.fingerprint:
            return known.run_id
        found = self._runs_with("retrace.key", key)
        return found[0].info.run_id if found else None

    def _runs_with(self, tag: str, value: str) -> list[Any]:
        """The runs with a tag, the earliest first; of equal times, which strays have, one that something was sent to
        first, and every machine takes the same."""
        found = self._client.search_runs([self._connection.experiment_id], f"tags.`{tag}` = '{value}'")
        return sorted(
            found, key=lambda run: (run.info.start_time, "retrace.stage" not in run.data.tags, run.info.run_id)
        )

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

    def _determinism(self, content: dict[str, Any]) -> None:
        first = content["first"]
        self._tag(
            {
                "retrace.determinism": f"lost: {content['count']} points had another value when they were replayed;"
                f" the first: {first['metric']} at step {first['step']} was {first['kept']!r},"
                f" then {first['replayed']!r}"
            }
        )

    def _end(self, status: str, time: int, message: str | None) -> None:
        self._merge_strays()
        if message:
            self._tag({_ERROR: message})
        self._client.set_terminated(self._run_id, status, time)

    # --- several MLflow runs of one logical run -----------------------------------------------------------------------

    def _merge_strays(self) -> None:
        """Make the earliest run of this key the only one. Raises _Elsewhere when that is not the one sent to."""
        found = self._runs_with("retrace.key", self._key)
        if found and found[0].info.run_id != self._run_id:
            raise _Elsewhere(found[0].info.run_id)
        for stray in found[1:]:
            stray_id = stray.info.run_id
            self._take_artifacts(stray_id)
            self._take_models(stray_id)
            for child in self._runs_with("mlflow.parentRunId", stray_id):
                self._client.set_tag(child.info.run_id, "mlflow.parentRunId", self._run_id)
            self._client.set_tag(stray_id, MERGED_INTO, self._run_id)
            self._client.delete_run(stray_id)
            self._connection.notes.append(f"{self.folder}: run {stray_id} was merged into {self._run_id}")

    def _look_again(self) -> None:
        """For runs that a server has made since, on a request that it never answered."""
        doubtful_until = self._progress.doubtful_until
        if doubtful_until and self._key not in self._connection.looked_at:
            over = spool.milliseconds() > doubtful_until
            self._merge_strays()
            self._connection.looked_at.add(self._key)
            if over:
                self._note(doubtful_until=0)

    def _take_artifacts(self, stray_id: str) -> None:
        """Copy what only the stray has: this machine's copies may be gone since they were sent to it."""
        missing = sorted(set(self._artifacts_of(stray_id)) - set(self._artifacts_of(self._run_id)))
        for path in missing:
            with TemporaryDirectory(prefix="retrace-merge-") as scratch:
                copy = self._client.download_artifacts(stray_id, path, scratch)
                self._client.log_artifact(self._run_id, copy, path.rpartition("/")[0] or None)

    def _artifacts_of(self, run_id: str, folder: str | None = None) -> Iterator[str]:
        for entry in self._client.list_artifacts(run_id, folder):
            if entry.is_dir:
                yield from self._artifacts_of(run_id, entry.path)
            else:
                yield entry.path

    def _take_models(self, stray_id: str) -> None:
        from pipeline.tracking.logged_model import take_models

        take_models(self._connection, stray_id, self._run_id)


def _shown(milliseconds: int) -> str:
    """A time as people and programs read it, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))
