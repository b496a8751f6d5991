"""`retrace gc`: frees what nobody needs any more in .retrace, and shows what and why.

What a living process holds stays: the state of work that is under way, a spool that is written or sent. So does every
run that MLflow has not taken whole, unfinished work and results that dvc.lock does not have yet, with the runs
that belong to it: the stage would go on from there.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline import locks, paths, state
from pipeline.commands import text
from pipeline.params import load
from pipeline.tracking import spool
from pipeline.tracking.courier import SENDER_LOCK
from pipeline.tracking.delivery import is_sent, start_of
from pipeline.tracking.run import runs_folder
from pipeline.tracking.store import unsent

_BEGINNING_SECONDS = 60.0  # how young a spool may be that is about to get its start


@dataclass(frozen=True)
class Item:
    """Something that can go."""

    path: Path
    why: str
    remove: Callable[[], bool]  # returns whether it is gone: somebody may have taken hold of it since

    @property
    def size(self) -> int:
        total = 0
        for file in (self.path, *self.path.rglob("*")):
            with suppress(FileNotFoundError):  # written or sent meanwhile
                total += file.stat().st_size if file.is_file() else 0
        return total


def collect(is_dry_run: bool, everything: bool) -> int:
    """Free it, or say what would be freed. everything: also what a stage would go on with."""
    rows, total = [], 0
    for item in _items(everything):
        size = item.size
        if is_dry_run or item.remove():
            rows.append((_shown(size), item.path.relative_to(paths.root()).as_posix(), item.why))
            total += size
    if rows:
        print(text.columns(rows))
    print(f"{'would free' if is_dry_run else 'freed'} {_shown(total)}")
    for line in _kept(everything):
        print(line)
    return 0


def _shown(size: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024  # type: ignore[assignment]
    return f"{size:.1f} GiB"


def _items(everything: bool) -> Iterator[Item]:
    states = state.kept()
    going = set() if everything else _to_go_on_with(states)
    leaving = [found for found in states if found.folder not in going and not found.is_held]
    for found in leaving:
        yield Item(found.folder, _why(found), partial(state.delete, found.folder))
    left = {found.folder for found in leaving}
    # Asked anew: a stage may have begun meanwhile, whose run must stay
    needed = {found.run_key for found in state.kept() if found.folder not in left or found.is_held}
    for folder in sorted(spool.spools(runs_folder())):
        start = start_of(folder)
        if spool.is_alive(folder):
            continue
        if start is None:
            if time.time() - (folder / spool.EVENTS).stat().st_mtime > _BEGINNING_SECONDS:
                yield Item(folder, "a run that ended before its start was written", partial(_drop, folder))
        elif is_sent(folder) and folder.name not in needed and start["parent"] not in needed:
            yield Item(folder, f"{start['name']}: sent whole", partial(_drop, folder))
    yield from _caches(everything)


def _why(found: state.Kept) -> str:
    if found.run_key is None:
        return "a state that cannot be read"
    if found.has_landed:
        return "its result is in dvc.lock"
    return "a result of its stage that a newer one has replaced" if found.outputs else "work that was interrupted"


def _to_go_on_with(states: list[state.Kept]) -> set[Path]:
    """All unfinished states, whose work goes on once its values are put back; and the newest of each stage's finished
    ones that dvc.lock does not have."""
    unfinished = {found.folder for found in states if found.run_key is not None and found.outputs is None}
    newest: dict[str, Path] = {}
    for found in sorted(states, key=lambda found: found.modified):
        if found.run_key is not None and found.outputs is not None and not found.has_landed:
            newest[found.stage] = found.folder
    return unfinished | set(newest.values())


def _drop(folder: Path) -> bool:
    """Delete a spool unless somebody writes or sends it, or it has grown."""
    with locks.locked(folder / SENDER_LOCK, wait=False) as got:
        if not got:
            return False
        with (folder / spool.EVENTS).open("rb") as stream:
            if not locks.try_lock(stream):
                return False
            if start_of(folder) is not None and not is_sent(folder):
                return False
            shutil.rmtree(folder)
    return True


def _caches(everything: bool) -> Iterator[Item]:
    pages = paths.state() / "trace"
    if pages.is_dir():
        yield Item(pages, "pages that `retrace trace` draws again", partial(_remove, pages))
    for target in (paths.PREPARED, paths.TEST, paths.AUGMENTED, paths.SEARCH, paths.MODEL, paths.EVALUATION):
        for left in paths.left_by_dead_processes(paths.root() / target):
            yield Item(left, "half an output of a process that was killed", partial(_remove, left))
    for folder in sorted((paths.state() / "reproduce").glob("*/")):
        yield Item(folder, "a reproduction that was kept, or ended early", partial(_remove_locked, folder))
    for folder in sorted(paths.studied_data().glob("*/")):
        yield Item(folder, "data that a study made for itself", partial(_remove_locked, folder))
    if not everything:
        return
    diverged = paths.state() / "diverged"
    if diverged.is_dir():
        yield Item(diverged, "weights from before a training diverged", partial(_remove, diverged))
    data = load().data
    own = {paths.hashes_of_source(data.source, data.path), paths.source_memory() / "last.json"}
    if data.path is not None:
        own.add(paths.members_of_archive(paths.root() / Path(data.path).expanduser()))
    for file in sorted(paths.source_memory().glob("*.json")):
        if file not in own:
            yield Item(file, "hashes of another source than data.path", partial(_remove, file))


def _remove_locked(folder: Path) -> bool:
    """Delete it unless it is under way."""
    lock = folder.with_name(f"{folder.name}.lock")
    with locks.locked(lock, wait=False) as got:
        if got:
            shutil.rmtree(folder)
            lock.unlink()
    return got


def _remove(path: Path) -> bool:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return True


def _kept(everything: bool) -> Iterator[str]:
    states = state.kept()
    if held := sorted(found.stage for found in states if found.is_held):
        yield f"kept: what {', '.join(held)} works on now"
    going = set() if everything else _to_go_on_with([found for found in states if not found.is_held])
    if stages := sorted({folder.parent.name for folder in going}):
        yield f"kept: what {', '.join(stages)} would go on with (--all removes it too)"
    waiting = unsent()
    if waiting:
        yield f"kept: {waiting} runs that MLflow has not taken whole; `retrace sync` sends them"
