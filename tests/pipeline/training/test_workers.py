"""Processes side by side: each does many orders, says what went wrong, and none is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import Mistake
from pipeline.training import workers
from pipeline.training.workers import WorkerLostError, Workers

ROOT = Path(__file__).parents[3]


# --- what they are told to do: functions that another process can import ----------------------------------------------


def number_and_process(order: int) -> tuple[int, int]:
    time.sleep(0.05)  # so that no process has done all before another has begun
    return order, os.getpid()


def mistake(order: str) -> None:
    raise Mistake("params.yaml: first", order)


def full_disk(order: str) -> None:
    raise OSError(28, "No space left on device", order)


class Unsendable(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def error_of_ours(order: str) -> None:
    raise Unsendable(order, "!")


def die(order: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(order: str) -> None:
    os._exit(7)


def wait_to_be_ended(folder: str) -> None:
    """Leaves its process's number, and a word where it was interrupted rather than killed."""
    (Path(folder) / str(os.getpid())).touch()
    try:
        while True:
            time.sleep(0.05)
    except KeyboardInterrupt:
        (Path(folder) / f"{os.getpid()}.interrupted").touch()
        raise


def hear_nothing(folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait_to_be_ended(folder)


# --- tests ------------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], bool]) -> None:
    last = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < last, "waited in vain"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_order_is_answered_by_processes_that_stay() -> None:
    with Workers(number_and_process, 2) as pool:
        first = list(pool.run(range(7)))
        second = list(pool.run(range(7, 20)))
    assert sorted(order for order, _ in first) == list(range(7))
    assert sorted(order for order, _ in second) == list(range(7, 20))
    processes = {process for _, process in [*first, *second]}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert not [process for process in processes if is_running(process)]


def test_what_a_user_can_mend_comes_as_it_was_raised() -> None:
    with pytest.raises(Mistake, match=r"^params\.yaml: first\nsecond$"), Workers(mistake, 1) as pool:
        list(pool.run(["second"]))
    with pytest.raises(OSError, match="No space left") as raised, Workers(full_disk, 1) as pool:
        list(pool.run(["data/x"]))
    assert (raised.value.errno, raised.value.filename) == (28, "data/x")


def test_an_error_of_ours_comes_with_its_traceback() -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?s)in error_of_ours.*Unsendable: broken!"),
        Workers(error_of_ours, 1) as p,
    ):
        list(p.run(["broken"]))


@pytest.mark.parametrize(("work", "how"), [(die, "was ended by SIGKILL"), (leave, "ended by itself with status 7")])
def test_a_process_that_vanishes_is_told_with_its_order(work: Callable[[str], None], how: str) -> None:
    with pytest.raises(WorkerLostError, match=how) as raised, Workers(work, 2) as pool:
        list(pool.run(["the order"]))
    assert raised.value.order == "the order"


def test_a_process_that_vanished_while_it_had_nothing_to_do_is_told() -> None:
    with Workers(number_and_process, 1) as pool:
        ((_, process),) = pool.run([0])
        os.kill(process, signal.SIGKILL)
        until(lambda: not is_running(process))
        with pytest.raises(WorkerLostError, match="was ended by SIGKILL"):
            list(pool.run([1]))


@pytest.mark.parametrize("work", [wait_to_be_ended, hear_nothing])
def test_none_outlives_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[str], None]) -> None:
    monkeypatch.setattr(workers, "wait", interrupted_once_both_are_at_work(tmp_path))
    if work is hear_nothing:
        monkeypatch.setattr(workers, "_FAREWELL_SECONDS", 0.2)
    with pytest.raises(KeyboardInterrupt), Workers(work, 2) as pool:
        list(pool.run([str(tmp_path), str(tmp_path)]))
    found = [int(file.name) for file in tmp_path.iterdir() if file.suffix == ""]
    assert len(found) == 2
    assert not [process for process in found if is_running(process)]
    interrupted = len(list(tmp_path.glob("*.interrupted")))
    assert interrupted == (2 if work is wait_to_be_ended else 0)


def interrupted_once_both_are_at_work(folder: Path) -> Callable[[object], None]:
    """What Ctrl-C does to an owner that waits for answers."""

    def wait(pipes: object) -> None:
        until(lambda: len(list(folder.iterdir())) == 2)
        raise KeyboardInterrupt

    return wait


@pytest.mark.parametrize("work", [wait_to_be_ended, hear_nothing])
def test_they_end_when_their_owner_is_killed(tmp_path: Path, work: Callable[[str], None]) -> None:
    code = (
        "from pipeline.training.workers import Workers\n"
        f"from tests.pipeline.training.test_workers import {work.__name__} as work\n"
        f"with Workers(work, 2) as pool: next(pool.run([{str(tmp_path)!r}]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, start_new_session=True)
    until(lambda: bool(list(tmp_path.iterdir())))
    owner.kill()
    owner.wait()
    (at_work,) = (int(file.name) for file in tmp_path.iterdir() if file.suffix == "")
    until(lambda: not is_running(at_work))
    assert (tmp_path / f"{at_work}.interrupted").exists() == (work is wait_to_be_ended)
    until(lambda: not any_in_group(owner.pid))  # the idle one too, and what multiprocessing itself had started


def any_in_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
