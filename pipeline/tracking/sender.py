"""The sender: a process beside a stage that brings the spools to MLflow (`python -m pipeline.tracking.sender`).

It reads its orders as one JSON line from its standard input and works until that input ends, which is how a stage says
that it is done, and also what happens when a stage is killed. Then it has drain_seconds to finish.
"""

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

from pipeline.tracking import spool
from pipeline.tracking.courier import FIRST_PAUSE_SECONDS, LAST_ATTEMPTS, Courier, Unanswered
from pipeline.tracking.delivery import start_of
from pipeline.tracking.destination import Destination
from pipeline.tracking.run import Outcome

_POLL_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


def main() -> int:
    """Follow the orders on standard input until it ends; returns an Outcome."""
    orders = json.loads(sys.stdin.buffer.readline())
    closing, finished = threading.Event(), threading.Event()
    watch = threading.Thread(target=_watch, args=(orders["drain_seconds"], closing, finished), daemon=True)
    watch.start()
    os.nice(5)  # the stage's own work comes first
    status = _follow(orders, closing)
    finished.set()
    return status


def _watch(drain_seconds: float, closing: threading.Event, finished: threading.Event) -> None:
    """Ends the process drain_seconds after its input, whatever it is doing: what it has sent is noted in files."""
    while sys.stdin.buffer.read(4096):
        pass
    closing.set()
    if not finished.wait(drain_seconds):
        _log("drain_seconds have passed; the rest is left for the next stage")
        sys.stderr.flush()
        os._exit(Outcome.LEFT)


def _follow(orders: dict[str, object], closing: threading.Event) -> int:
    runs, session = Path(str(orders["runs"])), str(orders["session"])
    target = orders["target"]
    assert isinstance(target, dict)
    courier = Courier(Destination(**target), _log)
    pause, unanswered, preload = FIRST_PAUSE_SECONDS, 0, bool(orders["preload_model"])
    others: set[Path] = set()
    while True:
        last = closing.is_set()  # before looking: everything the stage wrote is then seen
        try:
            left = courier.send([folder for folder in spool.spools(runs) if folder not in others])
            others |= {folder for folder in left if _is_anothers(folder, session)}
            pause, unanswered = FIRST_PAUSE_SECONDS, 0
            if last:
                return Outcome.REFUSED if courier.refused else Outcome.SENT if set(left) <= others else Outcome.LEFT
            if preload:
                preload = False
                _preload()
            closing.wait(_POLL_SECONDS)
        except Unanswered as error:
            _log(str(error))
            unanswered = unanswered + 1 if last else 0
            if unanswered >= LAST_ATTEMPTS:
                return Outcome.LEFT
            if last:
                time.sleep(pause)
            else:
                closing.wait(pause)
            pause = FIRST_PAUSE_SECONDS if closing.is_set() and not last else min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _is_anothers(folder: Path, session: str) -> bool:
    """Whether a living process other than our stage writes this run: its own sender follows it."""
    start = start_of(folder)
    return start is not None and start["session"] != session and spool.is_alive(folder)


def _preload() -> None:
    from pipeline.tracking import logged_model

    try:
        logged_model.preload()
    except Exception:  # it is only ahead of time: sending the model reports what is wrong
        _log(traceback.format_exc())


def _log(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{os.getpid()}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
