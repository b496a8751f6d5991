"""Holds what came out against what was recorded: every output, file by file, and every point of every metric."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.lineage import hashes
from pipeline.reproduce import numbers
from pipeline.reproduce.fetch import Fetcher
from pipeline.reproduce.numbers import Difference
from pipeline.tracking.recorded import Runs
from pipeline.tracking.store import Recorded

MEASURED = "measured/"  # what a metric's name begins with when it measures the machine
Points = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class OutputComparison:
    """One output (or that part of it which a later stage read)."""

    path: str
    recorded: str  # hash
    reproduced: str | None  # None: it was not made
    differences: tuple[Difference, ...] = ()  # the largest of each file that differs
    drawings: tuple[str, ...] = ()  # files that differ and hold no numbers of their own

    @property
    def is_equal(self) -> bool:
        return self.recorded == self.reproduced


@dataclass(frozen=True)
class MetricComparison:
    points: int  # that were recorded
    differences: tuple[Difference, ...]


def compare_output(path: str, recorded: str, made: Path, fetcher: Fetcher, scratch: Path) -> OutputComparison:
    """Compare one output by hash, then, if that differs, file by file as numbers.

    made: the output as it came out. scratch: where the recorded content may be put.
    """
    if not made.exists():
        missing = Difference(path, recorded, "not made", math.inf)
        return OutputComparison(path, recorded, None, (missing,))
    reproduced = hashes.md5(made)
    if reproduced == recorded:
        return OutputComparison(path, recorded, reproduced)
    before = scratch / "recorded" / path
    if not fetcher.fetch(path, recorded, before):
        unknown = _by_listing(path, recorded, made, fetcher)
        return OutputComparison(path, recorded, reproduced, unknown)
    differences: list[Difference] = []
    drawings: list[str] = []
    for name in sorted({*_files(before), *_files(made)}):
        one, other = before / name, made / name
        shown = f"{path}/{name}" if name else path
        if not one.is_file() or not other.is_file():
            said = ("there", "not made") if one.is_file() else ("not there", "made")
            differences.append(Difference(shown, *said, math.inf))
        elif hashes.md5(one) != hashes.md5(other):
            if one.suffix in numbers.DRAWINGS:
                drawings.append(shown)
                continue
            kept = numbers.largest(one, other, shown)
            differences.append(kept or Difference(shown, "the same numbers", "in other bytes", 0.0))
    return OutputComparison(path, recorded, reproduced, tuple(differences), tuple(drawings))


def _by_listing(path: str, recorded: str, made: Path, fetcher: Fetcher) -> tuple[Difference, ...]:
    """Which files differ, where the recorded content is gone and its listing is not; else the output as a whole."""
    listing = fetcher.listing(recorded, path)
    if listing is None:
        return (Difference(path, recorded, f"{hashes.md5(made)}; the recorded content is gone", math.inf),)
    now = {name: hashes.md5(made / name) for name in _files(made)}
    return tuple(
        Difference(f"{path}/{name}", listing.get(name, "not there"), now.get(name, "not made"), math.inf)
        for name in sorted({*listing, *now})
        if listing.get(name) != now.get(name)
    )


def _files(path: Path) -> list[str]:
    """The files below a folder; of a file, the empty name."""
    if not path.is_dir():
        return [""]
    return [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]


def compare_metrics(recorded: Points, made: Points) -> MetricComparison:
    """Compare every point but measurements; one that only one side has differs by infinity."""
    count = 0
    differences = []
    for name in sorted({*recorded, *made}):
        if name.rpartition(": ")[2].startswith(MEASURED):
            continue
        before, now = recorded.get(name, {}), made.get(name, {})
        count += len(before)
        for step in sorted({*before, *now}):
            if step not in before or step not in now:
                said = (repr(before[step]), "not logged") if step in before else ("not logged", repr(now[step]))
                differences.append(Difference(f"{name} at step {step}", *said, math.inf))
            elif (distance := numbers.size(before[step], now[step])) > 0:
                differences.append(Difference(f"{name} at step {step}", repr(before[step]), repr(now[step]), distance))
    return MetricComparison(count, tuple(differences))


def points(runs: Runs, run: Recorded) -> Points:
    """All points of a run and of those below it (a search's trials), these named by what they are."""
    found: dict[str, Mapping[int, float]] = dict(runs.metrics(run))
    for child in runs.find({"mlflow.parentRunId": run.run_id}, run.experiment_id):
        number = next((child.tags[tag] for tag in ("retrace.trial", "retrace.fold") if tag in child.tags), "")
        found |= {f"{child.stage} {number}: {name}": steps for name, steps in runs.metrics(child).items()}
    return found
