"""The chain from a run back to the raw data and the code: every run by what it read, found by the hash of that."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.commands import text
from pipeline.lineage import dvc_files
from pipeline.tracking.store import MADE, READ, Recorded, Store

_RAW = "data.path"  # under which source keeps the hash of what it listed


@dataclass(frozen=True)
class Link:
    """Something that a run read, and the run whose output has just this hash."""

    path: str
    digest: str
    maker: "Node | None"
    problem: str | None = None  # why there is none

    @property
    def is_raw(self) -> bool:
        """Whether it is the raw files, which no run makes."""
        return self.path == _RAW


@dataclass
class Node:
    """A run in the chain."""

    run: Recorded
    links: list[Link] = field(default_factory=list)
    code: Mapping[str, str] = field(default_factory=dict)  # files of code, and the locked environment
    facts: list[str] = field(default_factory=list)

    @property
    def made(self) -> dict[str, str]:
        return self.run.hashes(MADE)


def chain(store: Store, run: Recorded) -> Node:
    """The run with all that led to it. A run that several others lead to is one node."""
    return _Builder(store).node(run)


def nodes(top: Node) -> list[Node]:
    """All of a chain, each once, and each after all that read from it: what is nearest to the number comes first."""
    order: list[Node] = []

    def visit(node: Node) -> None:
        if all(node is not other for other in order):
            for link in node.links:
                if link.maker is not None:
                    visit(link.maker)
            order.append(node)

    visit(top)
    return order[::-1]


def problems(top: Node) -> list[str]:
    """The links that are broken."""
    return [
        f"{node.run.name}: {link.path}: {link.problem}" for node in nodes(top) for link in node.links if link.problem
    ]


class _Builder:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Node] = {}
        self._open: set[str] = set()  # runs whose links are being followed
        self._outputs = tuple(dvc_files.outputs_of_stages())

    def node(self, run: Recorded) -> Node:
        if run.run_id in self._known:
            return self._known[run.run_id]
        node = self._known[run.run_id] = Node(run)
        read = run.hashes(READ)
        made_by_runs = {path: digest for path, digest in read.items() if self._is_made(path)}
        node.code = {path: digest for path, digest in read.items() if path not in made_by_runs}
        self._open.add(run.run_id)
        node.links = [self._link(path, made_by_runs[path]) for path in sorted(made_by_runs)]
        self._open.remove(run.run_id)
        node.facts = list(self._facts(node))
        parent = run.tags.get("mlflow.parentRunId")
        if parent and not read:  # a trial reads what its search has read
            found = self._store.run(parent)
            if found is not None:
                node.links.append(Link(found.name, "", self.node(found)))
        return node

    def _is_made(self, path: str) -> bool:
        """Whether a stage makes it; also one of another pipeline than the one that is here."""
        of_here = any(path == out or path.startswith(f"{out}/") for out in self._outputs)
        return of_here or path == _RAW or path.startswith(("data/", "artifacts/"))

    def _link(self, path: str, digest: str) -> Link:
        if path == _RAW:
            return Link(path, digest, None)
        maker = self._store.maker(path, digest)
        if maker is not None and maker.run_id in self._open:
            return Link(
                path, digest, None, f"the run that made it, {maker.name}, was itself made from what followed it"
            )
        if maker is not None:
            return Link(path, digest, self.node(maker))
        last = self._store.last_maker(path)
        if last is None:
            return Link(path, digest, None, "no run in MLflow has made anything there")
        other = last.hashes(MADE)[path]
        return Link(
            path, digest, None,
            f"no run has made this content ({text.short(digest)}); the last that wrote there, {last.name}, made"
            f" {text.short(other)}: it was changed by hand, or its run is not in this MLflow",
        )  # fmt: skip

    def _facts(self, node: Node) -> Iterator[str]:
        run = node.run
        if run.stage == "source" and "source/images" in run.metrics:
            yield f"{run.metrics['source/images']:.0f} raw files of {run.metrics.get('source/classes', 0):.0f} classes"
        elif (found := text.key_metric(run)) != "-":
            yield found
        if run.stage == "search":
            best, count = self._best_trial(run)
            if best is None:
                yield "no trials: the values of params.yaml stand"
            else:
                yield f"best of {count} trials: {best.name}"
                for name in _searched(run):
                    chosen, before = _value(best, name), _value(run, name)
                    yield f"{name} {chosen}" + (
                        f" (params.yaml: {before})" if chosen != before else ", as in params.yaml"
                    )
        for search in [link.maker.run for link in node.links if link.maker and link.maker.run.stage == "search"]:
            best, _ = self._best_trial(search)
            if best is not None:
                for name in _searched(search):
                    yield f"{name} {_value(run, name)}, found by {best.name}"
        yield from _shortcomings(run)

    def _best_trial(self, search: Recorded) -> tuple[Recorded | None, int]:
        trials = [child for child in self._store.children(search) if child.stage == "trial"]
        number = search.tags.get("retrace.best_trial")
        return next((trial for trial in trials if trial.tags.get("retrace.trial") == number), None), len(trials)


def _searched(search: Recorded) -> list[str]:
    """The keys that a search has varied."""

    def leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for key, value in tree.items():
            if isinstance(value, Mapping) and not {"low", "choices"} & set(value):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    try:
        space = json.loads(search.params.get("search.space", "{}"))
    except ValueError:  # MLflow has cut it
        return []
    return sorted(leaves(space, "")) if isinstance(space, dict) else []


def _value(run: Recorded, name: str) -> str:
    found = run.params.get(name, "?")
    try:
        return f"{float(found):.4g}"
    except ValueError:
        return found


def _shortcomings(run: Recorded) -> Iterator[str]:
    """What keeps a run from being made again exactly."""
    if hidden := run.tags.get("retrace.redacted"):
        yield f"passwords were hidden in its record: {', '.join(hidden.splitlines())}"
    if left_out := run.tags.get("retrace.left_out"):
        yield f"left out of its record: {', '.join(line.partition(':')[0] for line in left_out.splitlines())}"
    if lost := run.tags.get("retrace.determinism"):
        yield f"determinism {lost}"
