"""The listing: incremental, without times, trusting no file that may have changed within a clock tick."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline import params, paths, source, tracking
from pipeline.data import listing
from pipeline.data.raw.tree import Directory
from pipeline.data.sources.folder import Images as Folder
from pipeline.errors import Mistake
from pipeline.params import Params

ROOT = Path(__file__).parents[2]


class Recorder:
    """Stands where the tracking run stands: counts the runs and keeps the metrics."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.metrics: dict[str, float] = {}

    @contextmanager
    def open_run(self, stage: str, *arguments: Any, **more: Any) -> Iterator["Recorder"]:
        self.runs.append(stage)
        yield self

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self.metrics |= values


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    found = Recorder()
    monkeypatch.setattr(tracking, "open_run", found.open_run)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("source: digits", "source: folder").replace("path: null", "path: raw")
    Path("params.yaml").write_text(text, encoding="utf-8")
    for label in "ab":
        for number in range(3):
            write(f"raw/{label}/{number}.png", f"{label}{number}".encode())
    return found


def write(name: str, content: bytes) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content)


def settled(monkeypatch: pytest.MonkeyPatch, seconds: float = 10.0) -> None:
    """As if the files had lain there for a while: a file's ctime cannot be set back."""
    now = time.time_ns
    monkeypatch.setattr(source.time, "time_ns", lambda: now() + int(seconds * 1e9))


def loaded() -> Params:
    return params.load()


def test_lists_content_and_nothing_of_the_place(recorder: Recorder) -> None:
    source.run(loaded())
    text = paths.SOURCE.read_text()
    found = listing.read(paths.SOURCE)
    assert [item.path for item in found.items][:2] == ["a/0.png", "a/1.png"]
    assert found.items[0].size == 2
    assert found.items[0].sha256 == sha("a0")
    assert str(Path.cwd()) not in text
    assert recorder.runs == ["source"]
    assert recorder.metrics["source/images"] == 6


def sha(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def test_equal_data_elsewhere_gives_equal_bytes(recorder: Recorder) -> None:
    source.run(loaded())
    first = paths.SOURCE.read_bytes()
    shutil.copytree("raw", "copy")
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("path: raw", "path: copy"))
    shutil.rmtree("data")
    source.run(loaded())
    assert paths.SOURCE.read_bytes() == first


