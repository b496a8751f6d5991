"""`retrace reproduce RUN_ID`: the steps in their order, told as they are done."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import locks, params, paths
from pipeline.errors import Mistake
from pipeline.reproduce import record, seeds, verdict, workspace
from pipeline.reproduce.record import Record
from pipeline.reproduce.steps import Findings, Options, Reproduction, say
from pipeline.reproduce.verdict import CannotCompare, Verdict
from pipeline.tracking import resolve_tracking
from pipeline.tracking.recorded import Runs


def reproduce(options: Options) -> int:
    """Make a run again and say what came of it; the exit status is the verdict's. Raises Mistake."""
    began = time.monotonic()
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}", options.run_id):
        raise Mistake(f"{options.run_id!r}: no run's id; copy it from the run's page (`retrace ui`)")
    runs = Runs(resolve_tracking(params.load())[0])
    with _scratch(options.run_id) as scratch:
        target, said = record.target(runs, options.run_id, scratch)
        if said is not None:
            say(said)
        say(f"reproduce: {target.stage} {target.run.run_id} from {runs.shown}, commit {target.commit[:12]}")
        if options.seeds and target.stage not in seeds.STAGES:
            raise Mistake(
                f"--seeds: asks whether a training was luck; name a run of train or evaluate, not of {target.stage}"
            )
        findings = Findings()
        kept = options.keep
        try:
            decided = Reproduction(options, runs, target, scratch, findings).run()
        except CannotCompare as reason:
            decided = Verdict(verdict.NOT_COMPARABLE, reason.lines)
            kept = kept or any(str(scratch) in line for line in reason.lines)  # where the log is
        _tell(decided, findings, time.monotonic() - began)
        _note_at_run(runs, target, decided, findings, options, scratch)
        if kept:
            say(f"kept: {scratch} (delete it when you have looked)")
        else:
            workspace.remove(scratch)
    return decided.status


@contextlib.contextmanager
def _scratch(run_id: str) -> Iterator[Path]:
    """An empty folder for one reproduction. It is left where an error or an interruption ends that, and named."""
    folder = paths.state() / "reproduce" / run_id
    lock = folder.with_name(f"{run_id}.lock")
    with locks.locked(lock, wait=False) as is_ours:
        if not is_ours:
            raise Mistake(f"{run_id}: is being made again by another process; wait for its end")
        try:
            if folder.exists():  # kept on purpose, or left by a process that was killed
                workspace.remove(folder)
            folder.mkdir(parents=True)
            yield folder
        except Mistake:
            workspace.remove(folder)
            raise
        except BaseException:
            print(f"left: {folder}", flush=True)
            raise
        finally:
            lock.unlink()


# --- the end ----------------------------------------------------------------------------------------------------------


def _tell(decided: Verdict, findings: Findings, seconds: float) -> None:
    say("")
    say(f"verdict: {decided.word}")
    for line in decided.lines:
        say(f"  {line}")
    for spread in findings.spreads:
        for line in spread.lines():
            say(line)
    timed = [
        result for result in findings.results if result.seconds is not None and result.recorded_seconds is not None
    ]
    if timed:
        again, before = (sum(getattr(result, name) for result in timed) for name in ("seconds", "recorded_seconds"))
        names = ", ".join(result.stage for result in timed)
        say(f"time: {names}: {again:.1f} s, {before:.1f} s when recorded; {seconds:.1f} s with all around them")


def _note_at_run(
    runs: Runs, target: Record, decided: Verdict, findings: Findings, options: Options, scratch: Path
) -> None:
    """Log the verdict back to the run. A server that does not take it changes nothing of it."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    report: dict[str, Any] = {
        "run": target.run.run_id,
        "stage": target.stage,
        "at": now,
        "verdict": decided.word,
        "lines": list(decided.lines),
        "notes": findings.notes,
        "environment": "present" if options.here else "made from the recorded lock",
        "only": options.only,
        "tolerance": options.tolerance,
        "raw_files_changed": findings.files,
        "stages": [verdict.as_json(result) for result in findings.results],
        "seeds": [
            {"metric": spread.name, "this": spread.own, "others": list(spread.others)} for spread in findings.spreads
        ],
    }
    file = scratch / f"{now.replace(':', '')}.json"
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    try:
        runs.note(target.run, {"retrace.reproduced": decided.word, "retrace.reproduced_at": now}, file, "reproductions")
    except Mistake as mistake:
        say(f"the verdict could not be noted at the run: {mistake}")
