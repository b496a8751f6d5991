"""`retrace trace`: from a number, a file or a run back to the raw data and the code."""

from collections.abc import Iterator
from pathlib import Path

from pipeline import params, paths
from pipeline.commands import chain, log, page, text
from pipeline.errors import ExitStatus, Mistake
from pipeline.lineage import dvc_files, reuse
from pipeline.params.fields import nearest
from pipeline.tracking.store import Recorded, Store


def trace(what: str) -> int:
    """Print the chain that leads to `what`, and draw it on a page under .retrace/trace.

    NEGATIVE_VERDICT where a link is broken: something was read that no known run has made.
    """
    reuse.look()
    store = text.opened(params.load())
    title, run, remarks = _found(store, log.relative(what))
    top = chain.chain(store, run)
    title = title or f"the run {run.name}"
    print(title)
    print("\n".join(lines(top)))
    broken = [*remarks, *chain.problems(top)]
    file = paths.state() / "trace" / f"{run.name}-{run.run_id[:8]}.html"
    paths.write_atomically(file, page.page(title, top, broken).encode())
    print()
    for line in broken:
        print(f"BROKEN  {line}")
    print(f"as a page: {file}")
    text.say_what_waits()
    return ExitStatus.NEGATIVE_VERDICT if broken else ExitStatus.SUCCESS


# --- where it begins --------------------------------------------------------------------------------------------------


def _found(store: Store, what: str) -> tuple[str | None, Recorded, list[str]]:
    """What to call it, the run in which the chain begins, and what is wrong already.

    Raises Mistake where `what` is nothing that is known.
    """
    if Path(what).exists():
        return _of_file(store, what)
    named = store.named(what)
    if named:
        if len({run.run_id for run in named}) > 1:
            shown = ", ".join(f"{run.run_id} ({run.name})" for run in named[:5])
            raise Mistake(f"{what}: means {len(named)} runs: {shown}; give one's id")
        return None, named[0], []
    return _of_metric(store, what)


def _of_file(store: Store, path: str) -> tuple[str, Recorded, list[str]]:
    output = next((out for out in dvc_files.outputs_of_stages() if path == out or path.startswith(f"{out}/")), None)
    if output is None:
        raise Mistake(
            f"{path}: is in no output of dvc.yaml, so that no run has made it; give an output, a run or a metric"
        )
    digest, problem = log.current(output)
    run = store.maker(output, str(digest))
    if run is None:
        last = store.last_maker(output)
        wrote = f"; the last run that wrote there is {last.name} ({last.run_id})" if last is not None else ""
        raise Mistake(f"{output}: no run in MLflow has made what is there now ({digest}){wrote}")
    title = path if path == output else f"{path}, in {output}"
    return f"{title}  {text.short(str(digest))}", run, [f"{output}: {problem}"] if problem else []


def _of_metric(store: Store, name: str) -> tuple[str, Recorded, list[str]]:
    """A metric of the runs that made what is here; of two, the one nearest to the end of the pipeline."""
    known: list[str] = []
    for run in _current_runs(store):
        if name in run.metrics:
            return f"{name} = {run.metrics[name]!r} in {run.name}", run, []
        known += run.metrics
    if not known:
        raise Mistake(f"{name}: no such file or run, and no run in MLflow has made what is here; see `retrace history`")
    other = nearest(name, known, "; `retrace history` lists runs")
    raise Mistake(f"{name}: no such file, run, or metric of the runs that made what is here{other}")


def _current_runs(store: Store) -> Iterator[Recorded]:
    for output in reversed(dvc_files.outputs_of_stages()):
        digest, _ = log.current(output)
        run = store.maker(output, digest) if digest is not None else None
        if run is not None:
            yield run


# --- as text ----------------------------------------------------------------------------------------------------------


def lines(top: chain.Node) -> Iterator[str]:
    """The chain as a tree. What is reached on several ways is told the first time."""
    told: set[str] = set()

    def of(node: chain.Node, indent: str) -> Iterator[str]:
        told.add(node.run.run_id)
        run = node.run
        yield f"{indent}{run.stage}  {run.name}  {run.status}  {text.when(run.started)}  {text.where(run)}"
        inner = f"{indent}{'│' if node.links else ' '}    "
        yield f"{inner}run {run.run_id}"
        yield f"{inner}{code(node)}"
        for fact in node.facts:
            yield f"{inner}{fact}"
        for index, link in enumerate(node.links):
            is_last = index == len(node.links) - 1
            head, below = (f"{indent}└─ ", f"{indent}   ") if is_last else (f"{indent}├─ ", f"{indent}│  ")
            yield f"{head}{_shown(link, told)}"
            if link.maker is not None and link.maker.run.run_id not in told:
                yield from of(link.maker, below)

    yield from of(top, "")


def _shown(link: chain.Link, told: set[str]) -> str:
    what = f"{link.path}  {text.short(link.digest)}".rstrip()
    if link.problem:
        return f"{what}  BROKEN: {link.problem}"
    if link.is_raw:
        return f"{what}  the hash of the listing of the raw files: here the chain ends"
    if link.maker is None:
        return what
    if link.maker.run.run_id in told:
        return f"{what}  = made by {link.maker.run.name}, above"
    return f"{what}  = made by"


def code(node: chain.Node) -> str:
    """One line on the code and the environment of a run."""
    run = node.run
    found = run.tags.get("retrace.commit")
    parts = ["no commit" if found is None else f"commit {found[:12]}"]
    difference = run.tags.get("retrace.diff", "unknown")
    if difference not in ("none", "unknown", "left out"):
        parts.append(f"with uncommitted changes {difference[:8]} (lineage/changes.diff)")
    elif run.tags.get("retrace.dirty") != "false" and found is not None:
        parts.append(f"with uncommitted changes that are not recorded ({difference})")
    if (untracked := run.tags.get("retrace.untracked", "none")) != "none":
        parts.append(f"and {untracked} untracked files")
    if node.code:
        parts.append(f"{len(node.code)} files of code")
    if "retrace.environment" in run.tags:
        parts.append(f"environment {run.tags['retrace.environment'][:8]}")
    return ", ".join(parts).replace(", and ", " and ").replace(", with ", " with ")
