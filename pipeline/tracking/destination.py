"""Where runs go: MLFLOW_TRACKING_URI over tracking.uri over mlflow.db in the project's root."""

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import locks, paths
from pipeline.lineage.redaction import redacted
from pipeline.params import Params

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"

# Read by mlflow when it is imported. Retries and their waits are the sender's own: mlflow's block for minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Destination:
    """A server or database, where new experiments put artefacts (None: it knows), and the experiment."""

    uri: str
    artifact_root: str | None
    experiment: str

    @property
    def shown(self) -> str:
        """The address without what it may hold of secrets, for people and logs."""
        return redacted(self.uri)

    @property
    def fingerprint(self) -> str:
        """Names the destination in files without telling what the address may hold of secrets."""
        return hashlib.sha256(f"{self.uri}\n{self.experiment}".encode()).hexdigest()[:16]


def resolve_tracking(params: Params) -> tuple[str, Path | None]:
    """The tracking address, absolute, and the folder for artefacts (None: a server decides on its own)."""
    root = paths.root()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or params.tracking.uri or f"{_SQLITE}mlflow.db"
    scheme = uri.partition(":")[0] if ":" in uri else ""
    if uri.startswith(_SQLITE):
        return _SQLITE + str(root / uri.removeprefix(_SQLITE)), root / "mlartifacts"
    if scheme == "file":
        return (root / uri.removeprefix("file:").removeprefix("//")).as_uri(), root / "mlartifacts"
    if not scheme:
        return (root / uri).as_uri(), root / "mlartifacts"
    if scheme.startswith(("http", "databricks", "uc")):
        return uri, None
    return uri, root / "mlartifacts"


def destination(params: Params) -> Destination:
    """Where this process's runs go."""
    uri, artifact_root = resolve_tracking(params)
    return Destination(uri, None if artifact_root is None else artifact_root.as_uri(), params.tracking.experiment)


def connect(target: Destination) -> "tuple[MlflowClient, str]":
    """A client and the experiment's id; makes the experiment, and a database that is not there yet.

    Raises what mlflow raises when the server does not answer or refuses.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _keep_answers()
    if not target.uri.startswith(_SQLITE):
        return _connect(target)
    # Processes that create the tables, or an experiment, of one database at the same time break each other
    database = Path(target.uri.removeprefix(_SQLITE).partition("?")[0])
    with locks.locked(database.with_name(database.name + ".lock")):
        if not database.exists() or database.stat().st_size == 0:
            _make_database(target.uri, database)
        return _connect(target)


def _make_database(uri: str, database: Path) -> None:
    """Make MLflow's tables elsewhere and bring them here whole: a database with a part of them, as a kill or a full
    disk leaves it, is of no use to MLflow ever after."""
    from mlflow import MlflowClient

    for left in database.parent.glob(f"{database.name}.new-*"):  # what a killed process was making
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{database.name}.new-", dir=database.parent) as folder:
        fresh = Path(folder, database.name)  # a new name each time: mlflow keeps connections to a file by its name
        MlflowClient(uri.replace(str(database), str(fresh), 1)).search_experiments(max_results=1)
        paths.write_atomically(database, fresh.read_bytes())


def _connect(target: Destination) -> "tuple[MlflowClient, str]":
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=target.uri)
    found = client.get_experiment_by_name(target.experiment)
    if found is None:
        try:
            return client, client.create_experiment(target.experiment, artifact_location=target.artifact_root)
        except MlflowException:
            found = client.get_experiment_by_name(target.experiment)  # another client was faster
            if found is None:
                raise
    return client, found.experiment_id


@dataclass(frozen=True)
class Answer:
    """What a server said that does not take a request now."""

    status: int
    retry_after: float | None  # seconds


def _keep_answers() -> None:
    """Let an error carry what the server said, as `answer`: mlflow drops the header Retry-After."""
    from mlflow.utils import request_utils
    from urllib3.exceptions import InvalidHeader, MaxRetryError
    from urllib3.util import Retry

    class Keeping(Retry):
        def increment(self, method: Any = None, url: Any = None, response: Any = None, *rest: Any, **named: Any) -> Any:
            try:
                return super().increment(method, url, response, *rest, **named)
            except MaxRetryError as error:
                if response is not None:
                    try:
                        seconds = self.get_retry_after(response)
                    except InvalidHeader:
                        seconds = None
                    error.answer = Answer(response.status, seconds)  # type: ignore[attr-defined]
                raise

    request_utils.Retry = Keeping  # type: ignore[attr-defined]
