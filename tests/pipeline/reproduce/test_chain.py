from pathlib import Path

import pytest

from pipeline.errors import Mistake
from pipeline.reproduce import chain
from pipeline.reproduce import record as records
from tests.conftest import ROOT
from tests.pipeline.reproduce.conftest import Server, recorded

DATA, POLICY, FOLDER = (f"{letter * 32}.dir" for letter in "abd")
BEST = "c" * 32


def run(run_id, stage, dependencies, outputs, commit=None):
    tags = {f"retrace.out.{path}": digest for path, digest in outputs.items()}
    if commit:
        tags["retrace.commit"] = commit
    run = recorded(run_id, stage, tags=tags)
    whole = {path: digest for path, digest in outputs.items() if path != "artifacts/search/best.yaml"}
    return run, {"dependencies.json": dependencies, "outputs.json": whole}


TRAIN = run(
    "t", "train",
    {
        "data/prepared": DATA, "data/augmented": POLICY, "artifacts/search/best.yaml": BEST,
        "pipeline/training/fit.py": "1" * 32,
    },
    {"artifacts/model": FOLDER},
)  # fmt: skip
SEARCH = run(
    "s", "search", {"data/prepared": DATA, "data/augmented": POLICY},
    {"artifacts/search": FOLDER, "artifacts/search/best.yaml": BEST},
)  # fmt: skip
PREPARE = run("p", "prepare", {"data/source.json": "e" * 32}, {"data/prepared": DATA, "data/test": FOLDER})


def chain_of(tmp_path: Path, *others) -> chain.Chain:
    server = Server([TRAIN, *others])
    target, _ = records.target(server, "t", tmp_path)
    return chain.of(target, ROOT / "dvc.yaml", server, tmp_path)


def test_the_stages_before_and_the_runs_that_made_what_they_handed_on(tmp_path):
    found = chain_of(tmp_path, SEARCH, PREPARE)
    assert [link.stage for link in found.links] == ["source", "prepare", "augment", "search", "train"]
    made = {link.stage: link.record.run.run_id if link.record else None for link in found.links}
    assert made == {"source": None, "prepare": "p", "augment": None, "search": "s", "train": "t"}
    assert found.link("prepare").expected == {"data/prepared": DATA, "data/test": FOLDER}
    assert found.link("augment").expected == {"data/augmented": POLICY}
    assert found.link("source").expected == {"data/source.json": "e" * 32}


def test_without_the_run_of_a_stage_what_was_read_of_it_is_known(tmp_path):
    assert chain_of(tmp_path).link("search").expected == {"artifacts/search/best.yaml": BEST}


def test_what_is_read_of_earlier_stages(tmp_path):
    found = chain_of(tmp_path, SEARCH, PREPARE)
    assert found.inputs(4) == {"data/prepared": DATA, "data/augmented": POLICY, "artifacts/search/best.yaml": BEST}
    assert found.inputs(3) == {"data/prepared": DATA, "data/augmented": POLICY}
    assert found.inputs(0) == {}


def test_of_several_runs_the_one_of_the_same_commit_is_taken(tmp_path):
    elsewhere = run("p0", "prepare", {}, {"data/prepared": DATA}, commit="f" * 40)
    assert chain_of(tmp_path, elsewhere, PREPARE).link("prepare").record.run.run_id == "p"
    assert chain_of(tmp_path / "2", elsewhere).link("prepare").record.run.run_id == "p0"


def test_a_run_whose_record_is_damaged_is_passed_over(tmp_path):
    damaged = (PREPARE[0], {"dependencies.json": "{", "outputs.json": {}})
    assert chain_of(tmp_path, damaged).link("prepare").record is None


def test_a_stage_that_dvc_yaml_does_not_have(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    server = Server([TRAIN])
    target, _ = records.target(server, "t", tmp_path)
    with pytest.raises(Mistake, match="no stage train"):
        chain.of(target, tmp_path / "dvc.yaml", server, tmp_path)
