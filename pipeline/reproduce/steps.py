"""One run on its way from the record to the verdict, step by step."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import paths
from pipeline.errors import Mistake
from pipeline.reproduce import chain, compare, raw, rerun, seeds, verdict, workspace
from pipeline.reproduce.chain import Chain, Link
from pipeline.reproduce.fetch import Fetcher
from pipeline.reproduce.record import Record
from pipeline.reproduce.rerun import Stages
from pipeline.reproduce.verdict import CannotCompare, StageResult, Verdict
from pipeline.tracking.recorded import Runs

_READ_RAW = ("source", "prepare")  # stages that look at data.path themselves


@dataclass(frozen=True)
class Options:
    run_id: str
    here: bool = False
    tolerance: float | None = None
    only: str | None = None
    seeds: int = 0
    keep: bool = False


@dataclass
class Findings:
    """What has been found out so far: the report holds it also where the end is that nothing can be compared."""

    results: list[StageResult] = field(default_factory=list)
    files: list[str] = field(default_factory=list)  # raw files that changed, each with how
    notes: list[str] = field(default_factory=list)
    spreads: list[seeds.Spread] = field(default_factory=list)

    def note(self, line: str) -> None:
        self.notes.append(line)
        say(line)


def say(line: str) -> None:
    """Print a line. Much of it is from a server: it may not steer the terminal."""
    print("".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in line), flush=True)


class Reproduction:
    """One run on its way from the record to the verdict."""

    def __init__(self, options: Options, runs: Runs, target: Record, scratch: Path, findings: Findings) -> None:
        self._options = options
        self._runs = runs
        self._target = target
        self._scratch = scratch
        self._findings = findings
        self._fetcher = Fetcher(Path.cwd(), scratch)

    def run(self) -> Verdict:
        target, findings = self._target, self._findings
        if target.contradictions:
            raise CannotCompare("the record contradicts itself, and was altered:", *target.contradictions)
        rerun.check_lock(target)
        for line in verdict.some(target.left_out):
            findings.note(f"not recorded whole: {line}")
        self._workspace = workspace.prepare(target, Path.cwd(), self._scratch)
        found = chain.of(target, self._workspace.clone / paths.DVC_YAML, self._runs, self._scratch)
        self._tell_code(found)
        self._stages = Stages(self._workspace, self._environment(), self._target)
        for link in found.links[self._start(found) :] if self._options.only is None else self._alone(found):
            findings.results.append(self._again(link))
        decided = verdict.judge(findings.results, self._options.tolerance, findings.files)
        if self._options.seeds:
            try:
                findings.spreads = self._seeds(found)
            except CannotCompare as reason:  # such as a seed with which it diverges: the verdict stands
                for line in ("--seeds: no answer:", *reason.lines):
                    findings.note(line)
        return decided

    # --- code and environment -----------------------------------------------------------------------------------------

    def _tell_code(self, found: Chain) -> None:
        outputs = [out for link in found.links for out in link.outs]
        data = tuple(path for path in self._target.dependencies if any(chain.within(path, out) for out in outputs))
        for path, digest in workspace.not_as_recorded(self._target, self._workspace, data).items():
            said = "missing" if digest is None else "not what the run read"
            self._findings.note(f"{path}: {said} in commit {self._target.commit[:12]} with the recorded difference")

    def _environment(self) -> rerun.Interpreter:
        if not self._options.here:
            say("environment: installing the recorded versions (this takes some minutes)")
            return rerun.fresh(self._target, self._workspace)
        differ = rerun.package_differences(self._target.packages, rerun.installed_here())
        said = [f"{name} {before or 'absent'}, here {now or 'absent'}" for name, (before, now) in differ.items()]
        self._findings.note(
            "environment: the present one, "
            + ("with the recorded versions" if not said else f"which differs: {'; '.join(verdict.some(said))}")
        )
        return rerun.present()

    # --- where to begin -----------------------------------------------------------------------------------------------

    def _start(self, found: Chain) -> int:
        """The index of the first stage that is still to run: after source, where the raw data are as they were; else
        the first whose inputs can be fetched. What is told of source then stands in the findings."""
        first = found.links[0]
        if first.stage != "source":
            return self._fetched(found, 0, "")
        try:
            result = self._again(first)
        except CannotCompare as reason:
            why = "the raw data cannot be listed"
            if first is found.links[-1]:
                raise
            self._findings.note(f"{why}: {' '.join(reason.lines[1:-1] or reason.lines).strip()[-300:]}")
            return self._fetched(found, 1, why)
        if all(output.is_equal for output in result.outputs):
            self._findings.results.append(result)
            return 1
        self._findings.files = self._changed_files(result)
        for line in verdict.some(self._findings.files):
            self._findings.note(f"the raw data changed: {line}")
        if self._target.stage in _READ_RAW or not (start := self._first_fetched(found, 1)):
            self._findings.results.append(result)
            return len(found.links)  # nothing further is the same either
        return start

    def _fetched(self, found: Chain, after: int, why: str) -> int:
        start = self._first_fetched(found, after)
        if start:
            return start
        raise CannotCompare(
            *([why] if why else []),
            "no stage can be begun with what there is: neither DVC's cache nor its remote nor the project's folders"
            " have what was recorded of:",
            *(f"  {path}: {digest}" for path, digest in sorted(found.inputs(len(found.links) - 1).items())),
            *([self._fetcher.remote_said] if self._fetcher.remote_said else []),
            "`dvc pull` brings it from a remote; or put the raw data back where data.path says",
        )

    def _first_fetched(self, found: Chain, after: int) -> int:
        """The first stage, beyond those that read raw data, whose inputs can all be brought here; 0: there is none."""
        for index in range(after, len(found.links)):
            link = found.links[index]
            if link.stage in _READ_RAW or any(later.record is None for later in found.links[index:]):
                continue
            if self._bring(found.inputs(index)):
                self._findings.note(f"begins at {link.stage}, with its inputs as they were recorded")
                return index
        return 0

    def _bring(self, inputs: Mapping[str, str]) -> bool:
        return all(self._fetcher.fetch(path, digest, self._workspace.place(path)) for path, digest in inputs.items())

    def _alone(self, found: Chain) -> tuple[Link, ...]:
        """The one stage of --only, its inputs brought here."""
        name = self._options.only
        link = found.link(name or "")
        if link is None:
            names = ", ".join(link.stage for link in found.links)
            raise Mistake(f"--only {name}: no stage on the way to this run; they are {names}")
        if link.record is None:
            raise Mistake(
                f"--only {name}: no recorded run made what this run read of it; name the run of that stage itself"
            )
        own = Chain(found.links[: found.links.index(link) + 1])
        inputs = own.inputs(len(own.links) - 1)
        missing = [
            path
            for path, digest in sorted(inputs.items())
            if not self._fetcher.fetch(path, digest, self._workspace.place(path))
        ]
        if missing:
            raise CannotCompare(
                f"{name}: its inputs are gone from DVC's cache, its remote and the project's folders:",
                *(f"  {path}: {inputs[path]}" for path in missing),
                *([self._fetcher.remote_said] if self._fetcher.remote_said else []),
            )
        return (link,)

    def _changed_files(self, result: StageResult) -> list[str]:
        changed = {output.path: output for output in result.outputs if not output.is_equal}
        output = changed.pop(paths.SOURCE.as_posix(), None)
        lines = [f"{other.path}: {other.recorded} recorded, {other.reproduced} now" for other in changed.values()]
        return lines if output is None else [*lines, *self._changed_raw_files(output)]

    def _changed_raw_files(self, output: compare.OutputComparison) -> list[str]:
        before = self._scratch / "recorded" / output.path
        if not before.is_file():  # comparing has fetched it, where anybody has it
            return [f"{output.path}: {output.recorded} recorded, {output.reproduced} now; the recorded list is gone"]
        return raw.changed_or_why_not(before, self._workspace.clone / output.path)

    # --- again --------------------------------------------------------------------------------------------------------

    def _again(self, link: Link) -> StageResult:
        print(f"  {link.stage:<9} ", end="", flush=True)
        began = time.monotonic()
        try:
            made = self._stages.run(link.stage)
            seconds = time.monotonic() - began
            result = self._compared(link, made)
        except BaseException as error:
            how = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            say(f"{how} after {time.monotonic() - began:.1f} s")
            raise
        said = "bit-identical" if result.is_equal else "differs"
        if not result.outputs:
            said = "ran; what it made when it was recorded is not known"
        say(f"{seconds:6.1f} s  {said} ({len(result.outputs)} outputs, {result.metrics.points} points)")
        return result

    def _compared(self, link: Link, made: Record) -> StageResult:
        outputs = tuple(
            compare.compare_output(path, digest, self._workspace.place(path), self._fetcher, self._scratch)
            for path, digest in sorted(link.expected.items())
        )
        before = link.record
        if before is None:
            return StageResult(
                link.stage, None, made.run.tags["retrace.key"], outputs, compare.MetricComparison(0, ()),
                seconds=made.run.seconds,
            )  # fmt: skip
        mine = self._stages.runs()
        return StageResult(
            stage=link.stage,
            run=before.run.run_id,
            key=made.run.tags["retrace.key"],
            outputs=outputs,
            metrics=compare.compare_metrics(compare.points(self._runs, before.run), compare.points(mine, made.run)),
            inputs=_differing(before.dependencies, made.dependencies),
            machine=_differing(before.machine, made.machine),
            packages=rerun.package_differences(before.packages, made.packages),
            seconds=made.run.seconds,
            recorded_seconds=before.run.seconds,
        )

    # --- other seeds --------------------------------------------------------------------------------------------------

    def _seeds(self, found: Chain) -> list[seeds.Spread]:
        index = next(number for number, link in enumerate(found.links) if link.stage == "train")
        if any(link.record is None for link in found.links[index:]) or not self._bring(found.inputs(index)):
            raise CannotCompare("--seeds: the inputs of train are gone, and cannot be trained on with other seeds")
        stages = [link.stage for link in found.links[index:]]

        def run(stage: str) -> Mapping[str, float]:
            say(f"  another seed: {stage}")
            made = self._stages.run(stage)
            return seeds.figures(self._stages.runs().metrics(made.run), self._target.stage)

        own = seeds.figures(self._runs.metrics(self._target.run), self._target.stage)
        return seeds.ask(self._options.seeds, self._workspace.clone, stages, run, own)


def _differing(recorded: Mapping[str, str], here: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    names = sorted({*recorded, *here})
    return {name: (recorded.get(name), here.get(name)) for name in names if recorded.get(name) != here.get(name)}
