"""`retrace doctor`: what of this machine will be used, and what is wrong with it, each with its remedy."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline import params, paths
from pipeline.errors import ExitStatus, Mistake
from pipeline.lineage import repository
from pipeline.machine import torch_device, usable_cores
from pipeline.params import Params

_CONSTRAINTS = Path("constraints.txt")
_ANSWER_SECONDS = 3.0  # a tracking server that is there answers its health page at once
_FREE_BYTES = 2 * 2**30

Mark = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. `note`: works, but may surprise; `wrong`: must be mended."""

    mark: Mark
    subject: str
    text: str
    remedy: str = ""


def doctor() -> int:
    """Examine everything and print what was found; ExitStatus.NEGATIVE_VERDICT if something is wrong."""
    try:
        chosen = params.load()
        findings = [Finding("ok", "params.yaml", "valid")]
    except Mistake as mistake:
        chosen = None
        findings = [Finding("wrong", "params.yaml", f"{len(mistake.lines)} mistakes", "run `retrace check`")]
    examinations: list[Callable[[], Iterator[Finding]]] = [
        versions,
        lambda: processor(chosen),
        lambda: accelerator(chosen),
        git,
        dvc,
        lambda: tracking(chosen),
        disk,
    ]
    for examination in examinations:
        findings += examination()
    for finding in findings:
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        print(f"{finding.mark:5}  {finding.subject:12} {finding.text}{remedy}")
    wrong = sum(finding.mark == "wrong" for finding in findings)
    print(f"{wrong} wrong" if wrong else "nothing is wrong")
    return ExitStatus.NEGATIVE_VERDICT if wrong else ExitStatus.SUCCESS


# --- software ---------------------------------------------------------------------------------------------------------


def read_constraints(text: str) -> dict[str, str]:
    """The pinned version of each distribution, by its normalised name."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", text, flags=re.MULTILINE)
    return {_normalised(name): version for name, version in pins}


def versions() -> Iterator[Finding]:
    """Python and the libraries, against constraints.txt."""
    yield Finding("ok", "python", f"{platform.python_version()} in {sys.prefix}")
    if not _CONSTRAINTS.is_file():
        yield Finding("wrong", "versions", f"{_CONSTRAINTS}: not found", "restore it from git")
        return
    pins = read_constraints(_CONSTRAINTS.read_text(encoding="utf-8"))
    installed = {
        _normalised(found.metadata["Name"]): found.version
        for found in importlib.metadata.distributions()
        if found.metadata["Name"]
    }
    shown = ("torch", "pytorch-lightning", "mlflow", "dvc", "optuna", "numpy")
    yield Finding("ok", "versions", ", ".join(f"{name} {installed.get(name, 'missing')}" for name in shown))
    absent = sorted(name for name in _required() if name not in installed)
    if absent:
        yield Finding("wrong", "versions", f"not installed: {', '.join(absent)}", "run `make install`")
    other = [
        f"{name} {version} instead of {pins[name]}"
        for name, version in sorted(installed.items())
        if name in pins and version.partition("+")[0] != pins[name]  # +cpu and the like name one build of a version
    ]
    if other:
        yield Finding(
            "wrong", "versions", f"not those of {_CONSTRAINTS}: {', '.join(other)}",
            "results may differ in their bits; remove .venv and run `make install`",
        )  # fmt: skip
    if importlib.util.find_spec("torchvision") is not None:
        yield Finding(
            "note", "versions", "torchvision is installed and not used; one that does not fit torch stops Lightning",
            "if training stops while importing, run `pip uninstall torchvision`",
        )  # fmt: skip


def _required() -> set[str]:
    try:
        lines = importlib.metadata.requires("retrace") or []
    except importlib.metadata.PackageNotFoundError:
        return {"retrace"}
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in lines if "extra ==" not in line}
    return {_normalised(name) for name in names}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- machine ----------------------------------------------------------------------------------------------------------


def processor(chosen: Params | None) -> Iterator[Finding]:
    import torch

    cores = usable_cores()
    capability = torch.backends.cpu.get_cpu_capability()
    text = f"{cores} cores, {platform.machine()}, torch uses {capability}"
    yield Finding("ok", "processor", f"{text}; the instruction set changes the last bits of a result")
    if chosen is not None:
        threads = chosen.train.threads
        text = f"train.threads is {threads} on {cores} cores"
        if threads > cores:
            yield Finding(
                "note", "threads", text, f"set it to {cores}: more are slower; it changes the bits of results"
            )
        else:
            yield Finding("ok", "threads", text)
        workers = min(chosen.search.workers, chosen.search.trials)
        if workers > 1 and workers * threads > cores:
            yield Finding(
                "note", "threads", f"search.workers is {workers}: {workers * threads} threads on {cores} cores",
                "lower search.workers, which changes no result, or train.threads, which changes the bits",
            )  # fmt: skip


def accelerator(chosen: Params | None) -> Iterator[Finding]:
    import torch

    asked = chosen.train.accelerator if chosen is not None else "auto"
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        text = ", ".join(
            f"{torch.cuda.get_device_name(i)} ({torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB)"
            for i in range(count)
        )
        used = "not used, as train.accelerator says" if asked == "cpu" else "used"
        yield Finding("ok", "accelerator", f"{text}, CUDA {torch.version.cuda}, {used}")
        if chosen is not None and asked in ("auto", "gpu") and chosen.train.devices > count:
            yield Finding(
                "wrong", "accelerator", f"train.devices is {chosen.train.devices}, there are {count}", "lower it"
            )
    elif torch.backends.mps.is_available():
        yield Finding("ok", "accelerator", "Apple's, " + ("not used" if asked == "cpu" else "used"))
    elif shutil.which("nvidia-smi") is not None:
        yield Finding(
            "note", "accelerator", f"there is an NVIDIA driver, but this torch ({torch.__version__}) is without CUDA",
            "install a CUDA build of the same torch version into .venv (see the README)",
        )  # fmt: skip
    else:
        yield Finding("ok", "accelerator", "none; training runs on the processor")
    if torch_device(asked) is None:
        yield Finding(
            "wrong", "accelerator", f"train.accelerator is {asked}, which is not here", "set it to auto or cpu"
        )


def disk() -> Iterator[Finding]:
    """Room and permission where outputs, state and DVC's cache go."""
    root = paths.root()
    free = shutil.disk_usage(root).free
    text = f"{free / 2**30:.1f} GiB free at {root}"
    if free < _FREE_BYTES:
        yield Finding("wrong", "disk", text, "free some: outputs are kept once in place and once in DVC's cache")
    else:
        yield Finding("ok", "disk", text)
    folders = [root, *(root / name for name in ("data", "artifacts", ".retrace", ".dvc"))]
    for folder in folders:
        if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            yield Finding("wrong", "disk", f"{folder} cannot be written to", "make it a folder of this user's")


