"""A project in which studies run at the smallest size; what their data are made by is shared by all tests."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import cli
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing waits for MLflow here."""
    folder = tmp_path_factory.mktemp("studies")
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert text.count("drain_seconds: 60.0") == 1
    (folder / "params.yaml").write_text(text.replace("drain_seconds: 60.0", "drain_seconds: 0.0"), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", folder)
    return folder


@pytest.fixture
def project(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(shared)
    yield shared
    shutil.rmtree(shared / "artifacts", ignore_errors=True)
    shutil.rmtree(shared / ".retrace" / "state", ignore_errors=True)


def study(*words: str) -> int:
    """`retrace study ...`, in this process."""
    return cli.main(["study", *words])


def files(folder: Path) -> dict[str, bytes]:
    """What does not depend on the machine's speed."""
    found = {
        Path(parent, name).relative_to(folder).as_posix(): Path(parent, name).read_bytes()
        for parent, _, names in os.walk(folder)
        for name in names
    }
    return {name: content for name, content in found.items() if not name.startswith("measured/")}
