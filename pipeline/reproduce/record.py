"""What a run says it was made from, read from the tracking server and checked: it may say anything."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import Mistake
from pipeline.lineage import hashes
from pipeline.tracking.recorded import Runs, is_inside
from pipeline.tracking.store import Recorded

FOLDER = "lineage"
_DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?|[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# What of a machine decides over bits: key in environment.json -> what it is called
_MACHINE = {
    "machine": "processor family",
    "capability": "processor capability",
    "threads": "thread count",
    "torch": "torch build",
    "gpu": "GPU",
    "cuda": "CUDA",
}


@dataclass(frozen=True)
class Record:
    """One stage's run and its lineage."""

    run: Recorded
    folder: Path  # the lineage artefacts, here
    dependencies: Mapping[str, str]  # path -> hash, as dvc.lock has it
    outputs: Mapping[str, str]
    environment: Mapping[str, Any]
    contradictions: tuple[str, ...]  # where the record does not agree with itself

    @property
    def stage(self) -> str:
        return self.run.stage

    @property
    def commit(self) -> str:
        return self.run.tags["retrace.commit"]

    @property
    def machine(self) -> dict[str, str]:
        """What decides over bits, by its name; a stage that does not use torch has the processor family alone."""
        told = {called: self.environment.get(key) for key, called in _MACHINE.items()}
        used = self.environment.get("torch") is not None
        return {called: str(value or "none") for called, value in told.items() if used or called == "processor family"}

    @property
    def packages(self) -> dict[str, str]:
        """Installed packages and their versions, Python among them."""
        found = read_packages(self.folder / "packages.txt")
        python = self.environment.get("python")
        return {"python": str(python), **found} if found and python else found

    def is_executable(self, path: str) -> bool:
        """Whether an untracked file was."""
        content = _json(self.folder / "untracked.json", {})
        kept = content.get("kept") if isinstance(content, dict) else None
        told = kept.get(path) if isinstance(kept, dict) else None
        return isinstance(told, dict) and told.get("executable") is True

    @property
    def left_out(self) -> list[str]:
        """What was not recorded of the working tree, or only with secrets blacked out, and why."""
        content = _json(self.folder / "untracked.json", {})
        parts = [content.get(part) for part in ("left_out", "redacted")] if isinstance(content, dict) else []
        return [f"{path}: {why}" for part in parts if isinstance(part, dict) for path, why in part.items()]


def read_packages(file: Path) -> dict[str, str]:
    """name -> version of a list as `pip freeze` writes it; names as pip compares them. Empty where there is none."""
    if not file.is_file():
        return {}
    found = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        name, separator, version = line.partition("==")
        if separator and not name.startswith("#"):
            found[normalized(name)] = version.split(";")[0].strip()
    return found


