"""`retrace log` and `history`: which run made what is here, and how often it came back."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli, params
from pipeline.commands.history import history
from pipeline.commands.log import log
from pipeline.commands.text import opened
from pipeline.errors import Mistake
from pipeline.lineage import hashes, host, repository, reuse
from pipeline.tracking import sync
from pipeline.tracking.store import open_store
from tests.conftest import ROOT
from tests.pipeline.commands.conftest import STAGES, land, make


def shown(capsys) -> list[list[str]]:
    """The table that was printed, without its header."""
    lines = capsys.readouterr().out.splitlines()[1:]
    return [re.split("  +", line) for line in lines if "  " in line]


def reused_by_stage(capsys) -> dict[str, str]:
    history(50, None)
    return {f"{row[1]} {row[2]}": row[-1] for row in shown(capsys) if row[-1] != "-"}


def test_every_output_has_the_run_that_made_it(project, capsys):
    assert log(None) == 0
    rows = shown(capsys)
    assert [(row[0], row[1]) for row in rows] == [(stage, out) for stage, (_, outs) in STAGES.items() for out in outs]
    store = open_store(params.load())
    commit = repository.tree(project).commit[:8]
    for stage, path, digest, name, run_id, _, code, machine, status, reused in rows:
        run = store.run(run_id)
        assert (run.stage, run.name) == (stage, name)
        assert run.tags[f"retrace.out.{path}"] == hashes.md5(Path(path))
        assert hashes.md5(Path(path)).startswith(digest)
        assert (code, machine, status, reused) == (commit, "this machine", "FINISHED", "-")


@pytest.mark.parametrize("what", ["prepare", "data/test", "data/test/made"])
def test_one_stage_or_output(project, capsys, what):
    assert log(what) == 0
    assert [row[1] for row in shown(capsys)] == (["data/prepared", "data/test"] if what == "prepare" else ["data/test"])


def test_what_is_no_stage_and_no_output(project):
    with pytest.raises(Mistake, match=r"prepar: neither a stage nor an output.*did you mean 'prepare'"):
        log("prepar")


def test_what_nobody_has_made_is_told(project, capsys):
    (project / "data" / "test" / "made").write_text("by hand")
    assert log("data/test") == 1
    said = capsys.readouterr().out
    assert "data/test: not what dvc.lock has" in said
    assert "data/test: no run in MLflow has made this content" in said


def test_an_output_that_is_not_there_is_known_by_dvc_lock(project, capsys):
    shutil.rmtree(project / "artifacts" / "model")
    assert log("train") == 1
    said = capsys.readouterr().out
    assert "train-" in said
    assert "`dvc checkout` brings it back" in said


def test_another_machine_is_told(project, capsys, monkeypatch):
    monkeypatch.setattr(host, "machine", lambda: "f" * 16)
    log("train")
    assert shown(capsys)[0][7] == "another machine"


def test_runs_that_wait_are_told(project, capsys):
    make("train", "2")
    assert log("train") == 1
    assert "1 runs are not sent yet: `retrace sync`" in capsys.readouterr().err


def test_without_a_database(project):
    (project / "mlflow.db").unlink()
    with pytest.raises(Mistake, match=r"mlflow.db: not found: no run was recorded there yet"):
        log(None)


def test_a_server_that_is_not_there(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(Mistake, match=r"http://127.0.0.1:9: cannot be read"):
        log(None)


def test_history_is_newest_first_and_limited(project, capsys):
    history(3, None)
    rows = shown(capsys)
    assert [row[1] for row in rows] == ["evaluate", "train", "search"]
    assert rows[0][6] == "test/accuracy 0.9876"
    history(20, "trial")
    assert [row[2] for row in shown(capsys)] == ["trial-001", "trial-000"]
    history(20, "nonsense")
    assert capsys.readouterr().out == "no runs of nonsense\n"


# --- reuse ------------------------------------------------------------------------------------------------------------


def test_what_a_run_makes_is_no_reuse(project, capsys):
    assert reused_by_stage(capsys) == {}
    make("train", "2")
    make("evaluate", "2")
    land()
    sync(params.load())
    assert reused_by_stage(capsys) == {}


def test_what_comes_back_is_counted_once_each_time(project, restored, capsys):
    log(None)  # looked at once: what is there now is known
    capsys.readouterr()
    runs = {row[1]: row[2] for row in (history(20, None), shown(capsys))[1]}
    for times in (1, 2):
        make("train", str(times + 1))
        make("evaluate", str(times + 1))
        land()
        reuse.look()  # as the next stage does
        sync(params.load())
        restored()
        for _ in range(2):  # looking twice counts once
            expected = {f"{stage} {runs[stage]}": str(times) for stage in ("train", "evaluate")}
            assert reused_by_stage(capsys) == expected
    store = open_store(params.load())
    run = store.maker("artifacts/model", hashes.md5(Path("artifacts/model")))
    assert run.tags["retrace.reused"] == "2"
    log("train")
    assert shown(capsys)[0][-1] == "2 times"


def test_a_result_that_has_landed_counts_when_it_comes_back(project, restored, capsys):
    log(None)
    made = make("train", "2")
    land()
    reuse.look()
    other = Path("artifacts/model/made").read_text()
    restored()
    reuse.look()
    Path("artifacts/model/made").write_text(other)
    land()
    sync(params.load())
    capsys.readouterr()
    assert reused_by_stage(capsys)[f"train train-{made[:8]}"] == "1"


def test_the_same_result_made_again_on_purpose_is_no_reuse(project, capsys):
    log(None)
    capsys.readouterr()
    make("train")
    land()
    sync(params.load())
    assert reused_by_stage(capsys) == {}


def test_a_fresh_folder_counts_what_another_machine_made_alone(project, capsys, monkeypatch):
    (project / ".retrace" / "reuse.json").unlink()
    assert reused_by_stage(capsys) == {}
    (project / ".retrace" / "reuse.json").unlink()
    monkeypatch.setattr(host, "machine", lambda: "f" * 16)
    counted = reused_by_stage(capsys)
    assert {name.split()[0] for name in counted} == set(STAGES)
    assert set(counted.values()) == {"1"}


def test_a_count_waits_for_its_run_to_be_sent(project, capsys):
    reuse.look()
    made = make("train", "2")
    land()
    reuse.look()
    make("train", "3")
    land()
    reuse.look()
    Path("artifacts/model/made").write_text("artifacts/model 2")
    land()
    assert reused_by_stage(capsys) == {}
    assert len(reuse.waiting()) == 1
    sync(params.load())
    assert reused_by_stage(capsys) == {f"train train-{made[:8]}": "1"}
    assert reuse.waiting() == []


def test_sync_brings_counts_too(project, restored):
    log(None)
    make("train", "2")
    land()
    reuse.look()
    restored()
    assert cli.main(["sync"]) == 0
    assert reuse.waiting() == []
    run = open_store(params.load()).maker("artifacts/model", hashes.md5(Path("artifacts/model")))
    assert run.reused == 1


def test_a_store_that_may_only_be_read_still_shows(project, capsys, monkeypatch):
    from pipeline.tracking.store import Store

    def refuse(store):
        raise Mistake("no, you may only read")

    monkeypatch.setattr(Store, "note_reuse", refuse)
    assert opened(params.load()) is not None
    assert "reuse is not counted: no, you may only read" in capsys.readouterr().err


def test_a_temporary_experiment_folder_is_not_looked_at(project, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(project.parent))
    assert not reuse.look()
    assert not (project.parent / ".retrace").exists()


def test_a_damaged_record_begins_anew(project):
    (project / ".retrace" / "reuse.json").write_text("{nonsense")
    assert reuse.look()
    assert json.loads((project / ".retrace" / "reuse.json").read_text())["lock"]
    assert not reuse.look()


TINY = """
from pathlib import Path
from pipeline import params
from pipeline.tracking import open_run

with open_run("make", params.load(), [Path("in")], [Path("out")]):
    Path("out").write_text(Path("in").read_text() * 2)
"""


def test_dvc_brings_a_result_back_from_its_cache(tmp_path, monkeypatch, capsys):
    """With the real DVC: no run, but a count."""
    text = (ROOT / "params.yaml").read_text().replace("drain_seconds: 60.0", "drain_seconds: 0.0")
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "dvc.yaml").write_text("stages: {make: {cmd: python make.py, deps: [in, make.py], outs: [out]}}\n")
    (tmp_path / "make.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*words):
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout

    run("git", "init", "-q")
    run(sys.executable, "-m", "dvc", "init", "-q")
    said = []
    for content in ("a", "b", "a"):
        Path("in").write_text(content)
        said.append(run(sys.executable, "-m", "dvc", "repro"))
        reuse.look()
    assert "is cached - skipping run" in said[2]
    assert "is cached" not in said[0] + said[1]
    assert Path("out").read_text() == "aa"
    sync(params.load())
    assert log(None) == 0
    (row,) = shown(capsys)
    assert (row[0], row[1], row[-1]) == ("make", "out", "once")
    history(20, None)
    assert [row[-1] for row in shown(capsys)] == ["-", "1"]
