"""What MLflow holds, for the commands that look back: runs, found by name, by what they made, by their parent."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import Mistake
from pipeline.lineage import host, reuse
from pipeline.lineage.redaction import redacted
from pipeline.params import Params
from pipeline.tracking import spool
from pipeline.tracking.delivery import is_sent, start_of
from pipeline.tracking.destination import ENVIRONMENT, Destination, destination
from pipeline.tracking.run import runs_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

MADE = "retrace.out."
READ = "retrace.dep."
REUSED = "retrace.reused"
_PAGE = 200
_CHILDREN = ("trial", "fold", "seed")  # stages of runs that belong to another one
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Recorded:
    """A run as MLflow holds it. Times are milliseconds since 1970."""

    run_id: str
    name: str
    status: str
    started: int
    ended: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]  # the last value of each
    experiment_id: str = ""
    is_deleted: bool = False

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        return None if self.ended is None else (self.ended - self.started) / 1000

    @property
    def stage(self) -> str:
        return self.tags.get("retrace.stage", "?")

    @property
    def reused(self) -> int:
        """How often its outputs came back without a run."""
        return sum(name.startswith(f"{REUSED}.") for name in self.tags)

    def hashes(self, prefix: str) -> dict[str, str]:
        """What it READ or MADE: path -> hash."""
        return {name.removeprefix(prefix): value for name, value in self.tags.items() if name.startswith(prefix)}


class Store:
    """An experiment that is only read, but for the counts of reuse."""

    def __init__(self, client: "MlflowClient", experiment_id: str | None, target: Destination) -> None:
        """experiment_id: None where the experiment is not there yet."""
        self._client = client
        self._experiment_id = experiment_id
        self._target = target
        self._makers: dict[tuple[str, str], Recorded | None] = {}

    def run(self, run_id: str) -> Recorded | None:
        """The run of this id, of whatever experiment."""
        from mlflow.exceptions import MlflowException

        def ask() -> Any:
            try:
                return self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

        found = self._asked(ask)
        return None if found is None else recorded(found)

    def named(self, text: str) -> list[Recorded]:
        """The runs of this id, name, local key, or beginning of a key of 8 characters or more; the newest first."""
        if (found := self.run(text)) is not None:
            return [found]
        if not text.replace("-", "").replace("_", "").isalnum():
            return []
        wanted = [f"attributes.run_name = '{text}'"]
        if len(text) >= 8:
            wanted.append(f"tags.`retrace.key` LIKE '{text}%'")
        runs = [run for filter_ in wanted for run in self._search(filter_, newest_first=True)]
        return list({run.run_id: run for run in runs}.values())

    def maker(self, path: str, digest: str) -> Recorded | None:
        """The run that first made this content at this path."""
        if (path, digest) not in self._makers:
            found = list(self._search(f"tags.`{MADE}{path}` = '{digest}'")) if "`" not in path else []
            self._makers[path, digest] = min(
                found, key=lambda run: (run.status != "FINISHED", run.started, run.run_id), default=None
            )
        return self._makers[path, digest]

    def last_maker(self, path: str) -> Recorded | None:
        """The newest run that made anything at this path."""
        return next(self._search(f"tags.`{MADE}{path}` LIKE '%'", newest_first=True), None) if "`" not in path else None

    def children(self, run: Recorded) -> list[Recorded]:
        """The runs that belong to a run, such as a search's trials."""
        return list(self._search(f"tags.`mlflow.parentRunId` = '{run.run_id}'"))

    def newest(self, stage: str | None = None) -> Iterator[Recorded]:
        """Runs, the newest first: those of a stage, or those of all stages without the runs that belong to others."""
        if stage is None:
            filter_ = " and ".join(f"tags.`retrace.stage` != '{child}'" for child in _CHILDREN)
        else:
            filter_ = f"tags.`retrace.stage` = '{stage}'"
        yield from self._search(filter_, newest_first=True)

    def note_reuse(self) -> None:
        """Bring to MLflow what was seen of reuse: a tag for each time, so that none counts twice, and their number."""
        settled = []
        for seen in reuse.waiting():
            makers = [self.maker(path, digest) for path, digest in seen.outputs.items()]
            made_by = makers[0] if makers else None
            if made_by is None or any(other is None or other.run_id != made_by.run_id for other in makers):
                continue  # it may not be sent yet
            settled.append(seen)
            if seen.is_first_look and made_by.tags.get("retrace.machine") == host.machine():
                continue  # what was there already when this folder was first looked at, and made here: no reuse
            tags = {f"{REUSED}.{seen.key}": seen.time}
            times = {*made_by.tags, *tags}
            tags[REUSED] = str(sum(name.startswith(f"{REUSED}.") for name in times))
            for name, value in tags.items():
                self._asked(partial(self._client.set_tag, made_by.run_id, name, value))
            self._makers.clear()
        reuse.settle(settled)

    def artifact(self, run: Recorded, path: str, folder: Path) -> Path | None:
        """A copy, under `folder`, of an artefact; None where the run has none of this path."""
        listed = self._asked(partial(self._client.list_artifacts, run.run_id, path.rpartition("/")[0] or None))
        if path not in [entry.path for entry in listed]:
            return None
        return Path(self._asked(lambda: self._client.download_artifacts(run.run_id, path, str(folder))))

    def _search(self, filter_: str, newest_first: bool = False) -> Iterator[Recorded]:
        if self._experiment_id is None:
            return
        order = [f"attributes.start_time {'DESC' if newest_first else 'ASC'}", "attributes.run_id ASC"]
        token: str | None = None
        while True:
            ask = partial(self._client.search_runs, [self._experiment_id], filter_, max_results=_PAGE, order_by=order)
            page = self._asked(partial(ask, page_token=token))
            yield from map(recorded, page)
            token = page.token
            if not token:
                return

    def _asked(self, ask: Callable[[], Any]) -> Any:
        return _asked(self._target, ask)


