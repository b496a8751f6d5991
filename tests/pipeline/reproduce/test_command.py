import json
import shutil
from pathlib import Path

import pytest

from pipeline.commands import garbage
from pipeline.errors import Mistake
from pipeline.reproduce import command
from pipeline.reproduce.numbers import Difference
from pipeline.reproduce.seeds import Spread
from pipeline.reproduce.steps import Findings, Options, say
from pipeline.reproduce.verdict import DIFFERS, Verdict
from tests.conftest import ROOT
from tests.pipeline.reproduce.conftest import Server


class ReadOnly(Server):
    def note(self, run, tags, file, folder):
        raise Mistake("the server: does not take anything")


class Noting(Server):
    def note(self, run, tags, file, folder):
        self.noted = (tags, json.loads(file.read_text()), folder)


def note(server: Server, record, folder: Path) -> None:
    findings = Findings(files=["cat/1.png: gone"], spreads=[Spread("test/accuracy", 0.9, (0.8, 0.7))])
    options = Options("abc", here=True, tolerance=0.5)
    command._note_at_run(server, record({}), Verdict(DIFFERS, ("first at",)), findings, options, folder)


def test_the_verdict_is_noted_with_all_that_led_to_it(record, tmp_path):
    server = Noting([])
    note(server, record, tmp_path)
    tags, report, folder = server.noted
    assert folder == "reproductions"
    assert tags == {"retrace.reproduced": "differs", "retrace.reproduced_at": report["at"]}
    assert report["run"] == "abc"
    assert report["lines"] == ["first at"]
    assert report["raw_files_changed"] == ["cat/1.png: gone"]
    assert report["seeds"] == [{"metric": "test/accuracy", "this": 0.9, "others": [0.8, 0.7]}]


def test_a_server_that_takes_nothing_changes_no_verdict(record, tmp_path, capsys):
    note(ReadOnly([]), record, tmp_path)
    said = capsys.readouterr().out
    assert "the verdict could not be noted at the run: the server: does not take anything" in said


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.chdir(folder)
    return folder


def test_a_run_is_made_again_once_at_a_time(project):
    with (
        command._scratch("abc") as folder,
        pytest.raises(Mistake, match="abc: is being made again by another process"),
        command._scratch("abc"),
    ):
        pass
    assert folder.is_dir()
    assert [entry.name for entry in folder.parent.iterdir()] == ["abc"]


def test_what_was_left_is_begun_anew(project):
    with command._scratch("abc") as folder:
        (folder / "left").touch()
    with command._scratch("abc") as folder:
        assert list(folder.iterdir()) == []


def test_a_mistake_leaves_no_folder_and_an_interruption_names_it(project, capsys):
    with pytest.raises(Mistake), command._scratch("abc") as folder:
        raise Mistake("x")
    assert list(folder.parent.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), command._scratch("abc") as folder:
        raise KeyboardInterrupt
    assert f"left: {folder}" in capsys.readouterr().out
    assert folder.is_dir()


def test_gc_removes_what_was_kept_and_nothing_that_is_under_way(project):
    with command._scratch("kept"):
        pass
    with command._scratch("busy") as busy:
        garbage.collect(is_dry_run=False, everything=False)
        assert [entry.name for entry in busy.parent.glob("*/")] == ["busy"]


def test_what_a_server_says_does_not_steer_the_terminal(capsys):
    say(f"{Difference('a', 'b', 'c', 0.0).where}\x1b[2J é")
    assert capsys.readouterr().out == "a?[2J é\n"
