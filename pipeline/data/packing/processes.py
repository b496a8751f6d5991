"""Processes that take blocks of decoding work as they become free. None outlives whoever started them."""

import multiprocessing
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar, cast

Order = TypeVar("Order")
Answer = TypeVar("Answer")


class _Failed(NamedTuple):
    error: Exception


def in_processes(work: Callable[[Order], Answer], orders: Iterator[Order], count: int) -> Iterator[Answer]:
    """What `work` answers to each order, as soon as it is there. `orders` is asked for the next while others work.

    Forked on Linux, so that they start at once. `work` must need no lock that a thread of this process may hold: those
    of the bar, the recorded run and the watch over dvc hold none that decoding takes. Raises what `work` raises, and
    RuntimeError where a process was killed.
    """
    forks = sys.platform == "linux"
    context: Any = multiprocessing.get_context("fork" if forks else "spawn")
    processes: dict[Connection, multiprocessing.process.BaseProcess] = {}
    idle: deque[Connection] = deque()
    busy: list[Connection] = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            brought_along = [*processes, ours] if forks else []
            process = context.Process(target=_serve, args=(work, theirs, brought_along), daemon=True)
            process.start()
            theirs.close()
            processes[ours] = process
            idle.append(ours)
        while True:
            while idle and (order := next(orders, None)) is not None:
                connection = idle.popleft()
                try:
                    connection.send(order)
                except BrokenPipeError:
                    raise _lost(processes[connection]) from None
                busy.append(connection)
            if not busy:
                return
            for ready in wait(busy):
                connection = cast(Connection, ready)
                try:
                    answer = connection.recv()
                except (EOFError, OSError):  # also in the middle of an answer
                    raise _lost(processes[connection]) from None
                if isinstance(answer, _Failed):
                    raise answer.error
                busy.remove(connection)
                idle.append(connection)
                yield answer
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()
        for connection in processes:
            connection.close()


def _lost(process: multiprocessing.process.BaseProcess) -> RuntimeError:
    process.join()
    return RuntimeError(
        f"a decoding process ended with status {process.exitcode}; -9 means that it was killed, most often because"
        " memory ran out"
    )


def _serve(work: Callable[[Order], Answer], pipe: Connection, others: list[Connection]) -> None:
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the stage ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threadpool_limits(1)  # of BLAS: the processes take all cores already, and its threads would wait for one another
    for connection in others:  # ends that a fork brought along would keep a dead stage's pipes open
        connection.close()
    try:
        while True:
            try:
                pipe.send(work(pipe.recv()))
            except (EOFError, ConnectionError):  # nobody listens any more
                return
    except Exception as error:
        pipe.send(_Failed(_sendable(error)))


def _sendable(error: Exception) -> Exception:
    """The error, or its whole text where its class cannot be made again from what it keeps."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever such a class raises
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
