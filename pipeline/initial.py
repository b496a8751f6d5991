"""Where the weights come from that a training starts from: a folder, a file, or a run of train in MLflow.

The stage `source`, which always looks, brings them into the project, so that their content counts: DVC knows a copy,
search and train depend on it, and it is there when a run is made again. Without such weights the copy holds none.
"""

import re
import tempfile
from pathlib import Path

from pipeline import paths
from pipeline.errors import Mistake
from pipeline.params import Params

_KEY = f"{paths.PARAMS}: model.init_from.weights"
_RUN = re.compile(r"[0-9a-f]{32}")
_FILE = "weights.safetensors"  # in a model's folder


def origin(params: Params) -> Path | None:
    """The file that is copied; None where there are no weights to start from, or a run has them.

    Raises Mistake where there is none.
    """
    name = params.model.init_from.weights
    if name is None:
        return None
    place = paths.root() / Path(name).expanduser()
    if not place.exists() and _RUN.fullmatch(name):
        return None
    file = place / _FILE if place.is_dir() else place
    if not file.is_file():
        raise Mistake(
            f"{_KEY}: {file}: not found; name a folder with {_FILE}, such a file, or a run of train by its id"
        )
    return file


def content(params: Params) -> bytes:
    """The weights as a safetensors file. Raises Mistake where they are none, or cannot be had."""
    from safetensors import SafetensorError, deserialize, serialize

    name = params.model.init_from.weights
    if name is None:
        return serialize({})
    file = origin(params)
    found = _of_run(name, params) if file is None else file.read_bytes()
    try:
        deserialize(found)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise Mistake(f"{_KEY}: {file or name}: no safetensors file: {error}; no other format is read") from None
    return found


def _of_run(run_id: str, params: Params) -> bytes:
    """What the run recorded of its model, brought by its hash: MLflow itself has no safetensors file."""
    from pipeline.reproduce.fetch import Fetcher
    from pipeline.tracking import resolve_tracking
    from pipeline.tracking.recorded import Runs

    runs = Runs(resolve_tracking(params)[0])
    run = runs.run(run_id)
    if run is None:
        raise Mistake(f"{_KEY}: {run_id}: neither a file here nor a run in {runs.shown}")
    digest = run.tags.get(f"retrace.out.{paths.MODEL}")
    if digest is None:
        raise Mistake(f"{_KEY}: {run_id}: a run of {run.stage} that made no model; name one of train that has ended")
    with tempfile.TemporaryDirectory() as scratch:
        fetcher, target = Fetcher(paths.root(), Path(scratch)), Path(scratch, "model")
        if not fetcher.fetch(paths.MODEL.as_posix(), digest, target):
            raise Mistake(
                f"{_KEY}: {run_id}: its model ({digest}) is neither in DVC's cache nor in {paths.MODEL} nor in a"
                " remote; `dvc pull` brings it from a remote, or name the folder that has it",
                *([fetcher.remote_said] if fetcher.remote_said else []),
            )
        return (target / _FILE).read_bytes()
