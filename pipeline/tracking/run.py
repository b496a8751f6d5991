"""A run as the stages see it: everything goes to a local spool; another process brings it to MLflow."""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import paths, state
from pipeline.errors import Mistake
from pipeline.lineage import capture, dvc_files, hashes, host, repository, reuse
from pipeline.lineage.redaction import redacted
from pipeline.params import Params
from pipeline.tracking import spool
from pipeline.tracking.destination import ENVIRONMENT, Destination, destination

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MEASURED = "measured/"  # what a metric's name begins with when it measures the machine: it is never compared
_INTERRUPTED_WAIT_SECONDS = 1.5  # at Ctrl-C the user wants the terminal back; the sender goes on by itself
_LOG_BYTES = 1 << 20  # beyond which the log is begun anew
_KEPT = "the runs are kept in .retrace/runs; the next stage or `retrace sync` sends them"
_WITH_MODEL = ("train",)  # stages whose sender imports torch ahead of time, while the stage works


def runs_folder() -> Path:
    """Where the spools of all runs of this project are."""
    return paths.state() / "runs"


@dataclass(frozen=True)
class Parent:
    """What the runs below a run must know of it. It can be pickled: they may be recorded in other processes."""

    key: str
    session: str
    source_tags: Mapping[str, str]
    work: state.Work

    @contextmanager
    def child(
        self, stage: str, name: str, params: Params, tags: Mapping[str, str] | None = None, key: str | None = None
    ) -> "Iterator[Run]":
        """A run below this one: a trial of a search, a fold, a seed.

        key: its local key; by default a function of the parent's key, the stage and the name, which no other child may
        have, so that a run that is continued finds its children again.
        """
        everything = {**self.source_tags, **(tags or {})}
        key = key or uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([self.key, stage, name])).hex
        with _recorded(
            stage, params, self.session, name, everything, self.source_tags, work=self.work, key=key, parent=self.key
        ) as run:
            yield run


class Run:
    """One logical run. Every method appends to the spool and returns within microseconds (files: their copying)."""

    def __init__(
        self, key: str, session: str, writer: spool.Writer, source_tags: Mapping[str, str], work: state.Work
    ) -> None:
        """work: what the stage does whose run, or whose run's child, this is."""
        self.key = key
        self.work = work
        self._session = session
        self._writer = writer
        self._source_tags = source_tags

    def flush(self) -> None:
        """Bring what was recorded to the disk, now: before what must not be ahead of it, such as a checkpoint."""
        self._writer.flush()

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics at `step` (optimizer steps done), now. NaN and infinities are kept."""
        self._writer.append_metrics(values, int(step), measured=False)

    def log_measurements(self, values: Mapping[str, float], step: int) -> None:
        """Record what the machine did (seconds, bytes, images/s) as metrics named `measured/...`: never compared."""
        named = {f"{MEASURED}{name}": value for name, value in values.items()}
        self._writer.append_metrics(named, int(step), measured=True)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; a later value replaces an earlier one."""
        self._writer.append({"type": "tags", "values": {name: str(value) for name, value in tags.items()}})

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Keep a copy of a file, or of a folder under its own name, as an artefact under `folder`."""
        target = "/".join(part for part in (folder, path.name) if part)
        self._writer.keep(path, f"{spool.ARTIFACTS}/{target}")
        self._writer.append({"type": "artifact", "path": target, "folder": folder})

    def keep_contents(self, folder: str, contents: Mapping[str, bytes]) -> None:
        """Keep files, by their paths under the artefacts' `folder`, of which there is only the content."""
        for path, content in contents.items():
            file = self._writer.folder / spool.ARTIFACTS / folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if len(contents) == 1:  # the others of this folder may be there already
            self._writer.append({"type": "artifact", "path": f"{folder}/{next(iter(contents))}", "folder": folder})
        else:
            self._writer.append({"type": "artifact", "path": folder, "folder": ""})

    def log_model(self, model_folder: Path, example: "NDArray[np.uint8]") -> None:
        """Keep weights, description and an input example (N x H x W x C, N >= 2: with one, the batch size would be
        frozen at export), from which the sender builds MLflow's model. Once a run."""
        import numpy as np

        if len(example) < 2:
            raise ValueError("the input example needs two images or more")
        copy = self._writer.keep(model_folder, spool.MODEL)
        np.save(copy / "example.npy", np.ascontiguousarray(example), allow_pickle=False)
        self._writer.append({"type": "model", "sha256": hashes.sha256(copy / "weights.safetensors")})

    @property
    def as_parent(self) -> Parent:
        """By which runs below this one are opened, here or in another process."""
        return Parent(self.key, self._session, self._source_tags, self.work)


