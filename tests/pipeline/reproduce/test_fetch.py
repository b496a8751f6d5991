import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.lineage import hashes
from pipeline.reproduce.fetch import Fetcher

FILES = {"a.txt": "one", "sub/b.txt": "two"}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose folder `out` is in DVC's cache and in a remote."""
    folder = tmp_path_factory.mktemp("fetch") / "project"
    for name, content in FILES.items():
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).write_text(content)
    script = """
from dvc.repo import Repo
repo = Repo.init(no_scm=True)
with repo.config.edit() as config:
    config["remote"]["away"] = {"url": "../away"}
    config["core"]["remote"] = "away"
repo = Repo()
repo.add("out")
repo.push()
"""
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def project(pushed: Path, tmp_path: Path) -> Path:
    shutil.copytree(pushed.parent, tmp_path / "here")
    return tmp_path / "here" / "project"


def cache(project: Path) -> Path:
    return project / ".dvc/cache/files/md5"


def remove_remote(project: Path) -> None:
    shutil.rmtree(project.parent / "away")


def is_fetched(project: Path, tmp_path: Path, digest: str) -> bool:
    """Whether it comes, and comes whole; whatever happens, the project stays as it is."""
    before = {file: file.stat().st_mtime_ns for file in (*project.rglob("out/*"), *cache(project).rglob("*"))}
    target = tmp_path / "clone" / "out"
    found = Fetcher(project, tmp_path / "scratch").fetch("out", digest, target)
    if found:
        assert {name: (target / name).read_text() for name in FILES} == FILES
        (target / "a.txt").write_text("may be changed")
    else:
        assert not target.exists()
    after = {file: file.stat().st_mtime_ns for file in (*project.rglob("out/*"), *cache(project).rglob("*"))}
    assert after == before
    return found


@pytest.fixture
def digest(pushed: Path) -> str:
    return hashes.md5(pushed / "out")


def test_from_the_cache(project, tmp_path, digest):
    shutil.rmtree(project / "out")
    remove_remote(project)
    assert is_fetched(project, tmp_path, digest)


def test_one_file_of_a_folder_by_its_own_hash(project, tmp_path, digest):
    single = hashes.md5(project / "out/sub/b.txt")
    assert Fetcher(project, tmp_path).fetch("out/sub/b.txt", single, tmp_path / "clone/out/sub/b.txt")
    assert (tmp_path / "clone/out/sub/b.txt").read_text() == "two"


def test_a_damaged_object_is_not_believed(project, tmp_path, digest):
    remove_remote(project)
    damaged = cache(project) / hashes.md5(project / "out/a.txt")[:2] / hashes.md5(project / "out/a.txt")[2:]
    shutil.rmtree(project / "out")
    damaged.chmod(0o644)
    damaged.write_text("tampered")
    assert not is_fetched(project, tmp_path, digest)


def test_from_the_projects_own_folder_while_that_is_what_was_recorded(project, tmp_path, digest):
    shutil.rmtree(cache(project))
    remove_remote(project)
    assert is_fetched(project, tmp_path, digest)
    shutil.rmtree(tmp_path / "clone")
    (project / "out/a.txt").write_text("another")
    assert not is_fetched(project, tmp_path, digest)


def test_from_the_remote_past_the_cache(project, tmp_path, digest):
    shutil.rmtree(cache(project))
    shutil.rmtree(project / "out")
    assert is_fetched(project, tmp_path, digest)
    assert not cache(project).exists()


def test_gone_everywhere_says_so(project, tmp_path, digest):
    shutil.rmtree(cache(project))
    shutil.rmtree(project / "out")
    remove_remote(project)
    fetcher = Fetcher(project, tmp_path / "scratch")
    assert not fetcher.fetch("out", digest, tmp_path / "out")
    assert "remote" in fetcher.remote_said


def test_a_listing_that_leads_elsewhere_is_not_followed(project, tmp_path):
    text = json.dumps([{"md5": hashes.md5(project / "out/a.txt"), "relpath": "../../escaped"}])
    (tmp_path / "listing").write_text(text)
    digest = hashes.md5(tmp_path / "listing")
    (cache(project) / digest[:2]).mkdir(exist_ok=True)
    (cache(project) / digest[:2] / f"{digest[2:]}.dir").write_text(text)
    assert not Fetcher(project, tmp_path / "scratch").fetch("x", f"{digest}.dir", tmp_path / "clone/x")
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "g" * 32, "a" * 64])
def test_what_is_no_hash_is_found_nowhere(project, tmp_path, digest):
    assert not Fetcher(project, tmp_path / "scratch").fetch("out", digest, tmp_path / "clone/out")
