import subprocess
from pathlib import Path

import pytest

from pipeline.errors import Mistake
from pipeline.reproduce import workspace
from pipeline.reproduce.verdict import CannotCompare

PARAMS = "seed: 0\ndata:\n  path: null\n"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    for name, content in {
        "code.py": "a = 1\n",
        "params.yaml": PARAMS,
        "dvc.lock": "tampered",
        ".dvc/config": "",
    }.items():
        (folder / name).write_text(content)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


@pytest.fixture
def made(project, tmp_path, record):
    """Makes the clone of a run with these lineage files."""

    def make(files, **tags):
        commit = git(project, "rev-parse", "HEAD").strip()
        named = {f"retrace.{name}": value for name, value in tags.items()}
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        return workspace.prepare(record(files, tags={"retrace.commit": commit, **named}), project, scratch)

    return make


def told(project: Path) -> list[str]:
    """What git says of a repository and its references."""
    return [git(project, *words.split()) for words in ("rev-parse HEAD", "status --porcelain", "show-ref")]


def difference(project: Path) -> str:
    git(project, "add", "--all", "--intent-to-add")
    text = git(project, "diff", "--binary", "HEAD")
    git(project, "reset", "--quiet", "--hard")
    return text


def test_commit_difference_and_untracked_files_come_together(project, made):
    (project / "code.py").write_text("a = 2\n")
    (project / "new.py").write_text("b = 1\n")
    files = {
        "changes.diff": difference(project),
        "untracked/sub/tool.sh": "true\n",
        "params.yaml": PARAMS.replace("0", "3"),
    }
    files["untracked.json"] = '{"kept": {"sub/tool.sh": {"executable": true}}}'
    before = git(project, "rev-parse", "HEAD"), git(project, "status", "--porcelain"), git(project, "branch", "--all")
    clone = made(files).clone
    assert (clone / "code.py").read_text() == "a = 2\n"
    assert (clone / "new.py").read_text() == "b = 1\n"
    assert (clone / "sub/tool.sh").read_text() == "true\n"
    assert (clone / "sub/tool.sh").stat().st_mode & 0o100
    assert (clone / "params.yaml").read_text().startswith("seed: 3")
    assert not (clone / "dvc.lock").exists()
    assert str(clone.parent / "cache") in (clone / ".dvc/config.local").read_text()
    assert before == (
        git(project, "rev-parse", "HEAD"),
        git(project, "status", "--porcelain"),
        git(project, "branch", "--all"),
    )


def test_a_commit_that_is_missing_is_named(made):
    with pytest.raises(CannotCompare, match=f"commit {'d' * 40}: missing in .*git fetch"):
        made({}, commit="d" * 40)


def test_a_commit_that_no_branch_has_any_more_is_found(project, made):
    (project / "code.py").write_text("a = 5\n")
    git(project, "commit", "--quiet", "--all", "--message", "dropped")
    dropped = git(project, "rev-parse", "HEAD").strip()
    git(project, "reset", "--quiet", "--hard", "HEAD~1")
    assert (made({}, commit=dropped).clone / "code.py").read_text() == "a = 5\n"


def test_a_difference_that_was_not_recorded(made):
    with pytest.raises(CannotCompare) as caught:
        made({"untracked.json": '{"left_out": {"changes.diff": "beyond 20 MiB"}}'}, dirty="true")
    assert "not recorded: changes.diff: beyond 20 MiB" in str(caught.value)


def test_a_difference_that_does_not_fit(project, made):
    (project / "code.py").write_text("a = 2\n")
    with pytest.raises(CannotCompare, match="does not apply"):
        made({"changes.diff": difference(project).replace("-a = 1", "-a = 9")})


ESCAPE = """diff --git a/../outside b/../outside
new file mode 100644
--- /dev/null
+++ b/../outside
@@ -0,0 +1 @@
+x
"""


def test_a_difference_that_leads_out_of_the_clone_is_refused(tmp_path, made):
    with pytest.raises(CannotCompare, match="does not apply"):
        made({"changes.diff": ESCAPE})
    assert not list(tmp_path.rglob("outside"))


def test_an_untracked_file_does_not_go_through_a_link(tmp_path, project, made):
    (tmp_path / "victim").mkdir()
    (project / "out").symlink_to(tmp_path / "victim")
    with pytest.raises(Mistake, match="out/file"):
        made({"changes.diff": difference(project), "untracked/out/file": "x"})
    assert not list((tmp_path / "victim").iterdir())


def test_parameters_replace_a_link_and_not_what_it_points_to(tmp_path, project, made):
    (tmp_path / "victim").write_text("mine")
    (project / "params.yaml").unlink()
    (project / "params.yaml").symlink_to(tmp_path / "victim")
    clone = made({"changes.diff": difference(project), "params.yaml": PARAMS}).clone
    assert (tmp_path / "victim").read_text() == "mine"
    assert (clone / "params.yaml").read_text() == PARAMS


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", ".git/hooks/post-checkout", "a/.dvc/config", "", "a\\..\\x"]
)
def test_paths_that_lead_elsewhere_are_refused(made, path):
    with pytest.raises(Mistake, match="leads out of the clone"):
        made({}).place(path)


def test_a_prefix_that_leads_elsewhere_is_refused(made):
    with pytest.raises(Mistake, match=r"retrace\.prefix"):
        made({}, prefix="../../")


def test_a_project_in_a_folder_of_its_repository(tmp_path, project, record):
    git(project, "clone", "--quiet", str(project), str(tmp_path / "top"))
    inner = tmp_path / "top" / "experiments"
    (inner / ".dvc").mkdir(parents=True)
    (inner / "params.yaml").write_text(PARAMS)
    git(tmp_path / "top", "add", "--all")
    git(tmp_path / "top", "commit", "--quiet", "--message", "inner")
    tags = {"retrace.commit": git(inner, "rev-parse", "HEAD").strip(), "retrace.prefix": "experiments/"}
    (tmp_path / "scratch").mkdir()
    found = workspace.prepare(record({"params.yaml": PARAMS}, tags=tags), inner, tmp_path / "scratch")
    assert found.clone == tmp_path / "scratch/clone/experiments"
    assert (found.clone / "params.yaml").read_text() == PARAMS


@pytest.mark.parametrize("path", ["data/raw", "../sets/cats", "../../far"])
def test_a_relative_data_path_leads_to_the_projects_own(tmp_path, project, made, path):
    real = project / path
    real.resolve().mkdir(parents=True)
    (real.resolve() / "a.png").write_text("x")
    found = made({"params.yaml": PARAMS.replace("null", path)})
    assert (found.clone / path / "a.png").read_text() == "x"
    workspace.remove(found.scratch)
    assert (real / "a.png").exists()


def test_files_that_are_not_as_the_run_read_them_are_found(made, record):
    found = made({})
    run = record({})
    dependencies = {"code.py": "0" * 32, "gone.py": "1" * 32, "data/prepared": "2" * 32 + ".dir", "data.path": "3" * 64}
    altered = type(run)(run.run, run.folder, dependencies, {}, {}, ())
    assert workspace.not_as_recorded(altered, found, ("data/prepared",)) == {
        "code.py": workspace.hashes.md5(found.clone / "code.py"),
        "gone.py": None,
    }
