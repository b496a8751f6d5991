"""The thin edge of every stage and command: reads and validates params.yaml, turns errors into exit statuses."""

import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

from pipeline import params
from pipeline.errors import ExitStatus, Mistake, mistake_in_environment
from pipeline.params import Params


def main(work: Callable[[Params], None]) -> int:
    """Run a stage's work on the validated parameters; return its exit status."""
    return guarded(lambda: work(params.load()))


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
        print("\ninterrupted; the same command starts what was not finished again", file=sys.stderr)
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
