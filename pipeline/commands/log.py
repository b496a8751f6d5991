"""`retrace log`: which run made each output that is here, also where DVC has brought it back without a run."""

from pathlib import Path

from pipeline import params
from pipeline.commands import text
from pipeline.errors import ExitStatus, Mistake
from pipeline.lineage import dvc_files, hashes, reuse
from pipeline.params.fields import nearest
from pipeline.tracking.store import Store

_HEADER = ("stage", "output", "hash", "run", "run id", "started", "commit", "made on", "status", "reused")


def log(what: str | None) -> int:
    """Print a line for every output, or those of a stage, or the one that a path is or lies in.

    NEGATIVE_VERDICT where MLflow knows of no run that made one of them.
    """
    reuse.look()
    outputs = chosen_outputs(what)
    store = text.opened(params.load())
    rows: list[tuple[str, ...]] = [_HEADER]
    problems = []
    for path, stage in outputs.items():
        digest, problem = current(path)
        if problem:
            problems.append(f"{path}: {problem}")
        if digest is None:
            rows.append((stage, path, *["-"] * 8))
            continue
        rows.append(_row(store, stage, path, digest))
        if rows[-1][3] == "-":
            problems.append(f"{path}: no run in MLflow has made this content ({digest})")
    print(text.columns(rows))
    for problem in problems:
        print(problem)
    text.say_what_waits()
    return ExitStatus.NEGATIVE_VERDICT if problems else ExitStatus.SUCCESS


def _row(store: Store, stage: str, path: str, digest: str) -> tuple[str, ...]:
    run = store.maker(path, digest)
    if run is None:
        return (stage, path, text.short(digest), *["-"] * 7)
    times = f"{run.reused} times" if run.reused != 1 else "once"
    return (
        stage,
        path,
        text.short(digest),
        run.name,
        run.run_id,
        text.when(run.started),
        text.commit(run),
        text.where(run),
        run.status,
        times if run.reused else "-",
    )


def chosen_outputs(what: str | None) -> dict[str, str]:
    """Outputs of dvc.yaml with their stages; `what`: a stage, an output, or a path in one.

    Raises Mistake where it is none of these.
    """
    outputs = dvc_files.outputs_of_stages()
    if what is None:
        return outputs
    path = relative(what)
    found = {out: stage for out, stage in outputs.items() if what == stage or path == out or path.startswith(f"{out}/")}
    if not found:
        names = [*dict.fromkeys(outputs.values()), *outputs]
        raise Mistake(
            f"{what}: neither a stage nor an output of one{nearest(what, names)}; there are: {', '.join(names)}"
        )
    return found


def relative(what: str) -> str:
    """A path as dvc.yaml writes it."""
    path = Path(what)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return path.as_posix()


def current(path: str) -> tuple[str | None, str | None]:
    """The hash of an output as it is here, or as dvc.lock has it where it is not; and what is wrong with it."""
    locked = {path: digest for outs in dvc_files.outputs_in_lock().values() for path, digest in outs.items()}.get(path)
    try:
        digest = hashes.md5(Path(path))
    except FileNotFoundError:
        if locked is None:
            return None, "not there; `dvc repro` makes it"
        return locked, "not there; `dvc checkout` brings it back, or `dvc repro`"
    if locked is not None and locked != digest:
        return digest, f"not what dvc.lock has ({text.short(locked)}): changed since, or its stage has not ended well"
    return digest, None
