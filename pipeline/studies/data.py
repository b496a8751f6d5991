"""The data of a study: source, prepare and augment run in a folder below .retrace; nothing of the user is touched.

The folder is a root of its own: its runs stay in it, and its test split is never opened. It is kept until
`retrace gc`, and used again where parameters, code and raw files are as they were.
"""

import hashlib
import io
import json
import os
import sys
from pathlib import Path

from pipeline import locks, paths
from pipeline.errors import Mistake
from pipeline.params import Params
from pipeline.reproduce import rerun

_MADE = "made.json"
_NO_NETWORK = {"tracking": {"uri": None, "drain_seconds": 0.0}}


def code(*, studies: bool = True) -> str:
    """A hash of all code of the project: a study's points are made again where any of it has changed, and data where
    any but that of studies has."""
    top = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for file in sorted(file for name in ("models", "pipeline") for file in (top / name).rglob("*.py")):
        if file.parent == Path(__file__).parent and not studies:
            continue
        digest.update(f"{file.relative_to(top).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def key_of(params: Params) -> str:
    """What the data are a function of, beside code and raw files."""
    values = {name: value for name, value in params.flat().items() if name.split(".")[0] in ("seed", "data", "augment")}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def made(params: Params) -> Path:
    """The folder in which the three stages have been run for `params`. Raises Mistake as they do."""
    folder = paths.studied_data() / key_of(params)
    folder.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder.with_name(f"{folder.name}.lock")):
        paths.write_atomically(folder / paths.PARAMS, _params_file(params))
        _link_raw(folder)
        _run("source", folder)
        listed = hashlib.sha256((folder / paths.SOURCE).read_bytes()).hexdigest()
        state = json.dumps({"code": code(studies=False), "source": listed})
        marker = folder / _MADE
        if not marker.is_file() or marker.read_text(encoding="utf-8") != state:
            marker.unlink(missing_ok=True)
            for stage in ("prepare", "augment"):
                _run(stage, folder)
            paths.write_atomically(marker, state.encode())
    return folder


def _params_file(params: Params) -> bytes:
    from ruamel.yaml import YAML

    path = params.data.path
    absolute = None if path is None else str((paths.root() / Path(path).expanduser()).resolve())
    stream = io.BytesIO()
    changed = params.overlaid({"data": {"path": absolute}, **_NO_NETWORK})
    YAML(typ="safe", pure=True).dump(changed.model_dump(), stream)
    return stream.getvalue()


def _link_raw(folder: Path) -> None:
    """What was downloaded is the project's: no study fetches it again."""
    link, real = folder / paths.RAW, paths.root() / paths.RAW
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        real.mkdir(parents=True, exist_ok=True)
        link.symlink_to(real, target_is_directory=True)


def _run(stage: str, folder: Path) -> None:
    log = folder / "log.txt"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    package_parent = str(Path(__file__).parents[2])
    own["PYTHONPATH"] = os.pathsep.join(part for part in (package_parent, own.get("PYTHONPATH", "")) if part)
    log.unlink(missing_ok=True)
    status = rerun.run([sys.executable, "-P", "-m", f"pipeline.{stage}"], folder, own, log)
    if status:
        raise Mistake(f"{stage}: fails on this study's data (status {status}):", *rerun.tail(log), f"the log is {log}")
