import os
import shutil
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
