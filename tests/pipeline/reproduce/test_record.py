import dataclasses
import hashlib

import pytest

from pipeline.errors import Mistake
from pipeline.reproduce import record
from tests.pipeline.reproduce.conftest import Server, recorded

MD5 = "a" * 32
LINEAGE = {"dependencies.json": {"data/prepared": f"{MD5}.dir"}, "outputs.json": {"artifacts/model": f"{MD5}.dir"}}


def target(tmp_path, files, run_id="abc", **changes):
    run = recorded("abc", **changes)
    return record.target(Server([(run, files)]), run_id, tmp_path)


def test_a_run_with_its_lineage(tmp_path):
    found, said = target(
        tmp_path, {**LINEAGE, "packages.txt": "Numpy_x==2.0+cpu\n", "environment.json": {"python": "3.11.9"}}
    )
    assert said is None
    assert found.dependencies == {"data/prepared": f"{MD5}.dir"}
    assert found.packages == {"python": "3.11.9", "numpy-x": "2.0+cpu"}
    assert found.contradictions == ()


@pytest.mark.parametrize(
    ("changes", "files", "words"),
    [
        ({"is_deleted": True}, LINEAGE, ["deleted", "mlflow runs restore"]),
        ({"status": "KILLED"}, LINEAGE, ["KILLED", "finished run"]),
        ({"stage": "study", "tags": {"retrace.study": "cost"}}, LINEAGE, ["no stage", "`retrace study cost`"]),
        ({}, None, ["no lineage", "dvc repro --force --single-item train"]),
        ({"tags": {"retrace.commit": "--upload-pack=evil"}}, LINEAGE, ["names no commit"]),
        ({}, {**LINEAGE, "outputs.json": ["x"]}, ["outputs.json", "damaged"]),
        ({}, {**LINEAGE, "dependencies.json": {"x": "no hash"}}, ["dependencies.json", "damaged"]),
        ({}, {**LINEAGE, "environment.json": "{"}, ["environment.json", "damaged"]),
    ],
)
def test_a_run_that_cannot_be_reproduced_names_the_remedy(tmp_path, changes, files, words):
    with pytest.raises(Mistake) as caught:
        target(tmp_path, files, **changes)
    for word in ("abc", *words):
        assert word in str(caught.value)


def test_a_run_that_is_not_ours(tmp_path):
    run = recorded("abc")
    other = dataclasses.replace(run, tags={})
    with pytest.raises(Mistake, match="abc: no run of retrace"):
        record.target(Server([(other, None)]), "abc", tmp_path)


def test_an_id_that_nobody_has(tmp_path):
    with pytest.raises(Mistake, match=r"xyz: no such run on the server; .*MLFLOW_TRACKING_URI"):
        target(tmp_path, LINEAGE, run_id="xyz")


def test_a_trial_is_reproduced_through_its_search(tmp_path):
    search = recorded("s", "search")
    trial = recorded("t", "trial", tags={"mlflow.parentRunId": "s"}, status="FAILED")
    found, said = record.target(Server([(search, LINEAGE), (trial, None)]), "t", tmp_path)
    assert found.run is search
    assert said is not None
    assert "t is a trial of the search s" in said


def test_hashes_that_tags_tell_otherwise_contradict(tmp_path):
    tags = {"retrace.out.artifacts/model": "b" * 32 + ".dir", "retrace.out.artifacts/model/part": "c" * 32}
    found, _ = target(tmp_path, LINEAGE, tags=tags)
    assert len(found.contradictions) == 1
    assert found.contradictions[0].startswith("artifacts/model: ")


def test_code_that_was_altered_after_it_was_recorded_contradicts(tmp_path):
    digest = hashlib.sha256(b"as it was").hexdigest()
    files = {
        **LINEAGE,
        "changes.diff": "altered",
        "untracked/a.py": "altered",
        "untracked.json": {"kept": {"a.py": {"sha256": digest}, "gone.py": {"sha256": digest}}},
    }
    found, _ = target(tmp_path, files, tags={"retrace.diff": digest})
    assert [line.split(":")[0] for line in found.contradictions] == [
        "lineage/changes.diff",
        "lineage/untracked/a.py",
        "lineage/untracked/gone.py",
    ]


def test_what_was_left_out_or_hidden_is_told(tmp_path):
    said = {"left_out": {"key.pem": "named like a secret"}, "redacted": {"changes.diff": "passwords"}, "kept": {}}
    found, _ = target(tmp_path, {**LINEAGE, "untracked.json": said})
    assert found.left_out == ["key.pem: named like a secret", "changes.diff: passwords"]


def test_a_stage_without_torch_is_of_a_processor_family_alone(tmp_path):
    light = {"machine": "x86_64", "torch": None, "threads": None, "python": "3.11.2"}
    heavy = {"machine": "x86_64", "torch": "2.13.0+cpu", "threads": 2, "capability": "AVX2", "gpu": None}
    for environment, names in ((light, {"processor family"}), (heavy, {*record._MACHINE.values()})):
        found, _ = target(tmp_path / str(len(names)), {**LINEAGE, "environment.json": environment})
        assert set(found.machine) == names
    assert found.machine["thread count"] == "2"
    assert found.machine["GPU"] == "none"
