"""What a run was made from: DVC's hashes of files and folders, git's commit and differences, this machine."""

import getpass
import hashlib
import hmac
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from pipeline import paths
from pipeline.errors import Mistake
from pipeline.params.reading import parse_yaml, read_text


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
    place = git(folder, "rev-parse", "--show-prefix", "HEAD")
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
    outputs = [f":(exclude,literal){path}" for path in outputs_of_stages(folder)]
    return [".", *outputs, *(f":(exclude){path}" for path in ("dvc.lock", ".retrace", "mlartifacts", "mlflow.db*"))]


def outputs_of_stages(folder: Path = Path()) -> dict[str, str]:
    """The outputs of dvc.yaml, each with its stage; none where there is no such file, or a broken one (DVC says so)."""
    return {
        str(path): name
        for name, stage in _stages(folder).items()
        for entry in stage.get("outs") or []
        for path in _names(entry)
    }


def read_of(outputs: Iterable[str], folder: Path = Path()) -> list[str]:
    """What stages of dvc.yaml read by itself of outputs that are folders: artifacts/search/best.yaml."""
    made = tuple(f"{path}/" for path in outputs)
    stages = _stages(folder).values()
    read = {str(path) for stage in stages for entry in stage.get("deps") or [] for path in _names(entry)}
    return sorted(path for path in read if path.startswith(made))


def _stages(folder: Path) -> dict[str, Mapping[str, Any]]:
    try:
        stages = dvc_file(folder / paths.DVC_YAML).get("stages") or {}
    except (FileNotFoundError, Mistake):
        return {}
    return {str(name): stage for name, stage in stages.items() if isinstance(stage, Mapping)}


def outputs_in_lock(folder: Path = Path()) -> dict[str, dict[str, str]]:
    """What dvc.lock holds: stage -> output -> hash; nothing where it is not there or cannot be read."""
    try:
        stages = dvc_file(folder / paths.DVC_LOCK).get("stages") or {}
    except (FileNotFoundError, Mistake):
        return {}
    return {
        name: {entry["path"]: entry["md5"] for entry in stage.get("outs") or [] if "md5" in entry}
        for name, stage in stages.items()
    }


def dvc_file(path: Path) -> Mapping[str, Any]:
    """dvc.yaml or dvc.lock, of which a stage asks several times: parsed once for each content.

    Raises FileNotFoundError, and Mistake where it is not YAML.
    """
    return _parsed(str(path), read_text(path))


@lru_cache(maxsize=4)
def _parsed(name: str, text: str) -> Mapping[str, Any]:
    raw, _, duplicates = parse_yaml(text, name)
    if duplicates:
        raise Mistake(*(line for _, line in duplicates))
    return MappingProxyType(raw)


def _names(entry: Any) -> Iterable[Any]:
    return entry if isinstance(entry, Mapping) else [entry]


def git_tags(folder: Path) -> dict[str, str]:
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


def git(folder: Path, *arguments: str) -> str | None:
    """What git answers; None where it fails, is not there, or does not answer in time."""
    answer = _git(folder, *arguments)
    return None if answer is None else os.fsdecode(answer).strip()


def _git(folder: Path, *arguments: str, output: IO[bytes] | None = None) -> bytes | None:
    """`output`: a file that takes the answer; its position is then the answer's length."""
    # What a user's settings would change: a daemon that is started, paths that are quoted
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # never hold the index lock against the user's own git
    try:
        answer = subprocess.run(
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
        return bytes(answer.stdout)
    output.seek(0, os.SEEK_END)
    return b""


# --- this machine -----------------------------------------------------------------------------------------------------


def distributions() -> list[str]:
    """Installed distributions as their folders are named: NAME-VERSION, in no order."""
    return [
        entry.name.removesuffix(".dist-info")
        for folder in sys.path
        if os.path.isdir(folder)
        for entry in os.scandir(folder)
        if entry.name.endswith(".dist-info")
    ]


def machine() -> str:
    """Tells this machine from others without naming it: a keyed hash, as machine-id(5) asks for."""
    for name in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with suppress(OSError):
            if content := Path(name).read_bytes().strip():
                return _named(content)
    addresses = []  # containers often have no such file
    for file in sorted(Path("/sys/class/net").glob("*/address")):
        with suppress(OSError):
            addresses.append(file.read_bytes().strip())
    return _named(b"\n".join(addresses) + platform.node().encode())


def _named(what: bytes) -> str:
    return hmac.new(b"retrace", what, hashlib.sha256).hexdigest()[:16]


def processor() -> str:
    """The processor's name as its maker gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    return platform.processor() or platform.machine()


def peak_memory_bytes() -> int:
    """The most memory that this process has had at once."""
    with suppress(OSError):  # getrusage's figure begins with that of the process that started this one
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def user() -> str:
    """Who runs this; containers often have no name for their user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
