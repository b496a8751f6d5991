"""Sends spools: one attempt after another over one connection, beside a stage or in the foreground (`sync`)."""

import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.params import Params
from pipeline.tracking import spool
from pipeline.tracking.delivery import Connection, Delivery, is_sent, progress, start_of
from pipeline.tracking.destination import Destination, connect, destination, redacted
from pipeline.tracking.run import log_file, runs_folder

SENDER_LOCK = "sender.lock"  # in the spool's folder: one sender at a time
FIRST_PAUSE_SECONDS = 0.5
LAST_ATTEMPTS = 3  # unanswered ones at the end, before giving up: a dead server costs a stage 1.5 s


@dataclass
class Summary:
    """What became of the runs: their keys. `reasons` says why some are left."""

    sent: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


class Unanswered(Exception):
    """The destination did not answer, or not now: worth another attempt."""


class Courier:
    """Sends spools over one connection, which it makes when it is first needed."""

    def __init__(self, target: Destination, say: Callable[[str], None]) -> None:
        self._target = target
        self._say: Callable[[str], None] = lambda text: say(redacted(text))
        self._connection: Connection | None = None
        self.refused: dict[str, str] = {}

    def send(self, folders: Sequence[Path]) -> list[Path]:
        """One attempt at each spool, oldest first, so that parents precede their children. Returns what is unfinished
        and not refused.

        Raises Unanswered at the first attempt that the destination does not answer.
        """
        pending = [folder for folder in folders if folder.name not in self.refused and not is_sent(folder)]
        starts = {folder: start for folder in pending if (start := start_of(folder)) is not None}
        order = sorted(starts, key=lambda folder: (starts[folder]["time"], starts[folder]["parent"] or ""))
        left = [folder for folder in order if not (self._may_begin(folder, starts[folder]) and self._deliver(folder))]
        return [folder for folder in left if folder.name not in self.refused]

    def _may_begin(self, folder: Path, start: dict[str, Any]) -> bool:
        """Whether the parent, if its spool is here, is known to MLflow: another sender may be about to make it."""
        parent = folder.parent / str(start["parent"])
        if start["parent"] is None or parent.name in self.refused or not (parent / spool.EVENTS).is_file():
            return True
        return progress(parent, self._target).run_id is not None

    def _deliver(self, folder: Path) -> bool:
        with spool.locked(folder / SENDER_LOCK, wait=False) as got:
            if not got:
                return False  # another sender is at it
            try:
                connection = self._connected()
                finished = Delivery(folder, connection).send()
                for note in connection.notes:
                    self._say(note)
                connection.notes.clear()
                return finished
            except Exception as error:
                if is_lasting(error):
                    self.refused[folder.name] = f"{folder.name}: {_first_line(error)}"
                    self._say(f"refused {folder}\n{traceback.format_exc()}")
                    return False
                raise Unanswered(f"{self._target.shown}: {_first_line(error)}") from error

    def _connected(self) -> Connection:
        if self._connection is None:
            client, experiment_id = connect(self._target)
            self._connection = Connection(client, experiment_id, self._target)
        return self._connection


def log(text: str) -> None:
    """A line, or a traceback, for the senders' log."""
    log_file().parent.mkdir(parents=True, exist_ok=True)
    with log_file().open("a") as stream:
        stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{os.getpid()}] {text}\n")


def is_lasting(error: Exception) -> bool:
    """Whether trying again is of no use: the server understood and said no, or the fault is ours."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
        return 400 <= status < 500 and status not in (408, 429)
    return not isinstance(error, OSError)  # requests' errors are OSErrors too


def _first_line(error: Exception) -> str:
    return redacted((str(error).strip().splitlines() or [type(error).__name__])[0][:500])


def _unsent(runs: Path) -> set[str]:
    """The keys of what is left to send. A run that died before its start was on the disk left nothing to send."""
    return {path.name for path in spool.spools(runs) if not is_sent(path) and start_of(path) is not None}


def sync(params: Params, folder: Path | None = None) -> Summary:
    """Send every run that is not sent yet, here and now; `folder`: runs brought from another machine.

    Runs that a living process still writes are brought up to date and stay listed as left.
    """
    runs = folder or runs_folder()
    before = _unsent(runs)
    reasons: list[str] = []
    courier = Courier(destination(params), log)
    for attempt in range(LAST_ATTEMPTS):
        try:
            courier.send(spool.spools(runs))
            break
        except Unanswered as error:
            reasons.append(str(error))
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)
    left = _unsent(runs)
    return Summary(
        sent=sorted(before - left),
        left=sorted(left - set(courier.refused)),
        refused=sorted(courier.refused),
        reasons=[*dict.fromkeys([*reasons, *courier.refused.values()])],
    )
