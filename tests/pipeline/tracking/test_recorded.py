from types import SimpleNamespace

import pytest

from pipeline.errors import Mistake
from pipeline.tracking.recorded import Runs, is_inside, open_copy
from tests.pipeline.reproduce.conftest import recorded


class Client:
    """An MLflow client whose server lists what it likes."""

    def __init__(self, files):
        self.files = files
        self.fetched = []

    def list_artifacts(self, run_id, folder):
        return [SimpleNamespace(path=path, is_dir=is_dir, file_size=size) for path, is_dir, size in self.files[folder]]

    def download_artifacts(self, run_id, folder, target):
        self.fetched.append(folder)


def runs_of(files) -> Runs:
    runs = object.__new__(Runs)
    runs.shown = "the server"
    runs._client = Client(files)
    return runs


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"lineage": [("lineage/../../x", False, 1)]}, "leads out of its folder"),
        ({"lineage": [("/etc/cron.d/x", False, 1)]}, "leads out of its folder"),
        ({"lineage": [("other/x", False, 1)]}, "leads out of its folder"),
        ({"lineage": [("lineage/x", False, 1 << 40)]}, "no record of ours"),
        ({"lineage": [("lineage", True, None)]}, "listed below"),
    ],
)
def test_artefacts_that_lead_elsewhere_or_have_no_end_are_not_fetched(tmp_path, files, word):
    runs = runs_of(files)
    with pytest.raises(Mistake, match=word):
        runs.download(recorded(), "lineage", tmp_path / "a" / "lineage")
    assert runs._client.fetched == []


def test_a_run_without_artefacts(tmp_path):
    assert not runs_of({"lineage": []}).download(recorded(), "lineage", tmp_path / "lineage")


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(Mistake, match="MLFLOW_TRACKING_URI"):
        Runs(f"sqlite:///{tmp_path}/mlflow.db")
    assert not list(tmp_path.iterdir())


def test_an_error_names_the_server_without_its_password(tmp_path):
    runs = runs_of({})
    runs._client.get_run = lambda run_id: (_ for _ in ()).throw(ConnectionError("http://me:secret@host refused"))
    with pytest.raises(Mistake, match="the server: does not answer") as caught:
        runs.run("abc")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["", ".", "..", "a/..", "/a", "a\\b", "a\0b"])
def test_paths_that_are_not_inside(path):
    assert not is_inside(path)


def test_of_a_step_that_was_logged_twice_the_first_value_counts():
    runs = runs_of({})
    points = [SimpleNamespace(step=1, value=2.0, timestamp=20), SimpleNamespace(step=1, value=1.0, timestamp=10)]
    runs._client.get_metric_history = lambda run_id, name: points
    assert runs.metrics(recorded(metrics={"loss": 2.0})) == {"loss": {1: 1.0}}


def test_a_database_of_another_mlflow_is_read_through_a_copy(tmp_path):
    from mlflow import MlflowClient

    database = tmp_path / "mlflow.db"
    client = MlflowClient(f"sqlite:///{database}")
    made = client.create_run(client.create_experiment("retrace"), tags={"retrace.stage": "source"}).info.run_id
    client.set_terminated(made)
    before = database.read_bytes()
    found = open_copy(database, tmp_path / "copy.db").find({"retrace.stage": "source"})
    assert [run.run_id for run in found] == [made]
    assert database.read_bytes() == before


def test_a_database_that_the_mlflow_here_does_not_know_is_told(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"no database")
    with pytest.raises(Mistake, match="another version of mlflow"):
        open_copy(tmp_path / "mlflow.db", tmp_path / "copy.db")
