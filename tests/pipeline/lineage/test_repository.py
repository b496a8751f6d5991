import subprocess
import sys

import pytest

from pipeline.lineage import hashes, repository
from pipeline.params import read_mapping

DVC_YAML = """
stages:
  make:
    cmd: mkdir -p out/b/a out/a.d && printf 1 > out/b/a/x && printf 2 > out/a.d/y && printf 3 > out/a && cp in out/ü
    deps: [in]
    outs: [out]
  use:
    cmd: cp out/a copy
    deps: [out]
    outs: [copy]
"""


def run(*command, cwd):
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def test_hashes_are_those_of_dvc_lock(tmp_path):
    (tmp_path / "in").write_bytes(b"line\r\nline\n\0")
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    dvc = (sys.executable, "-m", "dvc")
    run(*dvc, "init", "-q", "--no-scm", cwd=tmp_path)
    run(*dvc, "repro", "-q", cwd=tmp_path)
    stages = read_mapping(tmp_path / "dvc.lock")["stages"]
    seen = {entry["path"]: entry["md5"] for stage in stages.values() for entry in stage["deps"] + stage["outs"]}
    assert set(seen) == {"in", "out", "copy"}
    assert {name: hashes.md5(tmp_path / name) for name in seen} == seen


def test_a_missing_input_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        hashes.md5(tmp_path / "nothing")


def test_git_commit_and_changes(tmp_path):
    assert repository.tags(tmp_path) == {}
    run("git", "init", "-q", cwd=tmp_path)
    assert repository.tags(tmp_path) == {}  # no commit yet
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "dvc.lock").write_text("1")
    run("git", "add", ".", cwd=tmp_path)
    run("git", "-c", "user.name=n", "-c", "user.email=e@x", "commit", "-qm", "m", cwd=tmp_path)
    commit = run("git", "rev-parse", "HEAD", cwd=tmp_path)
    clean = {"mlflow.source.git.commit": commit, "retrace.commit": commit, "retrace.dirty": "false"}
    assert repository.tags(tmp_path) == clean
    (tmp_path / "dvc.lock").write_text("2")  # a result, no part of the code
    assert repository.tags(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    assert repository.tags(tmp_path) == {**clean, "retrace.dirty": "true"}


def test_no_git_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert repository.tags(tmp_path) == {}
