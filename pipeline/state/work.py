"""A piece of work: a stage with all that its result is a function of, and whether that still is what it was."""

import contextlib
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.errors import Mistake
from pipeline.lineage import dvc_files, hashes, host
from pipeline.params import Params, is_operational, leaves, load


@dataclass(frozen=True)
class Work:
    """One piece of work: a stage with all that its result is a function of."""

    stage: str
    parameters: Mapping[str, Any]  # the values that dvc.yaml names, by dotted path; operational ones never
    dependencies: Mapping[str, str]  # path -> hash, as dvc.lock has it
    environment: Mapping[str, str]
    stamps: Mapping[str, tuple[int, ...]]  # size, times and inode of params.yaml and of every file it depends on
    defaults: Mapping[str, str] = field(default_factory=dict)  # what null stands for

    @cached_property
    def fingerprint(self) -> str:
        content = [
            self.stage,
            dict(self.parameters),
            dict(self.dependencies),
            dict(self.environment),
            dict(self.defaults),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def folder(self) -> Path:
        """Where its state is."""
        return paths.states() / self.stage / self.fingerprint


def work(stage: str, params: Params, inputs: Sequence[Path] = (), contents: Mapping[str, str] | None = None) -> Work:
    """The work of a stage that is about to start: hashes its dependencies, `inputs` and those of dvc.yaml.

    contents: hashes, by name, of what it depends on beyond files of the project.
    Raises FileNotFoundError where a file is missing.
    """
    files, keys = _definition(stage, params)
    dependencies = dict(contents or {})
    dependencies |= {path.as_posix(): hashes.md5(path) for path in sorted({*inputs, *map(Path, files)})}
    values = params.flat()
    operational = {".".join(path) for path, field_ in leaves() if is_operational(field_)}
    named = {
        name: value
        for name, value in values.items()
        if name not in operational and (keys is None or any(_is_within(name, key) for key in keys))
    }
    return Work(
        stage, named, dependencies, environment(), _stamps([*dependencies, str(paths.PARAMS)]), _defaults(params)
    )


def _defaults(params: Params) -> dict[str, str]:
    """What null stands for: it is in the catalogue, which is no dependency."""
    return {
        "optimizer.momentum": str(params.optimizer.effective_momentum),
        "regularization.dropout": str(params.dropout),
        "data.image_size": str(params.data.resolved_image_size),
        "data.channels": str(params.data.resolved_channels),
    }


def what_changed(done: Work) -> list[str]:
    """What is not any more as it was when the work began, each with what to do; DVC would take it for what was used.

    Files are hashed again only where their stamps differ; of params.yaml, the values that the work has used count.
    """
    lines: list[str] = []
    if not paths.DVC_YAML.is_file():
        return lines  # nobody notes anything
    now = _stamps([*done.dependencies, str(paths.PARAMS)])
    for path, digest in done.dependencies.items():
        of_path = [name for name in {*now, *done.stamps} if name == path or name.startswith(f"{path}/")]
        if any(now.get(name) != done.stamps.get(name) for name in of_path) and _digest(Path(path)) != digest:
            lines.append(f"{path}: changed while {done.stage} ran")
    if now.get(str(paths.PARAMS)) == done.stamps.get(str(paths.PARAMS)):
        return lines
    try:
        values = load().flat()
    except (FileNotFoundError, Mistake) as error:
        return [*lines, f"{paths.PARAMS}: cannot be read any more: {error}"]
    for name, value in done.parameters.items():
        if values.get(name) != value:
            lines.append(f"{paths.PARAMS}: {name}: was {value} when {done.stage} began and is {values.get(name)} now")
    return lines


def refuse_changes(done: Work) -> None:
    """Raises Mistake where what the stage is made from is not there any more: DVC hashes it only when the stage has
    ended, and would take the new for what was used. Costs a stat a file, so that a stage may ask now and then."""
    changed = what_changed(done)
    if changed:
        raise Mistake(
            *changed,
            f"{done.stage}: stopped, since DVC would note its result as made from what is there now; run `dvc repro`"
            " again: with the old content back it goes on from where it was, with the new it starts anew",
        )


def _digest(path: Path) -> str | None:
    try:
        return hashes.md5(path)
    except FileNotFoundError:
        return None


def _stamps(files: Iterable[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name in files:
        inside = [Path(parent, file) for parent, _, names in os.walk(name, followlinks=True) for file in names]
        for file in inside or [Path(name)]:
            with contextlib.suppress(FileNotFoundError):
                told = file.stat()
                found[file.as_posix()] = (told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino)
    return found


def _definition(stage: str, params: Params) -> tuple[list[str], list[str] | None]:
    """What dvc.yaml says of a stage: its dependencies and its parameters' keys; ([], None) where it says nothing."""
    if not paths.DVC_YAML.is_file():
        return [], None
    said = dvc_files.dvc_file(paths.DVC_YAML).get("stages", {}).get(stage, {})
    values = params.flat()

    def resolved(text: str) -> str:
        return re.sub(r"\$\{([\w.]+)\}", lambda match: str(values[match[1]]), text)

    keys = said.get("params")
    return [resolved(path) for path in said.get("deps", [])], None if keys is None else [resolved(k) for k in keys]


def _is_within(name: str, key: str) -> bool:
    return name == key or name.startswith(f"{key}.")


def environment() -> dict[str, str]:
    """What of this machine a result's bits may depend on: installed versions, processor, GPU."""
    # Our own version is in no result: the files of its code are hashed as dependencies.
    names = {name.lower().replace("_", "-") for name in host.distributions()}
    installed = sorted(name for name in names if "retrace-" not in name)
    found = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": hashlib.sha256("\n".join(installed).encode()).hexdigest()[:32],
    }
    torch = sys.modules.get("torch")  # a stage that has not imported it makes no numbers with it
    if torch is not None:
        found["torch"] = torch.__version__
        found["capability"] = torch.backends.cpu.get_cpu_capability()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
            found["cuda"] = str(torch.version.cuda)
    return found
