"""What is kept with a run, from real git repositories."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline import params, state
from pipeline.lineage import capture, hashes, host, repository
from tests.conftest import ROOT

DVC_YAML = """
stages:
  make:
    cmd: python -m pipeline.make
    deps: [code.py]
    params: [seed]
    outs: [data/made, kept.json]
"""


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@localhost", "-c", "commit.gpgsign=false", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def begin(folder: Path) -> None:
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copy(ROOT / "constraints.txt", folder)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "dvc.lock").write_text("stages: {}\n")
    (folder / "kept.json").write_text("{}")  # an output that git has
    (folder / "code.py").write_text("one = 1\ntwo = 2\n")
    (folder / "picture.bin").write_bytes(bytes(range(256)))
    (folder / ".gitignore").write_text("/data\n/.retrace\n")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project at the top of a repository, all of it committed."""
    folder = tmp_path / "project"
    folder.mkdir()
    begin(folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "all")
    monkeypatch.chdir(folder)
    return folder


def captured():
    chosen = params.load()
    return capture.capture(state.work("make", chosen), chosen, repository.tree(Path.cwd(), untracked=True))


def untracked(found):
    return json.loads(found.files["untracked.json"])


def test_a_clean_tree(project):
    found = captured()
    assert set(found.files) == {
        "params.yaml", "parameters.json", "dependencies.json", "environment.json", "packages.txt", "constraints.txt",
        "dvc.yaml", "dvc.lock",
    }  # fmt: skip
    for name in ("params.yaml", "constraints.txt", "dvc.yaml", "dvc.lock"):
        assert found.files[name] == (project / name).read_bytes()
    assert json.loads(found.files["dependencies.json"]) == {"code.py": hashes.md5(Path("code.py"))}
    assert json.loads(found.files["parameters.json"])["optimizer.lr"] == 0.1
    environment = json.loads(found.files["environment.json"])
    assert environment["seed"] == 0
    assert environment["environment"] == state.environment()
    packages = found.files["packages.txt"].decode().splitlines()
    assert packages == sorted(packages)
    assert any(line.startswith("ruamel-yaml==") for line in packages)
    assert found.tags["retrace.diff"] == found.tags["retrace.untracked"] == "none"
    assert found.tags["retrace.fingerprint"] == state.work("make", params.load()).fingerprint
    assert found.tags["retrace.machine"] == host.machine()
    assert not {"retrace.redacted", "retrace.left_out"} & set(found.tags)


def test_no_host_name_is_recorded(project):
    environment = json.loads(captured().files["environment.json"])
    assert platform.node() not in environment.values()
    assert platform.node() not in environment["platform"].split("-")


def test_the_tree_is_made_again_from_the_commit_and_what_was_captured(project, tmp_path):
    git(project, "config", "diff.noprefix", "true")  # users' settings must not shape it
    git(project, "config", "color.ui", "always")
    git(project, "config", "diff.external", "false")
    (project / "code.py").write_text("one = 1\ntwo = 3\n")
    (project / "picture.bin").write_bytes(bytes(range(255, -1, -1)))
    (project / "gone.py").write_text("x")
    git(project, "add", "gone.py")  # staged only
    (project / "new").mkdir()
    (project / "new" / "größe.py").write_text("neu = 1\n")
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    (project / "dvc.lock").write_text("stages: {make: {}}\n")  # results are no part of the code
    (project / "kept.json").write_text("[]")
    (project / "data").mkdir()
    (project / "data" / "other.py").write_text("ignored")
    found = captured()

    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(project), "again")
    difference = tmp_path / "changes.diff"
    difference.write_bytes(found.files["changes.diff"])
    git(again, "apply", str(difference))
    for name, content in found.files.items():
        if name.startswith("untracked/"):
            file = again / name.removeprefix("untracked/")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
    for name in ("code.py", "picture.bin", "gone.py", "new/größe.py", "run.sh"):
        assert (again / name).read_bytes() == (project / name).read_bytes(), name
    assert (again / "kept.json").read_text() == "{}"
    assert (again / "dvc.lock").read_text() == "stages: {}\n"
    assert found.tags["retrace.diff"] == hashlib.sha256(found.files["changes.diff"]).hexdigest()
    kept = untracked(found)["kept"]
    assert set(kept) == {"new/größe.py", "run.sh"}
    assert kept["run.sh"]["executable"]
    assert not kept["new/größe.py"]["executable"]


def test_a_project_inside_a_repository(tmp_path, monkeypatch):
    (tmp_path / "neighbour.py").write_text("1")
    folder = tmp_path / "deep" / "project"
    folder.mkdir(parents=True)
    begin(folder)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    (tmp_path / "neighbour.py").write_text("2")  # nothing of this project
    monkeypatch.chdir(folder)
    assert captured().tags["retrace.diff"] == "none"
    assert repository.tree(folder).tags["retrace.prefix"] == "deep/project/"
    (folder / "code.py").write_text("changed = 1\n")
    (folder / "new.py").write_text("new = 1\n")
    (folder / "api_token.py").write_text("t")
    git(tmp_path, "add", "deep/project/api_token.py")
    found = captured()
    assert b"deep/project/code.py" in found.files["changes.diff"]
    assert b"api_token" not in found.files["changes.diff"]
    assert b"neighbour" not in found.files["changes.diff"]
    assert found.files["untracked/new.py"] == b"new = 1\n"
    assert untracked(found)["left_out"] == {"api_token.py": "named like a secret"}
    git(tmp_path, "checkout", "-q", "--", "deep/project/code.py")


