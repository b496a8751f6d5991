"""Sends spools: one attempt after another over one connection, beside a stage or in the foreground (`sync`)."""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import locks
from pipeline.errors import Mistake
from pipeline.lineage.redaction import redacted
from pipeline.params import Params
from pipeline.tracking import spool
from pipeline.tracking.delivery import Connection, Delivery, is_sent, is_settled, progress, start_of
from pipeline.tracking.destination import Destination, connect, destination
from pipeline.tracking.run import log_file, runs_folder

SENDER_LOCK = "sender.lock"  # in the spool's folder: one sender at a time
FIRST_PAUSE_SECONDS = 0.5
LAST_ATTEMPTS = 3  # in vain and in a row at the end, before giving up: a dead server costs a stage 1.5 s
LONGEST_RETRY_AFTER_SECONDS = 60.0  # a server that asks for more is asked again all the same


@dataclass
class Summary:
    """What became of the runs: their keys. `reasons` says why some are left."""

    sent: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)  # sent earlier, to another destination
    reasons: list[str] = field(default_factory=list)


class Unanswered(Exception):
    """The destination did not answer, or not now: worth another attempt.

    is_reachable: whether it did say something, so that another run may fare better.
    retry_after: the seconds that it asks to wait; None: it does not say.
    """

    def __init__(self, message: str, is_reachable: bool, retry_after: float | None) -> None:
        super().__init__(message)
        self.is_reachable = is_reachable
        self.retry_after = None if retry_after is None else min(max(retry_after, 0.0), LONGEST_RETRY_AFTER_SECONDS)


class NoMlflow(Exception):
    """mlflow cannot be imported: nothing can be sent from here."""


class Courier:
    """Sends spools over one connection, which it makes when it is first needed."""

    def __init__(self, target: Destination, say: Callable[[str], None]) -> None:
        self._target = target
        self._say: Callable[[str], None] = lambda text: say(redacted(text))
        self._connection: Connection | None = None
        self.refused: dict[str, str] = {}

    @property
    def steps_forward(self) -> int:
        """How often something was noted as sent: a measure of whether it gets on."""
        return self._connection.steps_forward if self._connection else 0

    def send(self, folders: Sequence[Path]) -> list[Path]:
        """One attempt at each spool, oldest first, so that parents precede their children. Returns what is unfinished
        and not refused.

        Raises Unanswered when the destination did not take one of them now, and NoMlflow.
        """
        starts: dict[Path, dict[str, Any]] = {}
        for folder in folders:
            with suppress(FileNotFoundError):  # removed meanwhile
                if folder.name in self.refused or is_settled(folder):
                    continue
                if (start := start_of(folder)) is not None:
                    starts[folder] = start
        order = sorted(starts, key=lambda folder: (starts[folder]["time"], starts[folder]["parent"] or ""))
        left, fault = [], None
        for folder in order:
            try:
                if not (self.may_begin(folder, starts[folder]) and self._deliver(folder)):
                    left.append(folder)
            except Unanswered as error:
                fault = fault or error
                if not error.is_reachable:
                    break
        if fault is not None:
            raise fault
        return [folder for folder in left if folder.name not in self.refused]

    def may_begin(self, folder: Path, start: dict[str, Any]) -> bool:
        """Whether the parent, if its spool is here, is known to MLflow: another sender may be about to make it."""
        parent = folder.parent / str(start["parent"])
        if start["parent"] is None or parent.name in self.refused or not (parent / spool.EVENTS).is_file():
            return True
        return progress(parent, self._target).run_id is not None

    def _deliver(self, folder: Path) -> bool:
        with locks.locked(folder / SENDER_LOCK, wait=False) as got:
            if not got:
                return False  # another sender is at it
            try:
                connection = self._connected()
                try:
                    return Delivery(folder, connection).send()
                finally:
                    for note in connection.notes:
                        self._say(note)
                    connection.notes.clear()
            except NoMlflow:
                raise
            except Exception as error:
                if is_lasting(error):
                    self.refused[folder.name] = f"{folder.name}: {_first_line(error)}"
                    self._say(f"refused {folder}\n{traceback.format_exc()}")
                    return False
                raise unanswered(error, self._target.shown) from error

    def _connected(self) -> Connection:
        if self._connection is None:
            try:
                client, experiment_id = connect(self._target)
            except ImportError as error:
                raise NoMlflow(str(error)) from error
            self._connection = Connection(client, experiment_id, self._target)
        return self._connection


