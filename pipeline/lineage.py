"""What a run was made from: DVC's hashes of files and folders, and git's commit."""

import getpass
import hashlib
import json
import os
import subprocess
from pathlib import Path


def md5(path: Path) -> str:
    """The hash that dvc.lock holds: of a file's bytes, or of a folder's listing (then ending in `.dir`).

    Raises FileNotFoundError.
    """
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest()
    listing = [
        {"md5": md5(Path(parent, name)), "relpath": Path(parent, name).relative_to(path).as_posix()}
        for parent, _, names in os.walk(path, followlinks=True)
        for name in names
    ]
    # dvc-data's Tree.as_bytes: this very text is what is hashed, spaces and key order included
    text = json.dumps(sorted(listing, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def sha256(path: Path) -> str:
    """A file's SHA-256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_tags(folder: Path) -> dict[str, str]:
    """The commit that is checked out and whether the tracked files differ from it; empty without git or a commit."""
    commit = git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    # dvc.lock changes with every stage: it is a result of the run, not a part of its code
    changes = git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)dvc.lock")
    return {
        "mlflow.source.git.commit": commit,
        "retrace.commit": commit,
        "retrace.dirty": "unknown" if changes is None else str(bool(changes)).lower(),
    }


def git(folder: Path, *arguments: str) -> str | None:
    """What git answers; None where it fails, is not there, or does not answer in time."""
    command = ["git", "-c", "core.fsmonitor=false", *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # never hold the index lock against the user's own git
    try:
        answer = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def user() -> str:
    """Who runs this; containers often have no name for their user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