def open_store(params: Params) -> Store:
    """The experiment that params.yaml, or MLFLOW_TRACKING_URI, names. Nothing is made where there is none yet.

    Raises Mistake where mlflow is not installed, the server does not answer, or nothing was ever sent.
    """
    target = destination(params)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if target.uri.startswith(_SQLITE):
        database = Path(target.uri.removeprefix(_SQLITE).partition("?")[0])
        if not database.exists():
            raise Mistake(f"{database}: not found: no run was recorded there yet; {_remedy()}")
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise Mistake(f"mlflow cannot be imported here ({error}); install it, or run this where it is") from None
    client = _asked(target, lambda: MlflowClient(tracking_uri=target.uri))
    experiment = _asked(target, lambda: client.get_experiment_by_name(target.experiment))
    return Store(client, None if experiment is None else experiment.experiment_id, target)


def _asked(target: Destination, ask: Callable[[], Any]) -> Any:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return ask()
    except (MlflowException, SQLAlchemyError, OSError) as error:  # requests' errors are OSErrors
        said = redacted((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
        raise Mistake(
            f"{target.shown}: cannot be read: {said}",
            "start that server, or name another by tracking.uri in params.yaml or by MLFLOW_TRACKING_URI",
        ) from None


def _remedy() -> str:
    waiting = unsent()
    return f"`retrace sync` sends the {waiting} that wait here" if waiting else "`dvc repro` makes some"


def unsent() -> int:
    """How many runs, recorded here, MLflow has not taken whole."""
    return sum(not is_sent(folder) and start_of(folder) is not None for folder in spool.spools(runs_folder()))


def notices() -> Sequence[str]:
    """What to say below what MLflow holds when it may not be all."""
    waiting = unsent()
    return [f"{waiting} runs are not sent yet: `retrace sync` sends them"] if waiting else []


def recorded(run: Any) -> Recorded:
    """Of MLflow's own object."""
    return Recorded(
        run_id=run.info.run_id,
        name=run.info.run_name or run.info.run_id[:8],
        status=run.info.status,
        started=run.info.start_time or 0,
        ended=run.info.end_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        experiment_id=run.info.experiment_id,
        is_deleted=run.info.lifecycle_stage != "active",
    )
