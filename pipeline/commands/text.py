"""How the commands that look back show runs."""

import sys
import time
from collections.abc import Sequence

from models.catalogue import FIGURES
from pipeline.errors import Mistake
from pipeline.lineage import host
from pipeline.params import Params
from pipeline.tracking.store import Recorded, Store, notices, open_store


def opened(params: Params) -> Store:
    """What MLflow holds, with the reuse that was seen counted in it."""
    store = open_store(params)
    try:
        store.note_reuse()
    except Mistake as mistake:  # one may be allowed to read only
        print(f"reuse is not counted: {mistake.lines[0]}", file=sys.stderr)
    return store


def say_what_waits() -> None:
    """Say on stderr when MLflow may not hold all."""
    for notice in notices():
        print(notice, file=sys.stderr)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned text, never wrapped: what is shown can be copied."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def when(milliseconds: int) -> str:
    """A time of day here."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000))


def short(digest: str) -> str:
    """A hash as people tell it from others."""
    return digest.removesuffix(".dir")[:8]


def duration(run: Recorded) -> str:
    """How long a run took, or has taken."""
    if run.ended is None:
        return "-"
    seconds = (run.ended - run.started) / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def commit(run: Recorded) -> str:
    """The commit, with a + where the tracked files differed from it or untracked source files were there."""
    found = run.tags.get("retrace.commit")
    return "-" if found is None else f"{found[:8]}{'+' if has_changes(run) else ''}"


def has_changes(run: Recorded) -> bool:
    """Whether the commit alone is not the code that ran."""
    return run.tags.get("retrace.dirty") != "false" or run.tags.get("retrace.untracked", "none") != "none"


def where(run: Recorded) -> str:
    """Which machine made it, as seen from here."""
    found = run.tags.get("retrace.machine")
    if found is None:
        return "unknown machine"
    return "this machine" if found == host.machine() else "another machine"


_FIGURES = [figure.name for figure in reversed(FIGURES.values())]  # localisation's own before its classes' accuracy
KEY_METRICS = {
    "source": ("source/images",),
    "prepare": ("images/train",),
    "search": tuple(f"search/best_val_{name}" for name in _FIGURES),
    "trial": tuple(f"{before}{name}" for before in ("search/val_", "val/") for name in _FIGURES),
    "train": tuple(f"best/val_{name}" for name in _FIGURES),
    "evaluate": tuple(f"test/{name}" for name in _FIGURES),
}


def key_metric(run: Recorded) -> str:
    """What a stage's run is known by."""
    for name in KEY_METRICS.get(run.stage, ()):
        if name in run.metrics:
            return f"{name} {figure(run.metrics[name])}"
    return "-"


def figure(value: float) -> str:
    """A metric's value: whole numbers as such."""
    return f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"


def brief(seconds: float) -> str:
    """A short time to three digits: "1.33 µs", "104 ms", "5.77 s"."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def about(seconds: float) -> str:
    """How long something will take: "3 s", "12 min", "1.5 h"."""
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