def test_an_unchanged_listing_is_left_alone_and_opens_no_run(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settled(monkeypatch)
    source.run(loaded())
    before = paths.SOURCE.stat()
    monkeypatch.setattr(Directory, "read", lambda *_: pytest.fail("a file was read"))
    source.run(loaded())
    assert source.main() == 0
    assert paths.SOURCE.stat().st_mtime_ns == before.st_mtime_ns
    assert recorder.runs == ["source"]
    assert capsys.readouterr().out.endswith("source: 6 images of 2 classes, unchanged\n")


def test_the_short_way_sees_every_change(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(monkeypatch)
    text = Path("params.yaml").read_text()
    changes = [
        lambda: write("raw/a/0.png", b"A0"),
        lambda: write("raw/a/9.png", b"new"),
        lambda: os.unlink("raw/a/9.png"),
        lambda: os.rename("raw/a/0.png", "raw/a/7.png"),
        lambda: write("raw/a/notes.txt", b"ignored, but listed"),
        lambda: paths.SOURCE.write_bytes(b"{}"),
        lambda: paths.SOURCE.unlink(),
        lambda: Path("params.yaml").write_text(text.replace("\nseed: 0 ", "\nseed: 1 ")),
    ]
    for change in changes:
        source.run(loaded())
        assert source._is_as_left()
        change()
        assert not source._is_as_left(), change


@pytest.mark.parametrize(
    "file",
    [
        "pipeline/params/tree.py", "models/catalogue/settings.py", "pipeline/data/sources/folder.py",
        "pipeline/data/raw/layout.py", "pipeline/source.py",
    ],
)  # fmt: skip
def test_the_short_way_sees_a_change_of_the_code_that_judges(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """params.yaml may no longer be valid, or the listing another, by the new code."""
    for folder in ("pipeline", "models"):
        shutil.copytree(ROOT / folder, f"code/{folder}", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source, "__file__", str(Path.cwd() / "code/pipeline/source.py"))
    settled(monkeypatch)
    source.run(loaded())
    assert source._is_as_left()
    with open(f"code/{file}", "a") as stream:
        stream.write("# changed\n")
    assert not source._is_as_left()


def test_only_what_changed_is_read_again(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(monkeypatch)
    source.run(loaded())
    read: list[str] = []
    plain = Directory.read
    monkeypatch.setattr(Directory, "read", lambda self, path: read.append(path) or plain(self, path))
    status = os.stat("raw/b/1.png")
    write("raw/b/1.png", b"B1")  # the same size, and mtime set back: ctime and a stat tell all the same
    os.utime("raw/b/1.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    source.run(loaded())
    assert read == ["b/1.png"]
    assert {item.path: item.sha256 for item in listing.read(paths.SOURCE).items}["b/1.png"] == sha("B1")
    assert recorder.runs == ["source", "source"]


def test_a_young_file_is_not_trusted_next_time(recorder: Recorder) -> None:
    source.run(loaded())  # files written a moment ago
    assert not source._is_as_left()
    write("raw/a/0.png", b"A0")
    source.run(loaded())
    assert listing.read(paths.SOURCE).items[0].sha256 == sha("A0")


def test_a_damaged_cache_is_made_again(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(monkeypatch)
    source.run(loaded())
    for file in Path(".retrace/source").iterdir():
        file.write_bytes(b"\x00{")
    source.run(loaded())
    assert source._is_as_left()


def test_a_link_to_nowhere_is_listed_as_bad(recorder: Recorder) -> None:
    Path("raw/a/gone.png").symlink_to("nowhere")
    source.run(loaded())
    bad = [item for item in listing.read(paths.SOURCE).items if item.problem]
    assert [(item.path, item.sha256) for item in bad] == [("a/gone.png", None)]


def test_missing_folder_is_a_mistake_with_nothing_written(recorder: Recorder) -> None:
    shutil.rmtree("raw")
    with pytest.raises(Mistake, match=r"set data\.path in params\.yaml"):
        source.run(loaded())
    assert not paths.SOURCE.exists()
    assert recorder.runs == []


def test_a_file_that_vanishes_while_it_is_listed(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Folder.scan
    looks: list[Any] = []

    def scan(self: Folder) -> Any:
        found = plain(self)
        if looks:  # at the first, for the stamp, it is there
            os.unlink("raw/b/1.png")
        looks.append(found)
        return found

    monkeypatch.setattr(Folder, "scan", scan)
    with pytest.raises(Mistake, match=r"b/1\.png: gone while it was listed; run again"):
        source.run(loaded())
    assert not paths.SOURCE.exists()


def test_a_file_that_would_fill_the_memory_is_not_opened(recorder: Recorder) -> None:
    with open("raw/a/backup.img", "wb") as stream:
        stream.truncate(5 << 30)  # takes no room on the disk
    source.run(loaded())
    bad = {item.path: item.problem for item in listing.read(paths.SOURCE).items if item.problem}
    assert list(bad) == ["a/backup.img"]
    assert "not opened" in str(bad["a/backup.img"])


def test_relative_paths_are_the_roots_in_a_temporary_folder(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "exp"
    elsewhere.mkdir()
    shutil.copy("params.yaml", elsewhere)
    monkeypatch.setenv("DVC_ROOT", str(Path.cwd()))
    monkeypatch.chdir(elsewhere)
    source.run(loaded())
    assert len(listing.read(elsewhere / paths.SOURCE).items) == 6
    assert not (elsewhere / ".retrace").exists()


def test_strange_names_survive_the_listing(recorder: Recorder) -> None:
    name = os.fsdecode(b"raw/a/\xff\n.png")
    write(name, b"x")
    source.run(loaded())
    assert os.fsdecode(b"a/\xff\n.png") in [item.path for item in listing.read(paths.SOURCE).items]