def test_what_is_left_out_and_why(project):
    secret = b"-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\n"
    (project / ".env").write_text("PASSWORD=x")
    (project / "server.pem").write_bytes(secret)
    (project / "notes.txt").write_bytes(secret)
    (project / "cloud.cfg").write_text("key AKIA0123456789ABCDEF")
    (project / "photo.jpg").write_bytes(b"jpg")
    (project / "large.csv").write_bytes(b"x" * (capture.FILE_BYTES + 1))
    (project / "link.py").symlink_to("code.py")
    (project / "fine.py").write_text("fine = 1\n")
    found = captured()
    assert untracked(found)["left_out"] == {
        ".env": "of another kind (.env)",
        "cloud.cfg": "an access token is in it",
        "large.csv": "beyond 1 MiB",
        "link.py": "no plain file",
        "notes.txt": "a private key is in it",
        "photo.jpg": "of another kind (.jpg)",
        "server.pem": "of another kind (.pem)",
    }
    assert [name for name in found.files if name.startswith("untracked/")] == ["untracked/fine.py"]
    assert b"PRIVATE KEY" not in b"".join(found.files.values())
    assert "notes.txt: a private key is in it" in found.tags["retrace.left_out"]


def test_tracked_secrets_stay_out_of_the_difference(project):
    for name in ("app.py", "settings.py", "server.pem"):
        (project / name).write_text("nothing yet\n")
    git(project, "add", ".")
    git(project, "commit", "-qm", "more")
    (project / "app.py").write_text("uri = 'http://me:hunter2@host/x'\n")
    (project / "settings.py").write_text("-----BEGIN PRIVATE KEY-----\nhunter3\n")
    (project / "server.pem").write_text("hunter4\n")
    (project / "new.yaml").write_text("uri: http://me:hunter5@host\n")
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("  uri: null ", "  uri: http://me:hunter6@host "))
    found = captured()
    everything = b"".join(found.files.values()) + json.dumps(found.tags).encode()
    assert b"hunter" not in everything
    assert set(found.tags["retrace.redacted"].splitlines()) == {"params.yaml", "changes.diff", "untracked/new.yaml"}
    assert set(untracked(found)["redacted"]) == {"params.yaml", "changes.diff", "untracked/new.yaml"}
    assert untracked(found)["left_out"] == {
        "settings.py": "a private key is in it", "server.pem": "named like a secret",
    }  # fmt: skip
    assert b"uri = 'http://***@host/x'" in found.files["changes.diff"]


def test_a_key_that_was_removed_does_not_come_out_of_the_commit(project):
    (project / "old.py").write_text("-----BEGIN PRIVATE KEY-----\nhunter\n")
    git(project, "add", ".")
    git(project, "commit", "-qm", "a mistake")
    (project / "old.py").write_text("x = 1\n")
    found = captured()
    assert "changes.diff" not in found.files
    assert found.tags["retrace.diff"] == "left out"
    assert "changes.diff: a private key is in it" in found.tags["retrace.left_out"]


def test_sizes_are_bounded(project, monkeypatch):
    (project / "code.py").write_text("x = 1\n" * 2000)
    for number in range(3):
        (project / f"part{number}.txt").write_bytes(b"y" * 1000)
    monkeypatch.setattr(capture, "DIFF_BYTES", 1 << 10)
    monkeypatch.setattr(capture, "ALL_FILES_BYTES", 2500)
    found = captured()
    assert "changes.diff" not in found.files
    assert found.tags["retrace.diff"] == "left out"
    assert set(untracked(found)["left_out"]) == {"changes.diff", "part2.txt"}


def test_many_files_that_are_left_out_are_counted(project):
    (project / "pictures").mkdir()
    for number in range(150):
        (project / "pictures" / f"{number}.jpg").touch()
    found = captured()
    assert untracked(found)["left_out"] == {"pictures/...": "150 of another kind (.jpg)"}


def test_odd_names_do_not_reach_mlflow(project):
    for name in (b"bad-\xff.py", b"two\nlines.py"):
        Path(os.fsdecode(bytes(project) + b"/" + name)).write_text("x")
    found = captured()
    assert set(untracked(found)["left_out"].values()) == {"MLflow takes no such name"}
    assert not [name for name in found.files if name.startswith("untracked/")]
    for text in found.tags.values():
        text.encode()


def test_without_git(project, monkeypatch):
    shutil.rmtree(project / ".git")
    found = captured()
    assert found.tags["retrace.diff"] == "unknown"
    assert "params.yaml" in found.files


def test_the_machine_is_told_from_others_without_its_name():
    assert len(host.machine()) == 16
    assert host.machine() == host.machine()
    machine_id = Path("/etc/machine-id")
    if machine_id.is_file() and machine_id.read_text().strip():
        assert host.machine() not in hashlib.sha256(machine_id.read_bytes().strip()).hexdigest()


def test_peak_memory_is_that_of_this_process():
    before = host.peak_memory_bytes()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert host.peak_memory_bytes() >= before
    assert host.peak_memory_bytes() > 64 << 20
