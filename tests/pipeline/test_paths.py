"""Outputs are whole or absent; state belongs to the project's own root."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline import paths


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_folders_take_their_places_together_at_the_end(tmp_path: Path) -> None:
    old, new = Path("data/old"), Path("data/new")
    old.mkdir(parents=True)
    (old / "stale").write_text("x")
    with paths.replacing(old, new) as (first, second):
        (first / "a").write_text("1")
        (second / "b").write_text("2")
        assert (old / "stale").exists()
        assert not new.exists()
    assert everything(tmp_path) == {"data/old/a": b"1", "data/new/b": b"2"}
    assert old.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    target = Path("data/out")
    target.mkdir(parents=True)
    (target / "kept").write_text("x")

    def fail() -> None:
        with paths.replacing(target, Path("data/other")) as (folder, _):
            (folder / "half").write_text("1")
            raise error

    with pytest.raises(error):
        fail()
    assert everything(tmp_path) == {"data/out/kept": b"x"}
    assert [entry.name for entry in Path("data").iterdir()] == ["out"]


def test_a_file_in_the_way_is_told_before_anything_is_done(tmp_path: Path) -> None:
    first, second = Path("data/first"), Path("data/second")
    first.mkdir(parents=True)
    (first / "old").write_text("x")
    second.write_text("mine")
    with pytest.raises(NotADirectoryError, match="second"), paths.replacing(first, second):
        pytest.fail("the work was begun")
    assert everything(tmp_path) == {"data/first/old": b"x", "data/second": b"mine"}


@pytest.mark.parametrize("points_to", ["elsewhere", "nowhere"])
def test_a_link_is_replaced_and_what_it_points_to_is_left(tmp_path: Path, points_to: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("x")
    target = tmp_path / "out"
    target.symlink_to(points_to)
    with paths.replacing(target) as (folder,):
        (folder / "new").write_text("1")
    assert not target.is_symlink()
    assert everything(tmp_path) == {"elsewhere/kept": b"x", "out/new": b"1"}


def test_what_a_dead_process_left_is_swept_even_if_nobody_buried_it(tmp_path: Path) -> None:
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table of processes
    (tmp_path / f".out.abcdefgh.{zombie.pid}.tmp").mkdir()
    (tmp_path / f".file.abcdefgh.{zombie.pid}.tmp").touch()
    (tmp_path / f".file.abcdefgh.{os.getppid()}.tmp").touch()  # one at work
    with paths.replacing(tmp_path / "out"):
        paths.write_atomically(tmp_path / "file", b"x")
    assert sorted(everything(tmp_path)) == [f".file.abcdefgh.{os.getppid()}.tmp", "file"]
    zombie.wait()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    paths.write_atomically(Path("data/source.json"), b"old")
    paths.write_atomically(Path("data/source.json"), b"new")
    assert everything(tmp_path) == {"data/source.json": b"new"}
    assert Path("data/source.json").stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.write_atomically(Path("file"), b"old")
    with pytest.raises(TypeError):
        paths.write_atomically(Path("file"), "not bytes")  # type: ignore[arg-type]
    assert everything(tmp_path) == {"file": b"old"}


def test_the_root_is_here_or_the_parent_of_a_temporary_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paths.root() == tmp_path.resolve()
    parent = tmp_path / "parent"
    monkeypatch.setenv("DVC_ROOT", str(parent))
    assert paths.root() == parent.resolve()
    assert paths.state() == parent.resolve() / ".retrace"


def test_the_project_is_found_from_below(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert paths.find_project(inner) is None
    (tmp_path / "params.yaml").touch()
    assert paths.find_project(inner) is None
    (tmp_path / "dvc.yaml").touch()
    assert paths.find_project(inner) == tmp_path
    assert paths.find_project(tmp_path) == tmp_path


def test_what_a_killed_process_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    target = tmp_path / "out"
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, alive = tmp_path / f".out.abc.{ended.pid}.tmp", tmp_path / f".out.def.{os.getpid()}.tmp"
    dead.mkdir()
    alive.mkdir()
    with paths.replacing(target) as (folder,):
        (folder / "file").write_text("whole")
    assert (target / "file").read_text() == "whole"
    assert not dead.exists()
    assert alive.exists()
