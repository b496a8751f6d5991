"""Runs a study: its data, its points one by one or side by side, its report; an MLflow run with one below it a point.

Killed and started again it goes on: a point that has ended is not worked on again, a fit goes on from its checkpoint.
"""

import csv
import hashlib
import io
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.errors import Mistake
from pipeline.lineage import hashes
from pipeline.params import Params
from pipeline.params.fields import flattened
from pipeline.state import refuse_changes
from pipeline.studies import data as studied
from pipeline.studies.base import Job, Outcome, Point, Report, Row, Study, Tree
from pipeline.tracking import Parent, open_run
from pipeline.training.workers import WorkerLostError, Workers

RESULTS = "results.csv"
REPORT = "report.md"
MEASURED = "measured"  # the folder of what depends on this machine's speed


@dataclass(frozen=True)
class Order:
    """All that a point is a function of; it can be pickled."""

    number: int
    point: Point
    params: Params
    folder: Path | None  # its data
    parent: Parent  # the study's run
    study: str

    @property
    def state(self) -> Path:
        """Where the point keeps what it has."""
        return self.parent.work.folder / f"point-{self.number:03d}"

    @property
    def ended(self) -> Path:
        """What came of the point, once it has ended."""
        return self.state / "outcome.json"


def chosen(study: Study, params: Params, own: Tree) -> tuple[Params, list[Point]]:
    """params.yaml, what the study fixes and what the user sets, over one another; and the points of that.

    Raises Mistake where a value that the user sets is in force nowhere: the study sets it itself.
    """
    under = params.overlaid(study.fixed).overlaid(own)
    points = list(study.points(under))
    everywhere = [under.overlaid(point.data or {}).overlaid(point.changes).flat() for point in points]
    without = [
        f"-S {name}={value}: has no effect, the study sets it itself"
        for name, value in flattened(own)
        if not any(values.get(name) == value for values in everywhere)
    ]
    if without:
        raise Mistake(*without)
    return under, points


def run(name: str, study: Study, params: Params, own: Tree, workers: int) -> Report:
    """Run a study and write artifacts/studies/NAME. own: what the user sets, over all but what varies."""
    import pipeline.training.fit  # noqa: F401  # the environment that a result depends on then is torch's too

    under, points = chosen(study, params, own)
    folders: dict[str, Path] = {}
    bases = [None if point.data is None else under.overlaid(point.data) for point in points]
    for base in bases:
        if base is not None and studied.key_of(base) not in folders:
            print(f"study: {base.data.source}: source, prepare, augment", flush=True)
            folders[studied.key_of(base)] = studied.made(base)
    laid = [(base or under).overlaid(point.changes) for base, point in zip(bases, points, strict=True)]
    target = paths.STUDIES / name
    contents = {"code": studied.code(), "points": _digest(points, laid)}
    for key, folder in folders.items():
        contents |= {f"{path}:{key[:8]}": hashes.md5(folder / path) for path in (paths.PREPARED, paths.AUGMENTED)}
    with open_run("study", under, [], [target], name=f"study-{name}", contents=contents) as tracked:
        tracked.set_tags({"retrace.study": name})
        orders = [
            Order(number, point, values, folders[studied.key_of(base)] if base else None, tracked.as_parent, name)
            for number, (point, base, values) in enumerate(zip(points, bases, laid, strict=True))
        ]
        kept = sum(order.ended.is_file() for order in orders)
        if kept:
            print(f"study: {kept} of {len(points)} points are kept from before", flush=True)
        outcomes: dict[str, Outcome] = {}
        for outcome in _done(orders, 1 if study.is_timing else min(workers, len(orders))):
            outcomes[outcome.name] = outcome
            print(f"study: {outcome.name} ({len(outcomes)} of {len(points)})", flush=True)
            refuse_changes(tracked.work)
        report = study.report(under, {point.name: outcomes[point.name] for point in points})
        with paths.replacing(target) as (folder,):
            write(folder, name, study, report, own)
        for file in sorted(target.iterdir()):
            tracked.log_artifact(file)
    return report


def _digest(points: Sequence[Point], laid: Sequence[Params]) -> str:
    content = [
        [point.name, f"{point.work.__module__}.{point.work.__qualname__}", dict(point.settings), values.flat()]
        for point, values in zip(points, laid, strict=True)
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _done(orders: Sequence[Order], workers: int) -> Iterator[Outcome]:
    if workers <= 1:
        yield from map(run_point, orders)
        return
    try:
        with Workers(run_point, workers) as pool:
            yield from pool.run(orders)
    except WorkerLostError as lost:
        raise Mistake(
            f"study: the process that worked on {lost.order.point.name} {lost.how}, most often because memory ran out;"
            " use fewer --workers, then run the same command again"
        ) from None


def run_point(order: Order) -> Outcome:
    """Do a point's work, record it as a run below the study's, and keep what came of it."""
    work = order.parent.work
    if order.ended.is_file():
        return Outcome(**json.loads(order.ended.read_text(encoding="utf-8")))
    tags = {"retrace.study": order.study, "retrace.point": order.point.name, "retrace.trial": str(order.number)}
    with order.parent.child("trial", order.point.name, order.params, tags) as run:
        identity = f"{work.fingerprint} {order.number}"
        job = Job(order.params, order.point.settings, order.folder, run, order.state / "fits", identity)
        figures = order.point.work(job)
        outcome = Outcome(order.point.name, figures, job.measured)
        step = int(figures["epochs"][-1]["step"]) if figures.get("epochs") else 0
        run.log_metrics(dict(_numbers(figures)), step=step)
        run.log_measurements(job.measured, step=step)
    content = {"name": outcome.name, "figures": outcome.figures, "measured": outcome.measured}
    paths.write_atomically(order.ended, json.dumps(content).encode())
    shutil.rmtree(order.state / "fits", ignore_errors=True)
    return outcome


def _numbers(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, int | float):
            yield f"study/{name}", float(value)


# --- the outputs ------------------------------------------------------------------------------------------------------


def write(folder: Path, name: str, study: Study, report: Report, own: Tree) -> None:
    """A study's command, verdict, pictures and table; what the machine did lies in a folder of its own."""
    (folder / RESULTS).write_text(table(report.rows), encoding="utf-8")
    for figure, content in report.figures.items():
        (folder / f"{figure}.png").write_bytes(content)
    command = " ".join(["retrace study", name, *(f"-S {key}={value}" for key, value in flattened(own))])
    fixed = ", ".join(f"{key} {value}" for key, value in flattened(study.fixed) if key not in dict(flattened(own)))
    lines = [f"# {name}: {study.question}", "", f"`{command}`, where the study itself sets {fixed or 'nothing'}.", ""]
    lines += [report.verdict, ""]
    lines += [line for figure in report.figures for line in (f"![{figure}]({figure}.png)", "")]
    (folder / REPORT).write_text("\n".join([*lines, *markdown(report.rows), ""]), encoding="utf-8")
    if report.measured is not None:
        (folder / MEASURED).mkdir()
        write(folder / MEASURED, name, study, report.measured, own)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def table(rows: Sequence[Row]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown(rows: Sequence[Row]) -> list[str]:
    """Rows as the lines of a table in Markdown, numbers with five digits."""
    columns = _columns(rows)
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return lines + [f"| {' | '.join(shown(row.get(column, '')) for column in columns)} |" for row in rows]


def shown(value: Any) -> str:
    """A value for people."""
    if isinstance(value, float):
        return f"{value:.5g}" if math.isfinite(value) else str(value)
    return str(value)
