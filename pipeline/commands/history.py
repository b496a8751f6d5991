"""`retrace history`: the last runs, the newest first."""

import itertools

from pipeline import params
from pipeline.commands import text
from pipeline.lineage import reuse

_HEADER = ("started", "stage", "run", "run id", "status", "took", "result", "commit", "made on", "reused")


def history(limit: int, stage: str | None) -> int:
    """Print a line for each of the last `limit` runs, of all stages or of one (trial, too)."""
    reuse.look()
    store = text.opened(params.load())
    rows = [_HEADER]
    for run in itertools.islice(store.newest(stage), limit):
        rows.append(
            (
                text.when(run.started),
                run.stage,
                run.name,
                run.run_id,
                run.status,
                text.duration(run),
                text.key_metric(run),
                text.commit(run),
                text.where(run),
                str(run.reused or "-"),
            )
        )
    if len(rows) > 1:
        print(text.columns(rows))
    else:
        print("no runs" if stage is None else f"no runs of {stage}")
    text.say_what_waits()
    return 0
