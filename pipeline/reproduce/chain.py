"""Which stages lead to one, by the dvc.yaml that was recorded, and which runs made what they handed on."""

import graphlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.errors import Mistake
from pipeline.params import read_mapping
from pipeline.reproduce import record
from pipeline.reproduce.record import Record
from pipeline.tracking.recorded import Runs


@dataclass
class Link:
    """One stage on the way to the one that is asked for."""

    stage: str
    outs: tuple[str, ...]
    handed_on: dict[str, str] = field(default_factory=dict)  # what later stages read of its outputs: path -> hash
    record: Record | None = None  # of the run that made them

    @property
    def expected(self) -> dict[str, str]:
        """Hashes of its outputs, or of those parts that are known."""
        whole = dict(self.record.outputs) if self.record else {}
        return {**self.handed_on, **whole}


@dataclass(frozen=True)
class Chain:
    """The stages up to the one that is asked for, in the order in which they run."""

    links: tuple[Link, ...]

    def link(self, stage: str) -> Link | None:
        return next((link for link in self.links if link.stage == stage), None)

    def inputs(self, first: int) -> dict[str, str]:
        """What the stages from `links[first]` on read of those before: path -> hash."""
        before = [out for link in self.links[:first] for out in link.outs]
        wanted: dict[str, str] = {}
        for link in reversed(self.links[first:]):
            for path, digest in (link.record.dependencies if link.record else {}).items():
                if any(within(path, out) for out in before):
                    wanted.setdefault(path, digest)
        return wanted


def within(path: str, folder: str) -> bool:
    return PurePosixPath(folder) in (PurePosixPath(path), *PurePosixPath(path).parents)


def of(target: Record, dvc_yaml: Path, runs: Runs, scratch: Path) -> Chain:
    """The chain that ends with the recorded run `target`. Raises Mistake where dvc.yaml has no such stage."""
    outs, deps = _stages(dvc_yaml)
    if target.stage not in outs:
        raise Mistake(
            f"{target.run.run_id}: the recorded dvc.yaml has no stage {target.stage}; the run cannot be made again"
        )
    links = [Link(stage, outs[stage]) for stage in _order(target.stage, outs, deps)]
    links[-1].record = target
    for link in reversed(links):
        if link.record is None:
            link.record = _maker(link, target, runs, scratch)
        for path, digest in (link.record.dependencies if link.record else {}).items():
            for earlier in links:
                if any(within(path, out) for out in earlier.outs):
                    earlier.handed_on.setdefault(path, digest)
    return Chain(tuple(links))


def _stages(file: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    def names(entries: Sequence[str | Mapping[str, object]]) -> tuple[str, ...]:
        return tuple(next(iter(entry)) if isinstance(entry, Mapping) else str(entry) for entry in entries)

    said = read_mapping(file).get("stages") or {}
    return (
        {stage: names(content.get("outs", [])) for stage, content in said.items()},
        {stage: names(content.get("deps", [])) for stage, content in said.items()},
    )


def _order(stage: str, outs: Mapping[str, Sequence[str]], deps: Mapping[str, Sequence[str]]) -> list[str]:
    graph: dict[str, set[str]] = {}
    waiting = [stage]
    while waiting:
        name = waiting.pop()
        if name not in graph:
            graph[name] = {
                other for other in outs if any(within(dep, out) for dep in deps[name] for out in outs[other])
            } - {name}
            waiting += sorted(graph[name])
    sorter = graphlib.TopologicalSorter({name: sorted(graph[name], key=list(outs).index) for name in graph})
    return list(sorter.static_order())


def _maker(link: Link, target: Record, runs: Runs, scratch: Path) -> Record | None:
    """The record of the run that made what was handed on; of several, one of the same commit, then the earliest."""
    if not link.handed_on:
        return None
    made = {f"retrace.out.{path}": digest for path, digest in link.handed_on.items()}
    found = runs.find({"retrace.stage": link.stage, **made}, target.run.experiment_id)
    for run in sorted(found, key=lambda run: run.tags.get("retrace.commit") != target.commit):
        try:
            known = record.read(runs, run, scratch)
        except Mistake:  # its lineage is damaged: another one may do, or the hashes alone
            continue
        if known is not None and not known.contradictions:
            return known
    return None
