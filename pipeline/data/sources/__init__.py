"""Where images come from: one file a kind, and its line here and in the catalogue."""

from collections.abc import Callable
from pathlib import Path

from pipeline.data.sources.base import Source
from pipeline.data.sources.digits import Digits
from pipeline.data.sources.folder import Folder

SOURCES: dict[str, Callable[[Path | None], Source]] = {"digits": Digits, "folder": Folder}


def open_source(kind: str, path: str | None, root: Path) -> Source:
    """The source named `kind`. A relative path is relative to the project's root, also in a temporary DVC folder."""
    return SOURCES[kind](None if path is None else root / Path(path).expanduser())
