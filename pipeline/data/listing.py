"""data/source.json: what the source holds, by content. No times and no absolute paths: equal data gives equal bytes."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Mistake


class Item(NamedTuple):
    """One image file."""

    path: str  # relative to the source; undecodable bytes as os.fsdecode gives them (JSON escapes keep them)
    size: int
    sha256: str | None  # None where it could not be read; `problem` says why
    label: str | None  # None where the source has targets only
    split: str | None  # where the source itself says which
    problem: str | None = None
    group: str | None = None
    target: tuple[float, ...] | None = None
    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom in pixels of the upright image


class Listing(NamedTuple):
    source: str  # its kind
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    ignored: tuple[tuple[str, str], ...]  # path, why
    targets: tuple[str, ...] = ()  # the names of the target's numbers

    def to_bytes(self) -> bytes:
        """JSON with one line an image, so that two listings can be compared line by line."""
        lines = [
            "{",
            f'"source": {json.dumps(self.source)},',
            f'"classes": {json.dumps(self.classes)},',
            f'"targets": {json.dumps(self.targets)},',
            f'"ignored": {json.dumps(self.ignored)},',
            f'"columns": {json.dumps(Item._fields)},',
            '"items": [',
            ",\n".join(map(json.dumps, self.items)),
            "]",
            "}",
        ]
        return "\n".join(lines).encode("ascii") + b"\n"


def read(file: Path) -> Listing:
    """Read data/source.json. Raises Mistake when it is missing or damaged."""
    try:
        raw = json.loads(file.read_bytes())
        if raw["columns"] != list(Item._fields):
            raise ValueError("other columns")
        return Listing(
            source=raw["source"],
            classes=tuple(raw["classes"]),
            items=tuple(_item(item) for item in raw["items"]),
            ignored=tuple((path, why) for path, why in raw["ignored"]),
            targets=tuple(raw["targets"]),
        )
    except FileNotFoundError:
        raise Mistake(f"{file}: not found; `dvc repro source` makes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Mistake(f"{file}: damaged ({error}); delete it, then `dvc repro`") from None


def _item(values: list[Any]) -> Item:
    item = Item(*values)
    return item._replace(target=item.target and tuple(item.target), box=item.box and (*item.box,))
