"""The thin edge of every stage and command: reads and validates params.yaml, turns errors into exit statuses."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from pipeline import params
from pipeline.errors import ExitStatus, Mistake, mistake_in_environment
from pipeline.params import Params

if TYPE_CHECKING:
    import psutil

_WATCH_SECONDS = 0.5


def main(work: Callable[[Params], None]) -> int:
    """Run a stage's work on the validated parameters; return its exit status. It ends when its `dvc` is gone."""
    if "DVC_STAGE" in os.environ:
        _end_with_dvc()
    return guarded(lambda: work(params.load()))


def _end_with_dvc() -> None:
    """Have this process interrupted when the `dvc` that started it is killed: it would work on for nobody, beside the
    next one.

    The kernel's own signal (PR_SET_PDEATHSIG) does not serve: a shell may stand between the two and live on.
    """
    import psutil

    try:
        ancestors = psutil.Process().parents()
        parent = next((process for process in ancestors if "dvc" in " ".join(process.cmdline())), None)
    except psutil.NoSuchProcess:
        parent = None
    if parent is None:
        return  # the variable was set by hand, or dvc is gone already: the lock on the state keeps two apart

    def watch() -> None:
        while _is_running(parent):
            time.sleep(_WATCH_SECONDS)
        print("dvc is gone; this stage ends too", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch-dvc", daemon=True).start()


def _is_running(process: "psutil.Process") -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def guarded(work: Callable[[], int | None]) -> int:
    """Run `work`; return its exit status, or the one that fits its error, said on stderr."""
    terminated = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt  # unwinds like Ctrl-C: outputs are whole or absent, the run is marked as killed

    signal.signal(signal.SIGTERM, terminate)
    try:
        status = work() or ExitStatus.SUCCESS
        if terminated:  # the interrupt came within a destructor, where Python drops exceptions
            raise KeyboardInterrupt
        return status
    except Mistake as mistake:
        return _refuse(mistake)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from what is kept", file=sys.stderr)
        return ExitStatus.INTERRUPTED
    except OSError as error:
        mistake_found = mistake_in_environment(error)
        if mistake_found is not None:
            return _refuse(mistake_found)
        return _report()
    except Exception:
        return _report()


def _refuse(mistake: Mistake) -> int:
    for line in mistake.lines:
        print(line, file=sys.stderr)
    return ExitStatus.MISTAKE


def _report() -> int:
    traceback.print_exc()
    print(
        "This is an error in retrace, not in your use of it. Please report it with the lines above, params.yaml and"
        " the output of `retrace doctor`, in the project's issue tracker.",
        file=sys.stderr,
    )
    return ExitStatus.INTERNAL_ERROR
