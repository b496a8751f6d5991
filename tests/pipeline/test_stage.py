"""Every end of a stage: its exit status and what is said on stderr."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import stage
from pipeline.errors import ExitStatus, Mistake
from pipeline.params import Params

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Mistake("a: wrong", "b: wrong too"), ExitStatus.MISTAKE, "a: wrong\nb: wrong too\n"),
        (
            KeyboardInterrupt(),
            ExitStatus.INTERRUPTED,
            "\ninterrupted; the same command goes on from what is kept\n",
        ),
        (OSError(errno.ENOSPC, "full", "data/x"), ExitStatus.MISTAKE, "data/x: no space left on the disk"),
        (PermissionError(errno.EACCES, "no", "data/x"), ExitStatus.MISTAKE, "data/x: not permitted (no); make it"),
        (OSError(errno.EROFS, "read-only", "data/x"), ExitStatus.MISTAKE, "data/x: not permitted (read-only)"),
    ],
)
def test_what_a_user_can_mend_is_said_without_a_traceback(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise error

    assert stage.guarded(work) == status
    printed = capsys.readouterr()
    assert printed.err.startswith(said)
    assert "Traceback" not in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("error", [ValueError("ours"), OSError(errno.EIO, "broken", "data/x"), RecursionError()])
def test_an_error_of_ours_has_a_traceback_and_where_to_report_it(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise error

    assert stage.guarded(work) == ExitStatus.INTERNAL_ERROR
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "Please report it" in printed
    assert "retrace doctor" in printed


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_a_verdict_is_the_exit_status(returned: int | None, status: int) -> None:
    assert stage.guarded(lambda: returned) == status


def test_a_stage_gets_the_validated_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Params] = []
    assert stage.main(seen.append) == ExitStatus.MISTAKE
    assert seen == []
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    assert stage.main(seen.append) == ExitStatus.SUCCESS
    assert seen[0].seed == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unwinds_the_work(tmp_path: Path, number: signal.Signals) -> None:
    """In a process of its own: the half-written output vanishes, and the status says interrupted."""
    code = (
        "import sys, time; from pathlib import Path; from pipeline import paths, stage\n"
        "def work():\n"
        "    with paths.replacing(Path('data/out')) as (folder,):\n"
        "        (folder / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)\n"
        "sys.exit(stage.guarded(work))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    begun = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == ExitStatus.INTERRUPTED
    assert b"Traceback" not in said
    assert time.monotonic() - begun < 10
    assert list((tmp_path / "data").iterdir()) == []


def test_a_signal_that_a_destructor_swallowed_still_counts(capsys: pytest.CaptureFixture[str]) -> None:
    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def work() -> None:
        with suppressed_unraisable():
            Dropping()

    assert stage.guarded(work) == ExitStatus.INTERRUPTED


@contextmanager
def suppressed_unraisable() -> Iterator[None]:
    """What Python reports of an exception in a destructor is not an error here."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
