"""Folders as people have them: layouts, strange names, links, leftovers."""

import os
from pathlib import Path

import pytest

from pipeline.data.sources import open_source
from pipeline.data.sources.folder import Images as Folder
from pipeline.data.text import shown
from pipeline.errors import Mistake


def make(root: Path, *names: str | bytes) -> Folder:
    for name in names:
        file = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as stream:
            stream.write(b"content of " + os.fsencode(name))
    return Folder(root)


def refused(folder: Folder) -> str:
    with pytest.raises(Mistake) as caught:
        folder.scan()
    return str(caught.value)


def test_one_folder_a_class_sorted(tmp_path: Path) -> None:
    scan = make(tmp_path, "dog/2.png", "cat/b.png", "cat/a.png", "cat/deeper/c.png").scan()
    assert scan.classes == ("cat", "dog")
    assert [found.path for found in scan.found] == ["cat/a.png", "cat/b.png", "cat/deeper/c.png", "dog/2.png"]
    assert [found.label for found in scan.found] == ["cat", "cat", "cat", "dog"]
    assert {found.split for found in scan.found} == {None}


@pytest.mark.parametrize("name", ["val", "validation"])
def test_split_layout(tmp_path: Path, name: str) -> None:
    files = [f"{split}/{label}/1.png" for split in ("train", name, "test") for label in "ab"]
    scan = make(tmp_path, *files).scan()
    assert scan.classes == ("a", "b")
    assert [(f.path, f.split) for f in scan.found if f.label == "a"] == [
        ("test/a/1.png", "test"), ("train/a/1.png", "train"), (f"{name}/a/1.png", "validation"),
    ]  # fmt: skip


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert make(tmp_path, "train/1.png", "bus/1.png").scan().classes == ("bus", "train")
    assert make(tmp_path / "2", "train/1.png", "test/1.png").scan().ignored == ()


def test_what_is_wrong_is_said_with_place_and_remedy(tmp_path: Path) -> None:
    assert "not found; set data.path" in refused(Folder(tmp_path / "nowhere"))
    (tmp_path / "file.zip").write_bytes(b"x")
    assert "not a folder" in refused(Folder(tmp_path / "file.zip"))
    (tmp_path / "empty").mkdir()
    assert "no class folder" in refused(Folder(tmp_path / "empty"))
    assert "no class folder" in refused(make(tmp_path / "flat", "1.png", "2.png"))
    assert "one class only (cat/)" in refused(make(tmp_path / "one", "cat/1.png"))
    (tmp_path / "hollow" / "dog").mkdir(parents=True)
    assert "dog/: no image in it" in refused(make(tmp_path / "hollow", "cat/1.png"))
    assert "dog/: no image in it" in refused(make(tmp_path / "hollow", "cat/1.png", "dog/notes.txt", "dog/.x.png"))
    message = refused(make(tmp_path / "unlike", "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"))
    assert "train/c/: missing" in message
    assert "test/b/: missing" in message
    message = refused(make(tmp_path / "beside", "train/a/1.png", "train/b/1.png", "test/a/1.png", "other/a/1.png"))
    assert "other/ lies beside" in message
    assert "both val/ and validation/" in refused(make(tmp_path / "both", "train/a/1", "val/a/1", "validation/a/1"))
    assert "both val/ and valid/" in refused(make(tmp_path / "too", "train/a/1", "val/a/1", "valid/a/1"))


def test_leftovers_are_left_out_and_other_files_noted(tmp_path: Path) -> None:
    names = ["a/1.png", "b/1", ".git/x.png", "a/.hidden.png", "a/Thumbs.db", "a/.DS_Store", "__MACOSX/a/1.png"]
    scan = make(tmp_path, *names, "README.md", "a/labels.csv", "a/Notes.TXT").scan()
    assert [found.path for found in scan.found] == ["a/1.png", "b/1"]
    assert [path for path, _ in scan.ignored] == ["README.md", "a/Notes.TXT", "a/labels.csv"]


STRANGE = [
    "with space/a b.png",
    "new\nline/c\nd.png",
    "emoji 🐈/🐕‍🦺.png",
    b"latin\xe9/\xff\xfe.png",
    "-rf/'\"$(x).png",
    "日本/語.png",
]


def test_strange_names(tmp_path: Path) -> None:
    source = make(tmp_path, *STRANGE)
    scan = source.scan()
    assert {os.fsencode(found.path) for found in scan.found} == {os.fsencode(name) for name in STRANGE}
    for found in scan.found:
        assert source.read(found.path) == b"content of " + os.fsencode(found.path)
        found.label.encode()
        assert "\n" not in found.label
    assert "latin\\xe9" in scan.classes
    assert "emoji 🐈" in scan.classes


def test_shown_is_one_printable_line() -> None:
    assert shown("a\nb\t\udcff\x1b[31m") == "a\\nb\\t\\xff\\x1b[31m"
    assert shown("🐕‍🦺 日本 é") == "🐕‍🦺 日本 é"


def test_two_classes_that_read_alike(tmp_path: Path) -> None:
    assert "two class folders read as" in refused(make(tmp_path, b"\xff/1.png", "\\xff/1.png"))


def test_links_are_followed_and_loops_left_out(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "x.png", "deep/y.png")
    make(tmp_path / "data", "a/1.png", "b/1.png")
    data = tmp_path / "data"
    (data / "c").symlink_to(tmp_path / "elsewhere")
    (data / "a" / "up").symlink_to("..")
    (data / "a" / "self").symlink_to("self")
    (data / "a" / "me").symlink_to(".")
    (data / "b" / "gone.png").symlink_to("nowhere.png")
    (data / "b" / "linked.png").symlink_to("../a/1.png")
    scan = Folder(data).scan()
    good = [found.path for found in scan.found if found.problem is None]
    assert good == ["a/1.png", "b/1.png", "b/linked.png", "c/deep/y.png", "c/x.png"]
    assert {found.path for found in scan.found if found.problem} == {"a/self", "b/gone.png"}
    assert {path for path, why in scan.ignored if "loop" in why} == {"a/me", "a/up"}


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    source = make(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert [found.path for found in source.scan().found] == ["a/1.png", "b/1.png"]


def test_a_relative_path_is_the_projects(tmp_path: Path) -> None:
    make(tmp_path / "pictures", "a/1.png", "b/1.png")
    assert len(open_source("folder", "pictures", tmp_path, {}).scan().found) == 2


def test_the_home_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"data\.path: ~no-such-user/x: .*; write the whole path in params\.yaml"):
        open_source("folder", "~no-such-user/x", tmp_path, {})


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "pictures", "a/1.png", "b/1.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(open_source("folder", "~/pictures", Path("/"), {}).scan().found) == 2
