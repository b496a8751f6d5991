"""What dvc.yaml and dvc.lock say of the stages."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline import paths
from pipeline.errors import Mistake
from pipeline.params.reading import parse_yaml, read_text


def outputs_of_stages(folder: Path = Path()) -> dict[str, str]:
    """The outputs of dvc.yaml, each with its stage; none where there is no such file, or a broken one (DVC says so)."""
    return {
        str(path): name
        for name, stage in _stages(folder).items()
        for entry in stage.get("outs") or []
        for path in _names(entry)
    }


def read_of(outputs: Iterable[str], folder: Path = Path()) -> list[str]:
    """What stages of dvc.yaml read by itself of outputs that are folders: artifacts/search/best.yaml."""
    made = tuple(f"{path}/" for path in outputs)
    stages = _stages(folder).values()
    read = {str(path) for stage in stages for entry in stage.get("deps") or [] for path in _names(entry)}
    return sorted(path for path in read if path.startswith(made))


def _stages(folder: Path) -> dict[str, Mapping[str, Any]]:
    try:
        stages = dvc_file(folder / paths.DVC_YAML).get("stages") or {}
    except (FileNotFoundError, Mistake):
        return {}
    return {str(name): stage for name, stage in stages.items() if isinstance(stage, Mapping)}


def outputs_in_lock(folder: Path = Path()) -> dict[str, dict[str, str]]:
    """What dvc.lock holds: stage -> output -> hash; nothing where it is not there or cannot be read."""
    try:
        stages = dvc_file(folder / paths.DVC_LOCK).get("stages") or {}
    except (FileNotFoundError, Mistake):
        return {}
    return {
        name: {entry["path"]: entry["md5"] for entry in stage.get("outs") or [] if "md5" in entry}
        for name, stage in stages.items()
    }


def dvc_file(path: Path) -> Mapping[str, Any]:
    """dvc.yaml or dvc.lock, of which a stage asks several times: parsed once for each content.

    Raises FileNotFoundError, and Mistake where it is not YAML.
    """
    return _parsed(str(path), read_text(path))


@lru_cache(maxsize=4)
def _parsed(name: str, text: str) -> Mapping[str, Any]:
    raw, _, duplicates = parse_yaml(text, name)
    if duplicates:
        raise Mistake(*(line for _, line in duplicates))
    return MappingProxyType(raw)


def _names(entry: Any) -> Iterable[Any]:
    return entry if isinstance(entry, Mapping) else [entry]
