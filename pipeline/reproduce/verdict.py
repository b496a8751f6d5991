"""The answer, and the exit status that goes with it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.errors import ExitStatus
from pipeline.reproduce.compare import MetricComparison, OutputComparison
from pipeline.reproduce.numbers import Difference

IDENTICAL = "bit-identical"
WITHIN = "within tolerance"
DIFFERS = "differs"
NOT_COMPARABLE = "cannot be compared here"
STATUS = {
    IDENTICAL: ExitStatus.SUCCESS,
    WITHIN: ExitStatus.SUCCESS,
    DIFFERS: ExitStatus.NEGATIVE_VERDICT,
    NOT_COMPARABLE: ExitStatus.NOT_COMPARABLE,
}
_SHOWN = 10

Pairs = Mapping[str, tuple[str | None, str | None]]  # name -> (recorded, here)


class CannotCompare(Exception):
    """Something is missing without which nothing can be said of the run; the lines say exactly what."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True)
class StageResult:
    """One stage that was run again."""

    stage: str
    run: str | None  # the recorded one; None where none was found, and its outputs are known by their hashes alone
    key: str  # local key of the new run, which proves that the stage ran
    outputs: tuple[OutputComparison, ...]
    metrics: MetricComparison
    inputs: Pairs = field(default_factory=dict)  # dependencies that differ, hash by hash
    machine: Pairs = field(default_factory=dict)  # what of the machine differs and decides over bits
    packages: Pairs = field(default_factory=dict)  # versions that differ
    seconds: float | None = None
    recorded_seconds: float | None = None

    @property
    def is_equal(self) -> bool:
        return all(output.is_equal for output in self.outputs) and not self.metrics.differences

    @property
    def differences(self) -> tuple[Difference, ...]:
        """All that differs and is a number, or should be one."""
        return (*(item for output in self.outputs for item in output.differences), *self.metrics.differences)

    @property
    def largest(self) -> Difference | None:
        return max(self.differences, key=lambda difference: difference.size, default=None)


@dataclass(frozen=True)
class Verdict:
    word: str
    lines: tuple[str, ...] = ()

    @property
    def status(self) -> ExitStatus:
        return STATUS[self.word]


def judge(results: Sequence[StageResult], tolerance: float | None, files: Sequence[str] = ()) -> Verdict:
    """The verdict over the stages that were run again, in their order.

    tolerance: the largest difference (as `numbers` defines it) that is let pass; None: none is asked for.
    files: raw files that changed, each with how.
    """
    machine = _merged(result.machine for result in results)
    compared = sum(len(result.outputs) for result in results), sum(result.metrics.points for result in results)
    counts = f"{compared[0]} outputs and {compared[1]} points of metrics of {', '.join(r.stage for r in results)}"
    if all(result.is_equal for result in results):
        notes = [f"{counts} are equal to the last bit"]
        if machine:
            notes.append(f"although it is another machine: {_shown(machine)}")
        packages = _merged(result.packages for result in results)
        if packages:
            notes.append(f"although packages differ: {_shown(packages)}")
        return Verdict(IDENTICAL, tuple(notes))
    worst = max((r.largest for r in results if r.largest is not None), key=lambda d: d.size, default=None)
    if tolerance is not None and (worst is None or worst.size <= tolerance):
        drawings = sorted({name for result in results for output in result.outputs for name in output.drawings})
        said = [counts, "the largest difference: " + (shown(worst) if worst else "none in numbers")]
        if drawings:
            said.append(f"drawn anew, and not compared as numbers: {', '.join(drawings)}")
        return Verdict(WITHIN, tuple(said))
    first = next(result for result in results if not result.is_equal)
    lines = [f"first at stage {first.stage}: {_first(first)}"]
    of_raw = files if first.stage == "source" else ()
    lines += _causes(first, of_raw)
    if worst is not None and not math.isinf(worst.size):
        lines.append(f"the largest difference in all: {shown(worst)}")
    later = [result.stage for result in results if not result.is_equal and result is not first]
    same = [result.stage for result in results if result.is_equal]
    if later:
        lines.append(f"differ as well: {', '.join(later)}")
    if same:
        lines.append(f"bit-identical: {', '.join(same)}")
    if machine and not first.inputs:
        missing = [
            f"{name}: {pair[0]} when it was recorded, {pair[1]} here: bits are promised for one of them alone"
            for name, pair in machine.items()
        ]
        remedy = "run it on a machine that has it, or ask for what is near: --tolerance 1e-4"
        return Verdict(NOT_COMPARABLE, (*missing, remedy, *lines))
    return Verdict(DIFFERS, tuple(lines))


def _first(result: StageResult) -> str:
    output = next((output for output in result.outputs if not output.is_equal), None)
    if output is None:
        return shown(result.metrics.differences[0])
    if output.differences:
        return shown(max(output.differences, key=lambda difference: difference.size))
    return f"{output.path}: {', '.join(output.drawings)}, though its numbers are equal"


def _causes(result: StageResult, files: Sequence[str]) -> Iterator[str]:
    for path, (recorded, here) in result.inputs.items():
        yield f"an input changed: {path}: {recorded} when it was recorded, {here or 'missing'} here"
    yield from (f"the raw data changed: {line}" for line in some(files))
    if result.packages:
        yield f"packages changed: {_shown(result.packages)}"
    if not (result.inputs or files or result.packages or result.machine):
        yield (
            "no input changed: neither parameters, data, code, packages nor machine; the result was altered after it"
            " was recorded, or the stage does not do the same twice"
        )


def shown(difference: Difference) -> str:
    """One difference for people."""
    by = "" if math.isinf(difference.size) else f" (by {difference.size:.3g})"
    return f"{difference.where}: {difference.recorded} recorded, {difference.reproduced} now{by}"


def some(lines: Sequence[str]) -> list[str]:
    """The first few lines, and how many more there are."""
    rest = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"... and {rest} more"] if rest > 0 else [])]


def _shown(pairs: Pairs) -> str:
    said = [f"{name} {before or 'absent'}, here {now or 'absent'}" for name, (before, now) in pairs.items()]
    return "; ".join(some(said))


def _merged(parts: Iterator[Pairs]) -> dict[str, tuple[str | None, str | None]]:
    return {name: pair for part in parts for name, pair in part.items()}


def as_json(result: StageResult) -> dict[str, Any]:
    """A stage's comparisons, with infinity as a text: not every reader of JSON knows it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    content: dict[str, Any] = plain({**asdict(result), "equal": result.is_equal})
    return content
