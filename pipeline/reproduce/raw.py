"""What changed in the raw data: two listings held against each other."""

from pathlib import Path

from pipeline.data import listing
from pipeline.data.text import shown
from pipeline.errors import Mistake


def changed_files(recorded: Path, now: Path) -> list[str]:
    """One line for each raw file that changed, came or went. Raises Mistake where a listing cannot be read."""
    before, after = ({item.path: item for item in listing.read(file).items} for file in (recorded, now))
    lines = []
    for path in sorted({*before, *after}):
        if path not in after:
            lines.append(f"{shown(path)}: gone")
        elif path not in before:
            lines.append(f"{shown(path)}: new")
        elif before[path].sha256 != after[path].sha256:
            lines.append(f"{shown(path)}: other content ({before[path].size} bytes before, {after[path].size} now)")
        elif before[path] != after[path]:
            lines.append(f"{shown(path)}: another class or split")
    return lines


def changed_or_why_not(recorded: Path, now: Path) -> list[str]:
    """The same; where a listing is of a form that this version does not know, a line that says so."""
    try:
        return changed_files(recorded, now) or ["no file: the list alone is another, as another version makes it"]
    except Mistake as mistake:
        return [f"which files cannot be told: {mistake}"]
