"""A project whose stages were recorded and sent: what the commands that look back read."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import params
from pipeline.lineage import hashes
from pipeline.tracking import open_run, run, sync
from tests.conftest import ROOT

STAGES = {  # stage -> what it reads and makes
    "source": ([], ["data/source.json"]),
    "prepare": (["data/source.json"], ["data/prepared", "data/test"]),
    "search": (["data/prepared"], ["artifacts/search"]),
    "train": (["data/prepared", "artifacts/search/best.yaml"], ["artifacts/model"]),
    "evaluate": (["data/test", "artifacts/model"], ["artifacts/evaluation"]),
}


class NoSender:
    """The tests send by themselves."""

    def __init__(self, *order: object, **named: object) -> None:
        pass

    def finish(self, wait_seconds: float | None = None) -> None:
        pass


def make(stage: str, content: str = "1") -> str:
    """Run a stage of the project in the working directory; its outputs are a function of `content`. Returns its key."""
    reads, makes = STAGES[stage]
    contents = {"data.path": "0" * 64} if stage == "source" else None
    with open_run(stage, params.load(), [*map(Path, reads)], [*map(Path, makes)], contents=contents) as recorded:
        for path in map(Path, makes):
            if path.suffix:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
                continue
            path.mkdir(parents=True, exist_ok=True)
            (path / "made").write_text(f"{path} {content}")
            (path / "more").write_text("always the same")
        if stage == "search":
            Path("artifacts/search/best.yaml").write_text(f"optimizer: {{lr: 0.{content}}}")
            for number in range(2):
                tags = {"retrace.trial": str(number)}
                chosen = params.load().overlaid({"optimizer": {"lr": 0.25 / (number + 1)}})
                with recorded.as_parent.child("trial", f"trial-{number:03d}", chosen, tags) as trial:
                    trial.log_metrics({"val/accuracy": 0.5 + number / 10}, 1)
            recorded.set_tags({"retrace.best_trial": "1"})
        if stage == "source":
            recorded.log_metrics({"source/images": 1797, "source/classes": 10}, 0)
        if stage == "evaluate":
            recorded.log_metrics({"test/accuracy": 0.9876}, 38)
    return recorded.key


def land(*stages: str) -> None:
    """Write dvc.lock as DVC does when these stages have ended with what is there."""
    text = "schema: '2.0'\nstages:\n"
    for stage in stages or STAGES:
        text += f"  {stage}:\n    outs:\n"
        for path in STAGES[stage][1]:
            text += f"    - path: {path}\n      md5: {hashes.md5(Path(path))}\n"
    Path("dvc.lock").write_text(text)


@pytest.fixture(scope="package")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All five stages, run once by hand in a committed folder, in MLflow."""
    folder = tmp_path_factory.mktemp("recorded") / "project"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    text = "stages:\n"
    for stage, (reads, makes) in STAGES.items():
        text += (
            f"  {stage}:\n    cmd: python -m pipeline.{stage}\n    deps: [code.py{''.join(f', {r}' for r in reads)}]\n"
        )
        text += f"    outs: [{', '.join(makes)}]\n"
    (folder / "dvc.yaml").write_text(text)
    (folder / "code.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("/data\n/artifacts\n/.retrace\n/mlflow.db*\n/mlartifacts\n")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@localhost", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE"):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        patch.setattr(run, "Sender", NoSender)
        for stage in STAGES:
            make(stage)
        land()
        assert len(sync(params.load()).sent) == 7
    return folder


@pytest.fixture
def project(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which the test works."""
    folder = tmp_path / "project"
    shutil.copytree(recorded, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(run, "Sender", NoSender)
    return folder


@pytest.fixture
def restored(project: Path, tmp_path: Path) -> Callable[[], None]:
    """Brings outputs and dvc.lock back as they were at first, as DVC does from its cache."""
    kept = tmp_path / "kept"
    for name in ("data", "artifacts"):
        shutil.copytree(project / name, kept / name)
    shutil.copy(project / "dvc.lock", kept)

    def restore() -> None:
        for name in ("data", "artifacts"):
            shutil.rmtree(project / name)
            shutil.copytree(kept / name, project / name)
        shutil.copy(kept / "dvc.lock", project)

    assert os.getcwd() == str(project)
    return restore
