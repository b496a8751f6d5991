"""What all tests share: an environment without the developer's own settings, and clones of this project to run in."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# No deadline: the machine may be busy. The same examples every time: a red test must be red for the next person too.
settings.register_profile("retrace", deadline=None, derandomize=True, database=None)
settings.load_profile("retrace")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget where the developer tracks and works; find this interpreter as `python`, as DVC's stages do.

    `stage.guarded` is meant for a process of its own and sets a handler for SIGTERM, which is put back.
    """
    before = signal.getsignal(signal.SIGTERM)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def clone(tmp_path: Path) -> Callable[[], Path]:
    """Makes a fresh git clone of the working tree as it stands, committed, without outputs."""

    def make() -> Path:
        folder = tmp_path / "clone"
        make_clone(folder)
        return folder

    return make


def make_clone(folder: Path) -> None:
    """A git repository in `folder` with the files that git tracks, or would track, in their present state.

    Without dvc.lock: it is not shipped, and whoever has run `make repro` before the tests has one.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout  # fmt: skip
    for name in listed.decode().split("\0"):
        if name and name != "dvc.lock" and (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], cwd=folder, check=True)
    subprocess.run([*git, "add", "--all"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "clone"], cwd=folder, check=True)


@pytest.fixture
def params_text() -> str:
    """The params.yaml that is shipped."""
    return (ROOT / "params.yaml").read_text(encoding="utf-8")
