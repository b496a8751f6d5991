"""Locks between processes: one holder, or several readers, and none once they are dead."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import locks


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    with locks.locked(tmp_path / "lock") as first, locks.locked(tmp_path / "lock", wait=False) as second:
        assert (first, second) == (True, False)
    with locks.locked(tmp_path / "lock", wait=False) as third:
        assert third


def test_many_share_what_one_may_have_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("w") as writer, file.open() as first, file.open() as second:
        assert locks.try_lock(first, shared=True)
        assert locks.try_lock(second, shared=True)
        assert not locks.try_lock(writer)
        assert not locks.is_locked(file)
    with file.open("a") as writer:
        locks.lock(writer)
        assert locks.is_locked(file)
    assert not locks.is_locked(file)
    with pytest.raises(FileNotFoundError):
        locks.is_locked(tmp_path / "nothing")


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    code = "import os, sys, signal; from pathlib import Path; from pipeline import locks\n"
    code += "with locks.locked(Path(sys.argv[1])): print('held', flush=True); signal.pause()"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    file = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", code, file], env=environment, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert locks.is_locked(file)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert not locks.is_locked(file)
