"""`retrace trace`: from a number to the raw data, and what it says where the chain is broken."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pipeline import params
from pipeline.commands import chain
from pipeline.commands.trace import trace
from pipeline.errors import Mistake
from pipeline.lineage import hashes, host, repository
from pipeline.tracking import sync
from pipeline.tracking.store import open_store
from tests.pipeline.commands.conftest import land, make


def page(project: Path) -> str:
    (file,) = (project / ".retrace" / "trace").glob("*.html")
    return file.read_text(encoding="utf-8")


def run_id_of(path: str) -> str:
    return open_store(params.load()).maker(path, hashes.md5(Path(path))).run_id


def test_a_metric_leads_to_the_raw_data(project, capsys):
    assert trace("test/accuracy") == 0
    said = capsys.readouterr().out
    first, *lines = said.splitlines()
    assert re.fullmatch(r"test/accuracy = 0.9876 in evaluate-\w{8}", first)
    stages = [match[1] for line in lines if (match := re.match(r"[│ ]*(\w+)  \1-\w{8}  FINISHED", line))]
    assert stages == ["evaluate", "train", "search", "prepare", "source"]
    assert "best of 2 trials: trial-001" in said
    assert "optimizer.lr 0.125 (params.yaml: 0.1)" in said
    assert "optimizer.lr 0.1, found by trial-001" in said  # what the train run of this test has used
    assert "1797 raw files of 10 classes" in said
    assert "data.path  00000000  the hash of the listing of the raw files" in said
    assert "BROKEN" not in said
    for path in ("artifacts/model", "artifacts/search/best.yaml", "data/prepared", "data/test", "data/source.json"):
        assert f"{path}  {hashes.md5(Path(path))[:8]}  = made by" in said
    assert f"commit {repository.tree(project).commit[:12]}, 1 files of code" in said


@pytest.mark.parametrize("what", ["artifacts/evaluation/made", "artifacts/evaluation", "run id", "name", "key"])
def test_a_file_and_a_run_lead_to_the_same_chain(project, capsys, what):
    run = open_store(params.load()).run(run_id_of("artifacts/evaluation"))
    what = {"run id": run.run_id, "name": run.name, "key": run.tags["retrace.key"]}.get(what, what)
    assert trace(what) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"evaluate  {run.name}  FINISHED")
    assert lines[2].endswith(run.run_id)
    assert any("source-" in line for line in lines)


def test_a_trial_leads_through_its_search(project, capsys):
    assert trace("trial-000") == 0
    said = capsys.readouterr().out
    assert [match[1] for match in re.finditer(r"(\w+)  \S+  FINISHED", said)] == [
        "trial",
        "search",
        "prepare",
        "source",
    ]
    assert "unknown" not in said


def test_each_run_is_told_once_and_readers_come_first(project):
    store = open_store(params.load())
    top = chain.chain(store, store.run(run_id_of("artifacts/evaluation")))
    assert [node.run.stage for node in chain.nodes(top)] == ["evaluate", "train", "search", "prepare", "source"]
    (model, test) = top.links
    assert model.maker.links[1].maker is test.maker  # prepare, on two ways


def test_a_broken_link_is_said_loudly(project, capsys):
    Path("artifacts/search/best.yaml").write_text("optimizer: {lr: 9}\n")  # by hand, after the search
    make("train", "2")
    make("evaluate", "2")
    land()
    sync(params.load())
    assert trace("test/accuracy") == 1
    said = capsys.readouterr().out
    digest = hashes.md5(Path("artifacts/search/best.yaml"))[:8]
    assert f"artifacts/search/best.yaml  {digest}  BROKEN" in said
    assert re.search(
        r"BROKEN  train-\w{8}: artifacts/search/best.yaml: no run has made this content .* search-\w{8}", said
    )
    assert "prepare-" in said  # the rest of the chain stands
    drawn = page(project)
    assert "Broken: train-" in drawn
    assert 'class="card broken"' in drawn
    assert "✗ reads artifacts/search/best.yaml" in drawn


def test_a_file_that_was_changed_since_leads_nowhere(project):
    Path("artifacts/evaluation/made").write_text("by hand")
    with pytest.raises(Mistake, match=r"no run in MLflow has made what is there now .* wrote there is evaluate-"):
        trace("artifacts/evaluation/made")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("test/acuracy", r"test/acuracy: no such file, run, or metric .* did you mean 'test/accuracy'"),
        ("params.yaml", r"params.yaml: is in no output of dvc.yaml"),
        ("f" * 32, r"no such file, run, or metric"),
        ("a 'quoted` thing", r"no such file, run, or metric"),
    ],
)
def test_what_is_nothing(project, what, message):
    with pytest.raises(Mistake, match=message):
        trace(what)


def test_several_runs_of_one_name_are_told_apart(project):
    make("search", "2")
    sync(params.load())
    with pytest.raises(Mistake, match=r"trial-000: means 2 runs: \w{32} \(trial-000\)"):
        trace("trial-000")


def test_uncommitted_code_is_told(project, capsys):
    Path("code.py").write_text("x = 2\n")
    Path("more.py").write_text("y = 2\n")
    key = make("train", "2")
    sync(params.load())
    assert trace(key) == 0
    said = capsys.readouterr().out
    assert re.search(r"with uncommitted changes \w{8} \(lineage/changes.diff\) and 1 untracked files", said)
    assert "with uncommitted changes" in page(project)


def test_what_was_hidden_is_told(project, capsys):
    Path("code.py").write_text("uri = 'http://me:hunter2@host'\n")
    key = make("train", "2")
    sync(params.load())
    trace(key)
    said = capsys.readouterr().out
    assert "passwords were hidden in its record: changes.diff" in said
    assert "hunter2" not in said + page(project)


def test_the_page_is_whole_and_fetches_nothing(project, capsys):
    trace("test/accuracy")
    assert str(project / ".retrace" / "trace") in capsys.readouterr().out
    drawn = page(project)
    svg = ET.fromstring(re.search(r"<svg.*?</svg>", drawn, re.DOTALL)[0])
    lanes = [path for path in svg.iter("path") if "marker-end" in path.attrib]
    assert len(lanes) == 5  # model, test, prepared, best.yaml, source.json: one each, however many read it
    assert len(list(svg.iter("circle"))) == 6  # of which two read data/prepared
    assert len(list(svg.iter("rect"))) == 6  # five runs and the raw files
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    for rect in svg.iter("rect"):
        x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
    assert not re.search(r"https?://|<script|<link|@import|url\((?!#)", drawn)
    assert "prefers-color-scheme: dark" in drawn
    assert hashes.md5(Path("data/prepared")) in drawn


def test_names_cannot_break_the_page(project):
    from pipeline.commands.page import page as draw

    store = open_store(params.load())
    top = chain.chain(store, store.run(run_id_of("artifacts/evaluation")))
    top.facts.append("<script>alert(1)</script>")
    assert "<script" not in draw("<b>&", top, ["<i>"])


def test_what_a_run_records_arrives_in_mlflow(project, tmp_path):
    store = open_store(params.load())
    run = store.run(run_id_of("artifacts/search"))
    copy = store.artifact(run, "lineage", tmp_path)
    names = {file.name for file in copy.iterdir()}
    assert {
        "params.yaml",
        "parameters.json",
        "dependencies.json",
        "outputs.json",
        "environment.json",
        "dvc.yaml",
    } <= names
    made = json.loads((copy / "outputs.json").read_text())
    assert made == {"artifacts/search": hashes.md5(Path("artifacts/search"))}
    read = json.loads((copy / "dependencies.json").read_text())
    assert read == {path: hashes.md5(Path(path)) for path in ("code.py", "data/prepared")}
    assert run.metrics["measured/duration_seconds"] > 0
    assert run.metrics["measured/peak_memory_bytes"] > 1 << 20
    assert run.tags["retrace.machine"] == host.machine()
    assert store.artifact(run, "lineage/nothing", tmp_path) is None
    for trial in store.children(run):
        assert trial.metrics["measured/duration_seconds"] > 0
        assert trial.tags["retrace.machine"] == host.machine()