# --- repository -------------------------------------------------------------------------------------------------------


def git() -> Iterator[Finding]:
    if shutil.which("git") is None:
        yield Finding("wrong", "git", "not found", "install it: DVC's experiments and every run's commit need it")
        return
    tags = repository.tags(Path.cwd())
    if not tags:
        yield Finding(
            "wrong", "git", "this folder is in no git repository with a commit",
            "run `git init`, add and commit: runs carry their commit, and `dvc exp` needs one",
        )  # fmt: skip
        return
    text = f"at {tags['retrace.commit'][:10]}"
    if tags["retrace.dirty"] == "false":
        yield Finding("ok", "git", f"{text}, no tracked file differs from it")
    else:
        yield Finding(
            "note", "git", f"{text}, tracked files differ from it", "runs are tagged as made from changed code"
        )


def dvc() -> Iterator[Finding]:
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            stages = [stage for stage in repo.index.stages if stage.path_in_repo == str(paths.DVC_YAML)]
            cache = repo.cache.local.path
    except NotDvcRepoError:
        yield Finding("wrong", "dvc", "this folder is no DVC repository", "clone the project anew, or run `dvc init`")
        return
    except DvcException as error:
        yield Finding("wrong", "dvc", " ".join(str(error).split()), "run `retrace check`")
        return
    locked = Path("dvc.lock").is_file()
    text = f"{len(stages)} stages, cache in {cache}, {'has been run here' if locked else 'not run yet'}"
    yield Finding("ok", "dvc", text)
    if locked and repository.answer(Path.cwd(), "check-ignore", "-q", "dvc.lock") is not None:
        yield Finding(
            "wrong", "dvc", "dvc.lock is ignored by git, which stops `dvc repro`", "remove it from .gitignore"
        )
    python = shutil.which("python")
    # The folders alone are resolved: the pythons of two environments are links to the same one.
    if python is None or Path(python).parent.resolve() != Path(sys.executable).parent.resolve():
        yield Finding(
            "wrong", "dvc", f"stages would run {python or 'no python at all'}, not {sys.executable}",
            "activate the environment (`. .venv/bin/activate`) before calling dvc, or use make",
        )  # fmt: skip


# --- tracking ---------------------------------------------------------------------------------------------------------


def tracking(chosen: Params | None) -> Iterator[Finding]:
    """Whether the tracking server answers, without waiting for one that does not."""
    from pipeline.tracking.destination import destination

    if chosen is None:
        return
    target = destination(chosen)
    shown = f"{target.shown}, experiment {target.experiment}"
    if target.uri.startswith(("http://", "https://")):
        problem = _unanswered(target.uri)
        if problem:
            yield Finding(
                "wrong", "tracking", f"{shown}: {problem}",
                "start it, or mend MLFLOW_TRACKING_URI or tracking.uri; until then runs wait in .retrace and lose"
                " nothing: `retrace sync` sends them",
            )  # fmt: skip
            return
        shown += ", answers"
    yield Finding("ok", "tracking", shown)


def _unanswered(uri: str) -> str:
    """Why the server's health page cannot be had, or ''."""
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    try:
        parts = urllib.parse.urlsplit(f"{uri.rstrip('/')}/health")
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # urllib takes no user:password@
        with urllib.request.urlopen(address, timeout=_ANSWER_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        # A server that wants a password is there.
        return "" if error.code in (401, 403) else f"answers {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"no answer ({getattr(error, 'reason', error)})"
