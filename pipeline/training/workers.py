"""Processes that work side by side: each is started once, imports what the work needs once, and does order after order.

An answer must not depend on which process gave it, nor on what that process did before.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any, Generic, NamedTuple, TypeVar, cast

from pipeline.errors import Mistake

Order = TypeVar("Order")
Answer = TypeVar("Answer")

_FAREWELL_SECONDS = 3.0  # longer than a fit takes to leave; then the process is killed


class WorkerLostError(Exception):
    """A process vanished while it had an order, or before it could take one."""

    def __init__(self, order: Any, how: str) -> None:
        super().__init__(f"the process {how}")
        self.order, self.how = order, how


class _Failed(NamedTuple):
    error: Exception


class Workers(Generic[Order, Answer]):
    """`count` processes that call `work`, a module's function, on what they are given. None outlives the `with`."""

    def __init__(self, work: Callable[[Order], Answer], count: int) -> None:
        self._work = work
        self._count = count
        self._processes: dict[Connection, multiprocessing.process.BaseProcess] = {}

    def __enter__(self) -> "Workers[Order, Answer]":
        context = multiprocessing.get_context("spawn")  # torch's threads and a GPU's context do not survive a fork
        # A Ctrl-C in a process that is still starting would end in a traceback there; it is not lost here.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            for _ in range(self._count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(self._work, theirs), daemon=True)
                self._processes[ours] = process
                process.start()
                theirs.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End all processes, those at work too: their orders see a KeyboardInterrupt."""
        for process in self._processes.values():
            process.terminate()
        last = time.monotonic() + _FAREWELL_SECONDS
        for process in self._processes.values():
            process.join(max(0.0, last - time.monotonic()))
            process.kill()  # nothing, where it has ended
            process.join()
        for pipe in self._processes:
            pipe.close()

    def run(self, orders: Sequence[Order]) -> Iterator[Answer]:
        """The answers, each as soon as it is there.

        Raises WorkerLostError where a process vanished; a Mistake or OSError as `work` raised it, and a RuntimeError
        with the traceback of anything else.
        """
        waiting, idle = deque(orders), deque(self._processes)
        given: dict[Connection, Order] = {}
        while waiting or given:
            while waiting and idle:
                pipe, order = idle.popleft(), waiting.popleft()
                try:
                    pipe.send(order)
                except BrokenPipeError:
                    raise self._lost(pipe, order) from None
                given[pipe] = order
            for ready in wait(list(given)):
                pipe = cast(Connection, ready)
                try:
                    answer = pipe.recv()
                except (EOFError, ConnectionResetError):
                    raise self._lost(pipe, given[pipe]) from None
                if isinstance(answer, _Failed):
                    raise answer.error
                del given[pipe]
                idle.append(pipe)
                yield answer

    def _lost(self, pipe: Connection, order: Order) -> WorkerLostError:
        process = self._processes[pipe]
        process.join()
        status = process.exitcode or 0
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended by itself with status {status}"
        return WorkerLostError(order, how)


def _serve(work: Callable[[Order], Answer], pipe: Connection) -> None:
    """What a process does: order after order, until the pipe ends or SIGTERM comes."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the owner ends its workers
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_end_with_owner, daemon=True).start()
    try:
        while True:
            pipe.send(_done(work, pipe.recv()))
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return


def _done(work: Callable[[Order], Answer], order: Order) -> Answer | _Failed:
    try:
        return work(order)
    except (Mistake, OSError) as error:
        return _Failed(error)
    except Exception:  # it may be of a kind that cannot be sent
        return _Failed(RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough: a second would disturb what ends the records
    raise KeyboardInterrupt


def _end_with_owner() -> None:
    """A killed owner can end nobody."""
    owner = multiprocessing.parent_process()
    assert owner is not None
    wait([owner.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_FAREWELL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
