import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import params
from pipeline.params import Params

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _no_address_from_outside(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """MLflow's database with its tables and nothing in them: making one takes seconds, copying it none."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def project(tmp_path, monkeypatch, empty_database) -> Path:
    """A project folder in which nothing was run yet, and in which the test works."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    (tmp_path / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    return tmp_path


@pytest.fixture
def chosen(project) -> Callable[..., Params]:
    """The default parameters with some of `tracking` replaced."""
    return lambda **tracking: params.load(project / "params.yaml").overlaid({"tracking": tracking})


@pytest.fixture
def environment() -> dict[str, str]:
    """For a Python process that imports this repository's packages."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture
def no_mlflow(tmp_path_factory, environment) -> dict[str, str]:
    """For a Python process that cannot import mlflow, whatever is installed; nor can the processes that it starts."""
    folder = tmp_path_factory.mktemp("blocked")
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('mlflow', 'mlflow_skinny', 'sqlalchemy'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    return {**environment, "PYTHONPATH": f"{folder}{os.pathsep}{environment['PYTHONPATH']}"}


@pytest.fixture(scope="session")
def prepared_digits(tmp_path_factory) -> Path:
    """A project folder in which train can run on the embedded digits; nothing of it is in MLflow."""
    folder = tmp_path_factory.mktemp("digits") / "project"
    folder.mkdir()
    text = (REPOSITORY / "params.yaml").read_text()
    for key, value in {"epochs": 3, "drain_seconds": 0.0}.items():
        text = re.sub(rf"(?m)^(  {key}:) \S+", rf"\1 {value}", text)
    (folder / "params.yaml").write_text(text)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    for name in ("source", "prepare", "augment"):
        command = [sys.executable, "-m", f"pipeline.{name}"]
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True, timeout=120)
    (folder / "artifacts" / "search").mkdir(parents=True)
    (folder / "artifacts" / "search" / "best.yaml").write_text("{}\n")
    shutil.rmtree(folder / ".retrace")
    return folder


@pytest.fixture
def digits(prepared_digits, tmp_path, monkeypatch) -> Path:
    """A copy of it, in which the test works."""
    folder = tmp_path / "digits"
    shutil.copytree(prepared_digits, folder)
    monkeypatch.chdir(folder)
    return folder
