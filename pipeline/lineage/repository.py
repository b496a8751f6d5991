"""What git knows of the project: the commit that is checked out, and what differs from it."""

import os
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.lineage import dvc_files


@dataclass(frozen=True)
class Tree:
    """A folder in a git repository: where it stands, and what in it differs from the commit."""

    commit: str
    prefix: str  # the folder inside the repository, such as "experiments/"; empty at its top
    changed: tuple[str, ...] | None  # tracked files that differ, from the folder; None: git did not say
    untracked: tuple[str, ...]  # files that git neither has nor ignores, from the folder

    @property
    def dirty(self) -> str:
        return "unknown" if self.changed is None else str(bool(self.changed)).lower()

    @property
    def tags(self) -> dict[str, str]:
        """The same for a run."""
        tags = {
            "mlflow.source.git.commit": self.commit,
            "retrace.commit": self.commit,
            "retrace.dirty": self.dirty,
        }
        return {**tags, "retrace.prefix": self.prefix} if self.prefix else tags


def tree(folder: Path, untracked: bool = False) -> Tree | None:
    """What git knows of a folder, results apart; None without git or a commit. Untracked files are looked for on
    demand."""
    place = answer(folder, "rev-parse", "--show-prefix", "HEAD")
    if not place:
        return None
    prefix, _, commit = place.rpartition("\n")
    files = "all" if untracked else "no"
    command = ["status", "--porcelain", "-z", "--no-renames", f"--untracked-files={files}", "--"]
    listed = _git(folder, *command, *_without_results(folder))
    if listed is None:
        return Tree(commit, prefix, None, ())
    entries = [(entry[:2], entry[3:]) for entry in os.fsdecode(listed).split("\0") if entry]
    return Tree(
        commit,
        prefix,
        tuple(name.removeprefix(prefix) for state, name in entries if state != "??"),
        tuple(name.removeprefix(prefix) for state, name in entries if state == "??"),
    )


def _without_results(folder: Path) -> list[str]:
    """For git: everything in a folder but what runs make. dvc.lock and outputs change with every stage: they are
    results of a run, no part of its code."""
    outputs = [f":(exclude,literal){path}" for path in dvc_files.outputs_of_stages(folder)]
    return [".", *outputs, *(f":(exclude){path}" for path in ("dvc.lock", ".retrace", "mlartifacts", "mlflow.db*"))]


def tags(folder: Path) -> dict[str, str]:
    """The commit that is checked out and whether the tracked files differ from it; empty without git or a commit."""
    found = tree(folder)
    return {} if found is None else found.tags


def difference(folder: Path, without: Iterable[str] = (), limit: int = 20 << 20) -> bytes | None:
    """What `git apply`, at the repository's top, makes of the commit the tracked files of a folder, results and the
    files `without` apart. None where git does not answer, or with more than `limit` bytes."""
    command = ["diff", "--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv"]
    command += ["--src-prefix=a/", "--dst-prefix=b/", "HEAD", "--", *_without_results(folder)]
    command += [f":(exclude,literal){name}" for name in without]
    with tempfile.TemporaryFile() as kept:
        if _git(folder, *command, output=kept) is None or kept.tell() > limit:
            return None
        kept.seek(0)
        return kept.read()


def answer(folder: Path, *arguments: str) -> str | None:
    """What git answers; None where it fails, is not there, or does not answer in time."""
    said = _git(folder, *arguments)
    return None if said is None else os.fsdecode(said).strip()


def _git(folder: Path, *arguments: str, output: IO[bytes] | None = None) -> bytes | None:
    """`output`: a file that takes the answer; its position is then the answer's length."""
    # What a user's settings would change: a daemon that is started, paths that are quoted
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # never hold the index lock against the user's own git
    try:
        said = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE if output is None else output,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if output is None:
        return bytes(said.stdout)
    output.seek(0, os.SEEK_END)
    return b""