def log(text: str) -> None:
    """A line, or a traceback, for the senders' log; a full disk must not stop the sending."""
    with suppress(OSError):
        log_file().parent.mkdir(parents=True, exist_ok=True)
        with log_file().open("a") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{os.getpid()}] {text}\n")


def is_lasting(error: Exception) -> bool:
    """Whether trying again is of no use: the server understood and said no, or the fault is ours."""
    from mlflow.exceptions import MlflowException
    from requests import HTTPError

    if isinstance(error, MlflowException):
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    elif isinstance(error, HTTPError) and error.response is not None:  # an artefact's
        status = error.response.status_code
    else:  # requests' other errors are OSErrors too; a database that is full or locked may be better tomorrow
        return not (isinstance(error, OSError) or type(error).__module__.startswith("sqlalchemy."))
    return 400 <= status < 500 and status not in (408, 429)


def unanswered(error: Exception, destination: str) -> Unanswered:
    """An error as the reason for another attempt."""
    from requests import ConnectionError, Timeout

    causes = list(_causes(error))
    answer = next((cause.answer for cause in causes if hasattr(cause, "answer")), None)  # see destination.connect
    silent = any(isinstance(cause, ConnectionError | Timeout) for cause in causes)
    return Unanswered(
        f"{destination}: {_first_line(error)}",
        is_reachable=not silent and (answer is None or answer.status != 429),
        retry_after=None if answer is None else answer.retry_after,
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: Exception) -> str:
    return redacted((str(error).strip().splitlines() or [type(error).__name__])[0][:500])


def _unsent(runs: Path) -> set[str]:
    """The keys of what is left to send. A run that died before its start was on the disk left nothing to send."""
    return {path.name for path in spool.spools(runs) if not is_sent(path) and start_of(path) is not None}


def _sent_elsewhere(runs: Path, target: Destination) -> list[str]:
    return [path.name for path in spool.spools(runs) if is_sent(path) and progress(path).target != target.fingerprint]


def runs_in(folder: Path) -> Path:
    """Where the runs are in what a user gives: a project's folder, its .retrace or .retrace/runs, or one run's folder.

    Raises Mistake when there are none.
    """
    remedy = "give a project's folder, its .retrace/runs, or the folder of one run in it"
    if not folder.exists():
        raise Mistake(f"{folder}: not found; {remedy}")
    if not folder.is_dir():
        raise Mistake(f"{folder}: is no folder; {remedy}")
    inside = [folder / ".retrace" / "runs", folder / "runs"] if not (folder / spool.EVENTS).is_file() else []
    runs = next((place for place in inside if place.is_dir()), folder)
    if not spool.spools(runs) and runs.name != "runs":
        raise Mistake(f"{folder}: holds no runs; {remedy}")
    if not os.access(runs, os.W_OK):
        raise Mistake(f"{runs}: cannot be written; what was sent is noted there: copy it to where it can")
    return runs


def sync(params: Params, folder: Path | None = None) -> Summary:
    """Send every run that is not sent yet, here and now; `folder`: runs brought from another machine, as in `runs_in`.

    Runs that a living process still writes are brought up to date and stay listed as left. Raises Mistake where
    mlflow is not installed, or `folder` holds no runs.
    """
    runs = runs_folder() if folder is None else runs_in(folder)
    before = _unsent(runs)
    reasons: list[str] = []
    target = destination(params)
    courier = Courier(target, log)
    attempts = 0
    while attempts < LAST_ATTEMPTS:
        progress_before = courier.steps_forward
        try:
            courier.send(spool.spools(runs))
            break
        except NoMlflow as error:
            raise Mistake(
                f"mlflow cannot be imported here ({error}); run `retrace sync` where it is installed"
            ) from None
        except Unanswered as error:
            reasons.append(str(error))
            attempts = 0 if courier.steps_forward > progress_before else attempts + 1
            if attempts < LAST_ATTEMPTS:
                time.sleep(error.retry_after or FIRST_PAUSE_SECONDS * 2**attempts)
    left = _unsent(runs)
    for key in sorted(left - set(courier.refused)):
        place = runs if runs.name == key else runs / key
        start = start_of(place)
        if start is not None and not courier.may_begin(place, start):
            reasons.append(f"{place}: belongs to the run {start['parent']} beside it, which has to be sent first")
    sent = before - left
    return Summary(
        sent=sorted(sent),
        left=sorted(left - set(courier.refused)),
        refused=sorted(courier.refused),
        elsewhere=[] if folder is None else sorted(_sent_elsewhere(runs, target)),
        reasons=[*dict.fromkeys([*reasons, *courier.refused.values()])],
    )
