"""Where images come from: one file a kind, with a class `Images`, found by the name that params.yaml gives.

Only the chosen file is a dependency of the stages, so that adding one makes nothing stale. What several kinds share is
in pipeline/data/raw.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from pipeline.data.raw.base import Source
from pipeline.data.text import shown
from pipeline.errors import Mistake


def open_source(kind: str, path: str | None, root: Path, settings: Mapping[str, Any]) -> Source:
    """The source named `kind`. A relative path is relative to the project's root, also in a temporary DVC folder.

    settings: what stands at `data.KIND` in params.yaml. Raises Mistake for the home (~name) of a user who is not there.
    """
    try:
        place = None if path is None else root / Path(path).expanduser()
    except RuntimeError as error:
        raise Mistake(f"data.path: {shown(str(path))}: {error}; write the whole path in params.yaml") from None
    return cast(Source, import_module(f"{__name__}.{kind}").Images(place, **settings))
