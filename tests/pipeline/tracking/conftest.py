import os
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


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """An empty project folder, in which the test works."""
    monkeypatch.chdir(tmp_path)
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
