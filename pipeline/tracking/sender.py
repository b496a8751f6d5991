"""The sender: a process beside a stage that brings the spools to MLflow (`python -m pipeline.tracking.sender`).

It reads its orders as one JSON line from its standard input and works until that input ends, which is how a stage says
that it is done, and also what happens when a stage is killed. Then it has drain_seconds to finish.
"""

import gc
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

from pipeline import locks
from pipeline.tracking import spool
from pipeline.tracking.courier import (
    FIRST_PAUSE_SECONDS,
    LAST_ATTEMPTS,
    SENDER_LOCK,
    Courier,
    NoMlflow,
    Unanswered,
    log,
)
from pipeline.tracking.delivery import is_sent, is_settled, start_of
from pipeline.tracking.destination import Destination
from pipeline.tracking.run import SenderStatus

_LONGEST_PAUSE_SECONDS = 30.0


def main() -> int:
    """Follow the orders on standard input until it ends; returns a SenderStatus."""
    gc.disable()  # mlflow's import makes a million lasting objects; looking through them costs 0.6 s
    orders = json.loads(sys.stdin.buffer.readline())
    closing, finished = threading.Event(), threading.Event()
    watch = threading.Thread(target=_watch, args=(orders["drain_seconds"], closing, finished), daemon=True)
    watch.start()
    os.nice(10)  # the stage's own work comes first
    courier = Courier(Destination(**orders["target"]), log)
    status = _follow(courier, Path(orders["runs"]), orders["session"], orders["preload_model"], closing)
    finished.set()
    return status


def _watch(drain_seconds: float, closing: threading.Event, finished: threading.Event) -> None:
    """Ends the process drain_seconds after its input, whatever it is doing: what it has sent is noted in files."""
    while sys.stdin.buffer.read(4096):
        pass
    closing.set()
    if not finished.wait(drain_seconds):
        log("drain_seconds have passed; the rest is left for the next stage")
        os._exit(SenderStatus.LEFT)


def _follow(courier: Courier, runs: Path, session: str, preload_model: bool, closing: threading.Event) -> int:
    """Send again and again what there is, until the stage has ended and nothing of it is left."""
    # Not looked at again: other stages' runs, and what was sent and has not grown since, as a run does that a stage
    # goes on with. Thousands of runs cost each round 0.1 s else.
    others: set[Path] = set()
    sent = {folder: spool.size(folder) for folder in spool.spools(runs) if is_settled(folder)}
    pause, in_vain = FIRST_PAUSE_SECONDS, 0
    while True:
        last = closing.is_set()  # before looking: everything the stage wrote is then seen
        before, retry_after = courier.steps_forward, None
        try:
            folders = [folder for folder in spool.spools(runs, without=others) if sent.get(folder) != _size(folder)]
            left = courier.send(folders)
            sent |= {folder: spool.size(folder) for folder in folders if folder not in left and is_sent(folder)}
            others |= {folder for folder in left if _is_anothers(folder, session)}
            answered, complete, pause = True, set(left) <= others, FIRST_PAUSE_SECONDS
        except NoMlflow as error:
            log(f"mlflow cannot be imported: {error}")
            return SenderStatus.NO_MLFLOW
        except Unanswered as error:
            log(str(error))
            answered, complete, retry_after = False, False, error.retry_after
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        if courier.steps_forward > before:
            pause, in_vain = FIRST_PAUSE_SECONDS, 0
        else:
            in_vain = 0 if answered and not last else in_vain + 1
        if retry_after is not None:
            time.sleep(retry_after)  # the stage's end does not shorten it, but drain_seconds may
            continue
        if last:
            if complete:
                return SenderStatus.REFUSED if courier.refused else SenderStatus.SENT
            if in_vain >= LAST_ATTEMPTS:
                return SenderStatus.LEFT
            time.sleep(FIRST_PAUSE_SECONDS * in_vain)
            continue
        if not gc.isenabled() and answered:
            gc.freeze()
            gc.enable()
            if preload_model:
                _preload()
        closing.wait(pause)


def _size(folder: Path) -> int:
    try:
        return spool.size(folder)
    except FileNotFoundError:  # removed meanwhile
        return 0


def _is_anothers(folder: Path, session: str) -> bool:
    """Whether this run is another stage's, whose own sender is at it or will be."""
    start = start_of(folder)
    if start is None or spool.session_of(folder, start) == session:
        return False
    with locks.locked(folder / SENDER_LOCK, wait=False) as got:
        return not got or spool.is_alive(folder)


def _preload() -> None:
    from pipeline.tracking import logged_model

    try:
        logged_model.preload()
    except Exception:  # it is only ahead of time: sending the model reports what is wrong
        log(traceback.format_exc())


if __name__ == "__main__":
    outcome = main()
    sys.stderr.flush()
    os._exit(outcome)  # nothing is left to do but to take mlflow apart again, which costs 0.3 s
