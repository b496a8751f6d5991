"""The scratch clone: the recorded commit with the recorded difference, files and parameters, and nothing else.

The record comes from a server: no path of it may lead out of the clone, whether by its name or through a link.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline import paths
from pipeline.errors import Mistake
from pipeline.lineage import hashes, repository
from pipeline.params import read_mapping
from pipeline.reproduce.record import Record
from pipeline.reproduce.verdict import CannotCompare
from pipeline.tracking.recorded import is_inside

_PRIVATE = (".git", ".dvc", ".retrace")  # no part of a working tree that a run may bring along


@dataclass(frozen=True)
class Workspace:
    """A clone in which the run is made again, and the scratch folder around it."""

    scratch: Path
    clone: Path
    project: Path  # the user's own, which is only read

    @property
    def log(self) -> Path:
        """What the stages, pip and git say."""
        return self.scratch / "log.txt"

    def place(self, path: str) -> Path:
        """Where a recorded path lies in the clone. Raises Mistake where that is outside of it."""
        target = self.clone / path
        parts = PurePosixPath(path).parts
        inside = is_inside(path) and target.parent.resolve().is_relative_to(self.clone.resolve())
        if not inside or any(part in _PRIVATE for part in parts):
            raise Mistake(f"{path!r}: leads out of the clone; the record was tampered with, and is not followed")
        return target


def prepare(record: Record, project: Path, scratch: Path) -> Workspace:
    """Clone, then apply what the run recorded. Raises CannotCompare where a part of it is missing."""
    prefix = record.run.tags.get("retrace.prefix", "")
    if prefix and not is_inside(prefix):
        raise Mistake(f"retrace.prefix: {prefix!r}: leads out of the repository; the record was tampered with")
    top = _top(record, scratch)
    workspace = Workspace(scratch, top / prefix, project)
    _clone(record.commit, workspace, top)
    _apply_difference(record, workspace, top)
    if not workspace.clone.is_dir():
        raise CannotCompare(f"commit {record.commit}: has no folder {prefix}, where the run was made")
    _add_untracked(record, workspace)
    for name in (paths.PARAMS, paths.DVC_YAML):
        # params.yaml as it was recorded, since what git has of it may have been left out; passwords that were hidden in
        # it belong to tracking.uri, which is not in force here
        kept = record.folder / name
        if kept.is_file() and (name == paths.PARAMS or not (workspace.clone / name).exists()):
            paths.write_atomically(workspace.place(str(name)), kept.read_bytes())
    # Every stage is run by its name: what the lock says was done is of no use, and may be wrong.
    (workspace.clone / "dvc.lock").unlink(missing_ok=True)
    # A cache of its own, whatever this user or the commit has set: DVC notes each stage that it runs in the cache
    own_cache = f"[cache]\n    dir = {scratch / 'cache'}\n"
    paths.write_atomically(workspace.clone / ".dvc" / "config.local", own_cache.encode())
    _link_raw_data(workspace)
    return workspace


def not_as_recorded(record: Record, workspace: Workspace, without: tuple[str, ...]) -> dict[str, str | None]:
    """Files of the clone whose hash (None: missing) is not the one that the run read, less those in `without`."""
    found: dict[str, str | None] = {}
    for path, digest in record.dependencies.items():
        if is_inside(path) and len(digest.removesuffix(".dir")) == 32 and path not in without:
            here = workspace.clone / path
            now = hashes.md5(here) if here.exists() else None
            if now != digest:
                found[path] = now
    return found


# --- code -------------------------------------------------------------------------------------------------------------


def _git(workspace: Workspace, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """git without the user's hooks and without what a surrounding git command says of its own repository."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.autocrlf=false"]
    command += ["-c", "protocol.file.allow=always", "-c", "advice.detachedHead=false", *arguments]
    try:
        result = subprocess.run(
            command, cwd=folder, env=own, capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        raise Mistake("git: not found; install it: the recorded code is taken from this repository") from None
    with workspace.log.open("a", encoding="utf-8") as log:
        log.write(f"$ git {' '.join(arguments)}\n{result.stdout}{result.stderr}")
    return result


def _clone(commit: str, workspace: Workspace, top: Path) -> None:
    """Check the commit out of this very repository; its objects are borrowed, not copied, and not written to."""
    project = workspace.project
    if repository.answer(project, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
        shallow = repository.answer(project, "rev-parse", "--is-shallow-repository") == "true"
        remedy = "`git fetch --unshallow`" if shallow else "`git fetch` it from the repository of whoever made the run"
        raise CannotCompare(f"commit {commit}: missing in {project}; bring it here ({remedy}), then run this again")
    top.parent.mkdir(parents=True, exist_ok=True)
    origin = repository.answer(project, "rev-parse", "--show-toplevel") or str(project)
    steps = (
        (workspace.scratch, ("clone", "--quiet", "--shared", "--no-checkout", origin, str(top))),
        (top, ("checkout", "--quiet", "--detach", commit)),
    )
    for folder, arguments in steps:
        result = _git(workspace, folder, *arguments)
        if result.returncode:
            raise CannotCompare(f"commit {commit}: git cannot {arguments[0]} it: {result.stderr.strip()}")


def _apply_difference(record: Record, workspace: Workspace, top: Path) -> None:
    difference = record.folder / "changes.diff"
    if not difference.is_file() or difference.stat().st_size == 0:
        if record.run.tags.get("retrace.dirty") == "true":
            raise CannotCompare(
                "the working tree differed from its commit (retrace.dirty), but the difference was not recorded"
                " (lineage/changes.diff is missing): the code that ran is not known",
                *(f"not recorded: {line}" for line in record.left_out),
            )
        return
    # git refuses paths that lead out of the tree, or through links, by itself
    result = _git(workspace, top, "apply", "--binary", "--whitespace=nowarn", str(difference))
    if result.returncode:
        raise CannotCompare(
            f"lineage/changes.diff does not apply to commit {record.commit}: {result.stderr.strip()[:500]}",
            *(f"not recorded whole: {line}" for line in record.left_out),
        )


def _add_untracked(record: Record, workspace: Workspace) -> None:
    folder = record.folder / "untracked"
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = workspace.place(file.relative_to(folder).as_posix())
        target.parent.mkdir(parents=True, exist_ok=True)
        paths.write_atomically(target, file.read_bytes())
        if record.is_executable(target.relative_to(workspace.clone).as_posix()):
            target.chmod(0o755)


# --- raw data ---------------------------------------------------------------------------------------------------------


def _top(record: Record, scratch: Path) -> Path:
    """The clone's own folder, as deep in the scratch folder as a relative data.path climbs out of it."""
    path = _raw_path(record.folder / "params.yaml")
    climbs = 0 if path is None else len([part for part in Path(os.path.normpath(path)).parts if part == ".."])
    return scratch.joinpath(*["around"] * climbs, "clone")


def _raw_path(params: Path) -> str | None:
    """data.path where it is relative to the project, which the clone is not."""
    try:
        path = read_mapping(params).get("data", {}).get("path")
    except (FileNotFoundError, Mistake, AttributeError):
        return None  # the stage tells what is wrong with the file
    return path if isinstance(path, str) and not path.startswith(("/", "~")) else None


def _link_raw_data(workspace: Workspace) -> None:
    """Make a relative data.path lead to the project's own raw data. The value stays as it is: outputs may name it."""
    path = _raw_path(workspace.clone / "params.yaml")
    if path is None:
        return
    link = Path(os.path.normpath(workspace.clone / path))
    real = (workspace.project / path).resolve()
    if real.is_dir() and not os.path.lexists(link) and link.is_relative_to(workspace.scratch):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(real, target_is_directory=True)


def remove(scratch: Path) -> None:
    """Delete a scratch folder. What links in it point to is left alone."""
    shutil.rmtree(scratch)