def normalized(name: str) -> str:
    """A package's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def target(runs: Runs, run_id: str, scratch: Path) -> tuple[Record, str | None]:
    """The record of the run that is asked for, and, where that is a trial, of its search, with a line that says so.

    Raises Mistake where it cannot be reproduced, naming the remedy.
    """
    run = runs.run(run_id)
    if run is None:
        raise Mistake(
            f"{run_id}: no such run on {runs.shown}; copy the id from its page (`retrace ui`), or set"
            " MLFLOW_TRACKING_URI to the server that has it"
        )
    said = None
    parent_id = run.tags.get("mlflow.parentRunId")
    if "retrace.stage" in run.tags and parent_id is not None:
        parent = runs.run(parent_id)
        if parent is None:
            raise Mistake(
                f"{run_id}: its {run.stage} belongs to run {parent_id}, which is not on {runs.shown} any more"
            )
        said = f"{run_id} is a {run.stage} of the {parent.stage} {parent_id}, and is reproduced through it"
        run = parent
    if run.is_deleted:
        raise Mistake(
            f"{run.run_id}: deleted on {runs.shown}; bring it back: `mlflow runs restore --run-id {run.run_id}`"
        )
    if "retrace.stage" not in run.tags:
        raise Mistake(f"{run.run_id}: no run of retrace (it has no tag retrace.stage); name one that a stage made")
    if run.stage == "study":
        name = run.tags.get("retrace.study", "NAME")
        raise Mistake(f"{run.run_id}: a study is no stage; `retrace study {name}` makes it again, in the present code")
    if run.status != "FINISHED":
        raise Mistake(
            f"{run.run_id}: its {run.stage} is {run.status}: there is no result to make again; name a finished run"
        )
    record = read(runs, run, scratch)
    if record is None:
        raise Mistake(
            f"{run.run_id}: no lineage recorded ({FOLDER}/ of its artefacts on {runs.shown}): it was made by an older"
            f" version, or they were deleted; `dvc repro --force --single-item {run.stage}` makes a run that has it"
        )
    if not _COMMIT.fullmatch(run.tags.get("retrace.commit", "")):
        raise Mistake(
            f"{run.run_id}: its tag retrace.commit names no commit: it was made outside git, and its code is not known;"
            " commit the project, then make the run anew"
        )
    return record, said


def read(runs: Runs, run: Recorded, scratch: Path) -> Record | None:
    """A run's lineage, brought into the scratch folder; None where it has none. Raises Mistake where it is damaged."""
    folder = scratch / FOLDER / re.sub(r"\W", "_", run.run_id)
    if not folder.is_dir() and not runs.download(run, FOLDER, folder):
        return None
    dependencies = _hashes(run, folder, "dependencies.json", "retrace.dep.")
    outputs = _hashes(run, folder, "outputs.json", "retrace.out.")
    environment = _json(folder / "environment.json", {})
    if not isinstance(environment, dict):
        raise _damaged(run, "environment.json")
    return Record(
        run,
        folder,
        dependencies[0],
        outputs[0],
        environment,
        (*dependencies[1], *outputs[1], *_altered_code(run, folder)),
    )


def _hashes(run: Recorded, folder: Path, name: str, prefix: str) -> tuple[dict[str, str], list[str]]:
    """The hashes of one file, and what the run's tags say otherwise."""
    content = _json(folder / name, None)
    if not isinstance(content, dict) or not all(
        isinstance(value, str) and _DIGEST.fullmatch(value) for value in content.values()
    ):
        raise _damaged(run, name)
    tagged = {tag.removeprefix(prefix): value for tag, value in run.tags.items() if tag.startswith(prefix)}
    lines = [
        f"{path}: {content[path]} in {FOLDER}/{name}, {tagged[path]} in the tag {prefix}{path}"
        for path in sorted(tagged)
        if content.get(path, tagged[path]) != tagged[path]  # tags may tell of parts of an output, too
    ]
    return content, lines


def _altered_code(run: Recorded, folder: Path) -> list[str]:
    """What of the recorded code is not what its own record says it is."""
    expected = {"changes.diff": run.tags.get("retrace.diff", "")}
    content = _json(folder / "untracked.json", {})
    kept = content.get("kept") if isinstance(content, dict) else None
    for path, told in kept.items() if isinstance(kept, dict) else ():
        expected[f"untracked/{path}"] = str(told.get("sha256")) if isinstance(told, dict) else ""
    lines = []
    for name, digest in expected.items():
        file = folder / name
        if _DIGEST.fullmatch(digest) and not (is_inside(name) and file.is_file() and hashes.sha256(file) == digest):
            lines.append(f"{FOLDER}/{name}: altered or deleted after it was recorded (its SHA-256 was {digest})")
    return lines


def _damaged(run: Recorded, name: str) -> Mistake:
    return Mistake(f"{run.run_id}: {FOLDER}/{name}: missing or damaged; the run cannot be reproduced from it")


def _json(file: Path, default: Any) -> Any:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return default
    except ValueError:
        return None
