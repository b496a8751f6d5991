"""Where images come from: one file a kind, and its line here and in the catalogue."""

from collections.abc import Callable
from pathlib import Path

from pipeline.data.sources.base import Source
from pipeline.data.sources.digits import Digits
from pipeline.data.sources.folder import Folder
from pipeline.data.text import shown
from pipeline.errors import Mistake

SOURCES: dict[str, Callable[[Path | None], Source]] = {"digits": Digits, "folder": Folder}


def open_source(kind: str, path: str | None, root: Path) -> Source:
    """The source named `kind`. A relative path is relative to the project's root, also in a temporary DVC folder.

    Raises Mistake for the home (~name) of a user who is not there.
    """
    try:
        return SOURCES[kind](None if path is None else root / Path(path).expanduser())
    except RuntimeError as error:
        raise Mistake(f"data.path: {shown(str(path))}: {error}; write the whole path in params.yaml") from None
