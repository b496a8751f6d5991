"""Runs recorded stages for real, in the scratch clone, in an environment of its own or the present one."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from pipeline.errors import Mistake
from pipeline.lineage import hashes
from pipeline.reproduce import record
from pipeline.reproduce.record import Record
from pipeline.reproduce.verdict import CannotCompare
from pipeline.reproduce.workspace import Workspace
from pipeline.tracking.recorded import Runs, open_copy

_FAREWELL_SECONDS = 10.0  # for a stage to keep its state after Ctrl-C; nobody will go on with it, so few are enough
_TAIL = 15  # lines of the log that are shown where a stage fails


@dataclass(frozen=True)
class Interpreter:
    """The Python in which the stages run."""

    python: Path
    is_own: bool  # made for this reproduction

    def variables(self, workspace: Workspace) -> dict[str, str]:
        """The environment: nothing of where the user tracks or works, and no file outside the scratch folder."""
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLFLOW_", "DVC_", "GIT_")) and not (self.is_own and name.startswith("PYTHON"))
        }
        return {
            **own,
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "VIRTUAL_ENV": str(self.python.parent.parent),
            # over tracking.uri of the recorded params.yaml, too
            "MLFLOW_TRACKING_URI": tracking_uri(workspace),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(workspace.scratch / "site"),
        }


def tracking_uri(workspace: Workspace) -> str:
    """The scratch's own database."""
    return f"sqlite:///{workspace.clone / 'mlflow.db'}"


# --- environments -----------------------------------------------------------------------------------------------------


def present() -> Interpreter:
    """The environment in which this command runs."""
    return Interpreter(Path(sys.executable), is_own=False)


def fresh(recorded: Record, workspace: Workspace) -> Interpreter:
    """A virtual environment with the recorded versions. Raises CannotCompare where it cannot be made."""
    folder = workspace.scratch / "venv"
    python = folder / "bin" / "python"
    steps: tuple[Sequence[str], ...] = (
        (_base(recorded), "-m", "venv", str(folder)),
        (
            str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet",
            "-c", "constraints.txt", "-e", ".",
        ),
    )  # fmt: skip
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for command in steps:
        if run(command, workspace.clone, outside, workspace.log):
            raise CannotCompare(
                "the recorded environment cannot be made here:",
                *tail(workspace.log),
                f"the log is {workspace.log}; --here uses the present environment instead",
            )
    return Interpreter(python, is_own=True)


def _base(recorded: Record) -> str:
    """A Python of the recorded minor version: the present one, or one on the PATH."""
    wanted = str(recorded.environment.get("python", "")).split(".")[:2]
    if not wanted[0] or wanted == [str(part) for part in sys.version_info[:2]]:
        return sys.executable
    found = shutil.which(f"python{'.'.join(wanted)}") if all(part.isdecimal() for part in wanted) else None
    if found is None:
        raise CannotCompare(
            f"Python {'.'.join(wanted)}: not found; the run was made with it. Install it, or use the present"
            " environment: --here"
        )
    return found


def installed_here() -> dict[str, str]:
    """Packages of the environment in which this command runs, as the lineage lists them."""
    found = {record.normalized(item.name): item.version for item in metadata.distributions() if item.name}
    return {"python": platform.python_version(), **found}


def package_differences(
    recorded: Mapping[str, str], here: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """Packages whose versions differ, less our own, whose files count one by one."""
    if not (recorded and here):
        return {}
    names = sorted({*recorded, *here} - {"retrace", "pip", "setuptools"})
    return {name: (recorded.get(name), here.get(name)) for name in names if recorded.get(name) != here.get(name)}


def check_lock(recorded: Record) -> None:
    """Raises CannotCompare where the recorded lock is not the one that the run read."""
    lock, digest = recorded.folder / "constraints.txt", recorded.dependencies.get("constraints.txt")
    if lock.is_file() and digest is not None and hashes.md5(lock) != digest:
        raise CannotCompare(
            f"lineage/constraints.txt: its hash is {hashes.md5(lock)}, and the run read {digest}: the lock was altered"
            " after it was recorded; the versions that ran are not known"
        )


# --- running ----------------------------------------------------------------------------------------------------------


@dataclass
class Stages:
    """Runs stages by name; each must leave a finished run of its own."""

    workspace: Workspace
    interpreter: Interpreter
    recorded: Record  # the run that is made again
    _seen: set[str] = field(default_factory=set)  # ids of runs in the scratch's database

    def runs(self) -> Runs:
        """What the stages have recorded, in the scratch's own database."""
        version = self.recorded.packages.get("mlflow")
        if self.interpreter.is_own and version not in (None, metadata.version("mlflow")):
            return open_copy(self.workspace.clone / "mlflow.db", self.workspace.scratch / "mlflow-copy.db")
        return Runs(tracking_uri(self.workspace))

    def run(self, stage: str) -> Record:
        """Run one stage, and it alone, whatever DVC thinks of it; the record of the run that it left.

        Raises CannotCompare where it fails, or leaves no such run: then nothing shows that it ran.
        """
        # --no-commit: nothing goes to any cache. --force: nothing comes from the run cache.
        command = [str(self.interpreter.python), "-m", "dvc", "repro"]
        command += ["--force", "--single-item", "--no-commit", stage]
        status = run(command, self.workspace.clone, self.interpreter.variables(self.workspace), self.workspace.log)
        if status:
            raise CannotCompare(
                f"{stage}: fails here (dvc ended with {status}):",
                *tail(self.workspace.log),
                f"the log is {self.workspace.log}",
            )
        runs = self.runs()
        found = [found for found in runs.find({"retrace.stage": stage}) if found.run_id not in self._seen]
        self._seen |= {found.run_id for found in found}
        if len(found) != 1:
            raise CannotCompare(
                f"{stage}: ended without an error, but left {len(found)} finished runs instead of one: nothing proves"
                f" that it ran; the log is {self.workspace.log}"
            )
        made = record.read(runs, found[0], self.workspace.scratch)
        if made is None:
            raise CannotCompare(f"{stage}: left a run without lineage; the log is {self.workspace.log}")
        return made


def run(command: Sequence[str], folder: Path, variables: Mapping[str, str], log: Path) -> int:
    """Run a command with its output in the log; its exit status. Whatever ends us ends all that it started."""
    with log.open("ab") as stream:
        stream.write(f"$ {' '.join(command)}\n".encode())
        stream.flush()
        try:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C comes to us alone, and we pass it on
            )
        except OSError as error:
            raise Mistake(f"{command[0]}: cannot be started: {error.strerror}") from None
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt a command and all below it, senders in sessions of their own included; then kill what is left."""
    import psutil

    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    os.killpg(process.pid, signal.SIGINT)
    limit = time.monotonic() + _FAREWELL_SECONDS
    try:
        process.wait(_FAREWELL_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=max(0.0, limit - time.monotonic()))
    for child in alive:
        child.kill()
    psutil.wait_procs(alive, timeout=_FAREWELL_SECONDS)


def tail(log: Path) -> list[str]:
    """The last lines of the log, set in."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [f"  {line}" for line in lines[-_TAIL:] if line.strip()]
