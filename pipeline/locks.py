"""Advisory locks between processes (flock): gone with their holder, however it ended."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def try_lock(file: int | IO[Any], shared: bool = False) -> bool:
    """Lock an open file, without waiting; whether it was got. Many may share it, or one have it alone."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(file: int | IO[Any]) -> None:
    """Lock an open file for this process alone, waiting for whoever has it."""
    fcntl.flock(file, fcntl.LOCK_EX)


def is_locked(path: Path) -> bool:
    """Whether a process has this file for itself. Raises FileNotFoundError."""
    with path.open("rb") as stream:
        return not try_lock(stream, shared=True)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """The lock of a file that is there for nothing else. Yields whether it was got; with `wait`, always."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        if wait:
            lock(stream)
        yield wait or try_lock(stream)
