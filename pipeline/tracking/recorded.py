"""Reads runs back from MLflow, whoever made them, and adds to them what was found out later.

What a server says is not trusted: paths of artefacts are checked before anything is written.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pipeline.errors import Mistake
from pipeline.lineage.redaction import redacted
from pipeline.tracking.destination import ENVIRONMENT
from pipeline.tracking.store import Recorded, recorded

_SQLITE = "sqlite:///"
_MOST_FILES = 5000
_MOST_BYTES = 512 << 20  # a run's lineage is some hundred kB


class Runs:
    """The runs of one tracking server or database. Every method raises Mistake where it does not answer."""

    def __init__(self, uri: str) -> None:
        self.shown = redacted(uri)
        database = Path(uri.removeprefix(_SQLITE).partition("?")[0])
        if uri.startswith(_SQLITE) and not database.is_file():  # MLflow would make an empty one
            raise Mistake(
                f"{database}: no runs here; `dvc repro` makes some, or set MLFLOW_TRACKING_URI (or tracking.uri) to the"
                " server that has them"
            )
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        with self._answers():
            self._client = MlflowClient(tracking_uri=uri)

    def run(self, run_id: str) -> Recorded | None:
        """The run with this id; None where there is none."""
        from mlflow.exceptions import MlflowException

        with self._answers():
            try:
                return recorded(self._client.get_run(run_id))
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def find(self, tags: Mapping[str, str], experiment_id: str | None = None) -> list[Recorded]:
        """The runs that were finished and have these tags, the earliest first; by default of all experiments."""
        with self._answers():
            if experiment_id is None:
                places = [experiment.experiment_id for experiment in self._client.search_experiments()]
            else:
                places = [experiment_id]
            quoted = [(name, value.replace("\\", "\\\\").replace("'", "\\'")) for name, value in tags.items()]
            wanted = " and ".join([f"tags.`{name}` = '{value}'" for name, value in quoted])
            found = []
            token = None
            while True:
                page = self._client.search_runs(places, f"{wanted} and status = 'FINISHED'", page_token=token)
                found += [recorded(run) for run in page]
                token = page.token
                if not token:
                    return sorted(found, key=lambda run: (run.started, run.run_id))

    def metrics(self, run: Recorded) -> dict[str, dict[int, float]]:
        """Metric -> step -> value. Where a step has several values, the first, which is what counts."""
        with self._answers():
            found: dict[str, dict[int, float]] = {}
            for name in sorted(run.metrics):
                history = sorted(self._client.get_metric_history(run.run_id, name), key=lambda point: point.timestamp)
                for point in history:
                    found.setdefault(name, {}).setdefault(point.step, point.value)
            return found

    def download(self, run: Recorded, folder: str, target: Path) -> bool:
        """Copy the artefacts under `folder` into `target`, which is made; False where the run has none.

        Raises Mistake for artefacts whose paths lead elsewhere, or that are far too many or too large.
        """
        with self._answers():
            files = dict(self._files(run.run_id, folder))
            if not files:
                return False
            for path in files:
                if not is_inside(path) or PurePosixPath(path).parts[0] != folder:
                    raise Mistake(
                        f"{self.shown}: run {run.run_id}: artefact {path!r}: leads out of its folder; not fetched"
                    )
            if len(files) > _MOST_FILES or sum(files.values()) > _MOST_BYTES:
                raise Mistake(
                    f"{self.shown}: run {run.run_id}: {len(files)} files of {sum(files.values()) >> 20} MiB under"
                    f" {folder}/: that is no record of ours; not fetched"
                )
            target.mkdir(parents=True)
            self._client.download_artifacts(run.run_id, folder, str(target.parent))
            got = target.parent / folder
            if got != target:
                target.rmdir()
                got.rename(target)
            return True

    def _files(self, run_id: str, folder: str) -> Iterator[tuple[str, int]]:
        for entry in self._client.list_artifacts(run_id, folder):
            if entry.is_dir:
                if not entry.path.startswith(f"{folder}/"):  # a server that names a folder within itself
                    raise Mistake(f"{self.shown}: run {run_id}: artefact {entry.path!r} is listed below {folder}/")
                yield from self._files(run_id, entry.path)
            else:
                yield entry.path, entry.file_size or 0

    def note(self, run: Recorded, tags: Mapping[str, str], file: Path, folder: str) -> None:
        """Add tags and one file to a run that has ended."""
        with self._answers():
            self._client.log_artifact(run.run_id, str(file), folder)
            for name, value in tags.items():
                self._client.set_tag(run.run_id, name, value)

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except (Mistake, KeyboardInterrupt):
            raise
        except Exception as error:  # mlflow, SQLAlchemy, requests and what artefact stores bring along
            reason = redacted(f"{type(error).__name__}: {error}".splitlines()[0][:500])
            raise Mistake(
                f"{self.shown}: does not answer as an MLflow server or database should ({reason}); see that it runs and"
                " that you may use it, or set MLFLOW_TRACKING_URI to another"
            ) from error


def open_copy(database: Path, copy: Path) -> Runs:
    """The runs of a database that another version of mlflow has made, through a copy in the form that ours reads.

    Raises Mistake where that other version is newer than ours: there is no way back.
    """
    shutil.copyfile(database, copy)
    uri = f"{_SQLITE}{copy}"
    command = [sys.executable, "-P", "-m", "mlflow", "db", "upgrade", uri]
    done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
        raise Mistake(
            f"{database}: made by another version of mlflow, which the one here cannot read ({reason}); install the"
            " recorded version of mlflow here, or use the present environment: --here"
        )
    return Runs(uri)


def is_inside(path: str) -> bool:
    """Whether a relative path with slashes stays below the folder it is taken from, whatever system wrote it."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\\" not in path and "\0" not in path
