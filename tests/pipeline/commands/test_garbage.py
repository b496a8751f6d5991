"""`retrace gc`: what goes, what stays, and that nobody at work is disturbed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import params, paths, state
from pipeline.commands.garbage import collect
from pipeline.tracking import open_run, spool, sync
from pipeline.tracking.delivery import is_sent
from pipeline.tracking.run import runs_folder
from tests.conftest import ROOT
from tests.pipeline.commands.conftest import make


def interrupted(stage: str, seed: int) -> str:
    """A stage whose work was given up; returns its run's key."""

    def work() -> None:
        with open_run(stage, params.load().overlaid({"seed": seed}), [], [Path("data/never")]) as run:
            keys.append(run.key)
            (run.work.folder / "checkpoints").mkdir(exist_ok=True)
            (run.work.folder / "checkpoints" / "latest").write_bytes(b"x" * 5000)
            raise KeyboardInterrupt

    keys: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work()
    return keys[0]


def states() -> set[str | None]:
    return {found.run_key for found in state.kept()}


def keys() -> set[str]:
    return {folder.name for folder in spool.spools(runs_folder())}


def everything(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_size for file in (folder / ".retrace").rglob("*") if file.is_file()}


def test_what_was_sent_goes_and_what_waits_stays(project, capsys):
    waiting = make("train", "2")
    assert len(keys()) == 8
    collect(is_dry_run=True, everything=False)
    assert waiting not in capsys.readouterr().out
    assert collect(is_dry_run=False, everything=False) == 0
    assert keys() == {waiting}
    said = capsys.readouterr().out
    assert re.search(r"^[\d.]+ KiB  \.retrace/runs/\w{32}  evaluate-\w{8}: sent whole$", said, re.MULTILINE)
    assert "kept: 1 runs that MLflow has not taken whole; `retrace sync` sends them" in said
    sync(params.load())
    collect(is_dry_run=False, everything=False)
    assert keys() == set()


def test_a_dry_run_says_what_the_real_one_frees_and_does_nothing(project, capsys):
    interrupted("train", 1)
    interrupted("train", 2)
    sync(params.load())
    before = everything(project)
    collect(is_dry_run=True, everything=False)
    would = capsys.readouterr().out
    assert {file: size for file, size in everything(project).items() if file.name != "sender.lock"} == {
        file: size for file, size in before.items() if file.name != "sender.lock"
    }
    collect(is_dry_run=False, everything=False)
    did = capsys.readouterr().out
    assert did == would.replace("would free", "freed")
    gone = sum(before.values()) - sum(everything(project).values())
    shown = re.search(r"^freed ([\d.]+) KiB", did, re.MULTILINE)
    assert float(shown[1]) == pytest.approx(gone / 1024, abs=0.1)
    assert gone > 5000


def test_unfinished_states_stay_with_their_runs(project, capsys):
    """Older ones too: hours of training go on once their values are put back."""
    old, new = interrupted("train", 1), interrupted("train", 2)
    other = interrupted("search", 1)
    sync(params.load())
    collect(is_dry_run=False, everything=False)
    assert states() == keys() == {old, new, other}
    assert "kept: what search, train would go on with (--all removes it too)" in capsys.readouterr().out
    assert interrupted("train", 1) == old  # it does go on
    sync(params.load())
    collect(is_dry_run=False, everything=True)
    assert states() == keys() == set()


def test_the_children_of_a_run_that_goes_on_stay(project):
    def work() -> None:
        with open_run("search", params.load(), [], []) as run, run.as_parent.child("trial", "trial-000", params.load()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    sync(params.load())
    assert all(is_sent(folder) for folder in spool.spools(runs_folder()))
    collect(is_dry_run=False, everything=False)
    assert len(keys()) == 2


WORK = """
import sys
from pipeline import params
from pipeline.tracking import open_run, run
from tests.pipeline.commands.conftest import NoSender

run.Sender = NoSender
with open_run("train", params.load(), [], []) as run:
    run.log_metrics({"a": 1.0}, 1)
    print(run.key, flush=True)
    sys.stdin.readline()
    run.log_metrics({"a": 2.0}, 2)
"""


def test_a_stage_at_work_is_not_disturbed(project, capsys):
    process = subprocess.Popen(
        [sys.executable, "-c", WORK], cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    key = process.stdout.readline().strip()
    sync(params.load())  # so that, for the moment, nothing of it waits
    collect(is_dry_run=False, everything=True)
    assert states() == keys() == {key}
    assert "kept: what train works on now" in capsys.readouterr().out
    _, said = process.communicate("\n", timeout=60)
    assert (process.returncode, said) == (0, "")
    assert len(sync(params.load()).sent) == 1


def test_a_state_whose_result_has_landed_and_one_that_is_spoilt_go(project, capsys, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train")
    key = make("train")  # what dvc.lock has
    assert states() == {key}
    spoilt = paths.states() / "search" / ("0" * 32)
    spoilt.mkdir(parents=True)
    (spoilt / "state.json").write_text("{")
    collect(is_dry_run=False, everything=False)
    said = capsys.readouterr().out
    assert "its result is in dvc.lock" in said
    assert "a state that cannot be read" in said
    assert states() == set()


def test_what_killed_processes_and_old_pages_left_goes(project, capsys):
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = project / "artifacts" / f".model.abc.{int(process.stdout)}.tmp"
    left.mkdir()
    (left / "weights").write_bytes(b"x" * 100)
    alive = project / "artifacts" / f".model.abc.{os.getpid()}.tmp"
    alive.mkdir()
    for name in ("trace/a.html", "diverged/weights", "studies/abc/params.yaml", f"source/{'0' * 16}.json"):
        (project / ".retrace" / name).parent.mkdir(exist_ok=True, parents=True)
        (project / ".retrace" / name).write_text("x")
    collect(is_dry_run=False, everything=False)
    assert not left.exists()
    assert alive.exists()
    assert not (project / ".retrace" / "trace").exists()
    assert not list((project / ".retrace" / "studies").iterdir())
    assert (project / ".retrace" / "diverged").exists()
    collect(is_dry_run=False, everything=True)
    assert not (project / ".retrace" / "diverged").exists()
    assert not (project / ".retrace" / "source" / f"{'0' * 16}.json").exists()


def test_what_is_kept_of_the_own_source_stays(project):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(
        text.replace("source: digits", "source: archive").replace("path: null", "path: set.zip")
    )
    own = [paths.hashes_of_source("archive", "set.zip"), paths.members_of_archive(paths.root() / "set.zip")]
    others = [paths.hashes_of_source("archive", "other.zip"), paths.members_of_archive(paths.root() / "other.zip")]
    for file in (*own, *others):
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
    collect(is_dry_run=False, everything=True)
    assert [file.exists() for file in (*own, *others)] == [True, True, False, False]


def test_a_spool_that_has_grown_since_is_not_dropped(project):
    from pipeline.commands.garbage import _drop

    folder = spool.spools(runs_folder())[0]
    with (folder / spool.EVENTS).open("ab") as stream:
        stream.write(b'{"type":"tags","values":{}}\n')
    assert not _drop(folder)
    assert folder.exists()


def test_nothing_to_do(project, capsys):
    collect(is_dry_run=False, everything=True)
    capsys.readouterr()
    collect(is_dry_run=False, everything=True)
    assert capsys.readouterr().out == "freed 0 B\n"