@contextmanager
def open_run(
    stage: str,
    params: Params,
    inputs: Sequence[Path],
    outputs: Sequence[Path] = (),
    name: str | None = None,
    in_force: Params | None = None,
    contents: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """Record a stage as one MLflow run, with the hashes of its inputs now and of its outputs at the end.

    params: params.yaml's own. in_force: the values to record, where a search has set some of them.
    contents: hashes, by name, of inputs that are no files of the project.
    What an earlier process left of the same work is taken up: its run goes on, and `run.work.folder` has what it kept.
    The run ends FINISHED, FAILED (an exception, named in the tag retrace.error) or KILLED (Ctrl-C, SIGTERM; also a
    process that vanished). At the end, waits at most tracking.drain_seconds for MLflow to take the rest; tracking
    that does not work is said in one line and changes nothing else. Raises Mistake when an input is missing, and when
    one has changed while the stage ran.
    """
    with (
        state.held(_work(stage, params, inputs, contents)) as kept,
        _opened(stage, in_force or params, kept, outputs, name) as run,
    ):
        yield run


@contextmanager
def _opened(stage: str, params: Params, kept: state.State, outputs: Sequence[Path], name: str | None) -> Iterator[Run]:
    key = kept.run_key
    if kept.is_resumed:
        print(f"{stage}: takes up what an interrupted run of the same work has left", flush=True)
    interrupted = False
    sender = Sender(key, destination(params), params.tracking.drain_seconds, preload_model=stage in _WITH_MODEL)
    try:
        reuse.look()
        tree = repository.tree(Path.cwd(), untracked=True)
        captured = capture.capture(kept.work, params, tree)
        source = {
            "mlflow.user": host.user(),
            "mlflow.source.name": f"python -m pipeline.{stage}",
            "mlflow.source.type": "LOCAL",
            **(tree.tags if tree is not None else {}),
            **captured.tags,
        }
        read_from = kept.work.dependencies
        tags = {**source, **{f"retrace.dep.{path}": digest for path, digest in read_from.items()}}
        datasets = {path: digest for path, digest in read_from.items() if path.startswith("data/")}
        with _recorded(stage, params, key, name, tags, source, work=kept.work, key=key, datasets=datasets) as run:
            run.keep_contents(capture.FOLDER, captured.files)
            yield run
            _refuse_changes(kept.work, outputs)
            digests = {path.as_posix(): hashes.md5(path) for path in outputs}
            read = {path: hashes.md5(Path(path)) for path in dvc_files.read_of(digests) if Path(path).exists()}
            run.set_tags({f"retrace.out.{path}": digest for path, digest in {**digests, **read}.items()})
            run.keep_contents(capture.FOLDER, {capture.OUTPUTS: capture.outputs_json(digests)})
        reuse.note_made(stage, digests)
        kept.finish(digests)
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        sender.finish(_INTERRUPTED_WAIT_SECONDS if interrupted else None)


def _refuse_changes(done: state.Work, outputs: Sequence[Path]) -> None:
    """Raises Mistake where what the stage was made from has changed; its outputs go then, under DVC.

    DVC lets one stage at a time write them: what is there is this one's. Beside a stage that was started by hand
    another may have put its own there meanwhile.
    """
    try:
        state.refuse_changes(done)
    except Mistake:
        for path in outputs if "DVC_STAGE" in os.environ else ():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        raise


def _work(stage: str, params: Params, inputs: Sequence[Path], contents: Mapping[str, str] | None) -> state.Work:
    try:
        return state.work(stage, params, inputs, contents)
    except FileNotFoundError as error:
        raise Mistake(f"{error.filename}: not found; `dvc repro` makes it, or `dvc checkout` brings it back") from None


@contextmanager
def _recorded(
    stage: str,
    params: Params,
    session: str,
    name: str | None,
    tags: Mapping[str, str],
    source_tags: Mapping[str, str],
    *,
    work: state.Work,
    key: str | None = None,
    parent: str | None = None,
    datasets: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """A spool from its start record, or that of its resumption where the key's spool is there, to its end record."""
    key = key or uuid.uuid4().hex
    spool.claim(runs_folder() / key, session)
    writer = spool.Writer(runs_folder() / key)
    run = Run(key, session, writer, source_tags, work)
    try:
        writer.append(
            {
                "type": "resume" if writer.continues else "start",
                "stage": stage,
                "name": name or f"{stage}-{key[:8]}",
                "key": key,
                "parent": parent,
                "session": session,
                "params": {path: redacted(_text(value)) for path, value in params.flat().items()},  # tracking.uri
                "tags": {"retrace.stage": stage, "retrace.key": key, **tags},
                "datasets": dict(datasets or {}),
                "time": spool.milliseconds(),
            }
        )
        began = time.monotonic()
        try:
            yield run
            run.log_measurements(
                {"duration_seconds": time.monotonic() - began, "peak_memory_bytes": host.peak_memory_bytes()}, 0
            )
        except BaseException as error:
            # GeneratorExit: a child given up by a parent that is itself ending
            status = "FAILED" if isinstance(error, Exception | SystemExit) else "KILLED"
            writer.append({"type": "end", "status": status, "message": _message(error), "time": spool.milliseconds()})
            raise
        writer.append({"type": "end", "status": "FINISHED", "time": spool.milliseconds()})
    finally:
        writer.close()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _message(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:2000]


class Sender:
    """The process that brings spools to MLflow, beside the stage: mlflow's import and its network calls take neither
    the stage's interpreter lock nor its start."""

    def __init__(self, session: str, target: Destination, drain_seconds: float, preload_model: bool) -> None:
        """Start it. Its address goes through the pipe, not the command line, which every user of a machine can read."""
        self._drain_seconds = drain_seconds
        self._target = target
        paths.state().mkdir(parents=True, exist_ok=True)
        order = {
            "runs": str(runs_folder()),
            "session": session,
            "target": asdict(target),
            "drain_seconds": drain_seconds,
            "preload_model": preload_model,
        }
        with suppress(FileNotFoundError):
            if log_file().stat().st_size > _LOG_BYTES:
                log_file().unlink()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Any = None
        try:
            with log_file().open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "pipeline.tracking.sender"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=paths.root(),
                    env=_sender_environment(),
                    start_new_session=True,  # the terminal's Ctrl-C is for the stage; the sender tells MLflow of it
                )
        except OSError as error:  # no memory, no process left: that is no reason not to train
            print(f"tracking: the sender cannot be started ({error}); {_KEPT}", file=sys.stderr)
            return
        self._pipe = self._process.stdin
        with suppress(BrokenPipeError):  # it died already: finish() says so
            self._pipe.write(json.dumps(order).encode() + b"\n")
            self._pipe.flush()

    def finish(self, wait_seconds: float | None = None) -> None:
        """Let it send the rest; wait for that at most drain_seconds (or `wait_seconds`); say what is left, if any."""
        if self._process is None:
            return
        with suppress(BrokenPipeError):
            self._pipe.close()  # the end of its input is the sign that the stage is done, also when the stage is killed
        limit = self._drain_seconds + 1.0 if wait_seconds is None else min(wait_seconds, self._drain_seconds + 1.0)
        try:
            status = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            if wait_seconds is not None:
                print(f"tracking: sending goes on for at most {self._drain_seconds:g} s", file=sys.stderr)
                return
            self._process.kill()  # it overran its own limit: it must not outlive the stage
            self._process.wait()
            status = SenderStatus.LEFT
        if status != SenderStatus.SENT:
            print(f"tracking: {self._explain(status)}", file=sys.stderr)

    def _explain(self, status: int) -> str:
        if status == SenderStatus.LEFT:
            return f"{self._target.shown} has not taken everything; {_KEPT} (reasons in {log_file()})"
        if status == SenderStatus.REFUSED:
            return f"{self._target.shown} refused a run; see {log_file()}; {_KEPT}"
        if status == SenderStatus.NO_MLFLOW:
            return (
                f"mlflow cannot be imported here; the runs are kept in {runs_folder()}; where it can,"
                " `retrace sync FOLDER` sends them, with FOLDER this project's or a copy of it"
            )
        return f"the sender failed (status {status}); see {log_file()}; {_KEPT}"


class SenderStatus:
    """Exit statuses of the sender."""

    SENT = 0
    LEFT = 3
    REFUSED = 4
    NO_MLFLOW = 5


def log_file() -> Path:
    """What the senders have to say."""
    return paths.state() / "sender.log"


def _sender_environment() -> dict[str, str]:
    package_parent = str(Path(__file__).resolve().parents[2])  # importable also where retrace is not installed
    search_path = os.pathsep.join(p for p in (package_parent, os.environ.get("PYTHONPATH", "")) if p)
    return {**ENVIRONMENT, **os.environ, "PYTHONPATH": search_path, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
