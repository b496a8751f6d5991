"""What is kept with a run so that it can be made again: parameters, hashes, environment, and the code as it was.

It goes to the run's artefacts, under `lineage/`: params.yaml, parameters.json (the values in force), dependencies.json
and, at the end, outputs.json (path -> DVC's hash), environment.json, packages.txt, constraints.txt, dvc.yaml, dvc.lock;
what of the code no commit has: changes.diff and untracked/PATH, with untracked.json, which says what was kept, what was
left out and why, and in what a password was hidden. A run whose code was left out or hidden in part says so in a tag:
it cannot be made again exactly, and must not seem as if it could.
"""

import hashlib
import json
import os
import platform
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import machine, paths
from pipeline.data.text import shown
from pipeline.lineage import host, redaction, repository
from pipeline.params import Params
from pipeline.state import Work

FOLDER = "lineage"
OUTPUTS = "outputs.json"
DIFF = "changes.diff"
UNTRACKED = "untracked.json"
DIFF_BYTES = 20 << 20
FILE_BYTES = 1 << 20
ALL_FILES_BYTES = 10 << 20
_NAMED_FILES = 100  # beyond which what was left out is counted by folder

# The kinds of untracked files that may be source: pictures, archives and notebooks with outputs are not.
KINDS = frozenset({
    ".py", ".pyi", ".pyx", ".yaml", ".yml", ".toml", ".txt", ".md", ".rst", ".jinja", ".j2", ".json", ".csv", ".tsv",
    ".cfg", ".ini", ".sh", ".sql", ".html", ".css", ".js", ".c", ".h", ".cpp", ".cu", ".patch", ".dvc",
})  # fmt: skip
NAMES = frozenset({"Makefile", "Dockerfile", "LICENSE", ".dvcignore", ".gitignore", ".gitattributes"})


@dataclass
class Captured:
    """Files for the folder `lineage`, by their paths in it, and tags."""

    files: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def capture(work: Work, params: Params, tree: repository.Tree | None) -> Captured:
    """All that a run begins with. params: those in force. tree: what git says of the working directory."""
    environment = _environment(work, params)
    parameters = {name: _hidden(value) for name, value in params.flat().items()}
    found = Captured(
        {
            "parameters.json": _json(parameters),
            "dependencies.json": _json(work.dependencies),
            "environment.json": _json(environment),
            "packages.txt": "".join(f"{line}\n" for line in _packages()).encode(),
        },
        {
            "retrace.fingerprint": work.fingerprint,
            "retrace.seed": str(params.seed),
            "retrace.machine": environment["machine_id"],
            "retrace.environment": hashlib.sha256(_json(work.environment)).hexdigest()[:32],
            "retrace.torch": environment["torch"] or "none",
            "retrace.threads": str(environment["threads"] or "none"),
            "retrace.capability": environment["capability"] or "none",
        },
    )
    code = _Code(tree)
    for name in (paths.PARAMS, paths.CONSTRAINTS, paths.DVC_YAML, paths.DVC_LOCK):
        if name.is_file():
            found.files[str(name)] = code.without_passwords(str(name), name.read_bytes(), is_code=name != paths.PARAMS)
    code.keep(found)
    return found


def outputs_json(digests: Mapping[str, str]) -> bytes:
    """The content of outputs.json."""
    return _json(digests)


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, default=str).encode()


def _hidden(value: Any) -> Any:
    return redaction.redacted(value) if isinstance(value, str) else value


def _environment(work: Work, params: Params) -> dict[str, Any]:
    said = work.environment
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "machine_id": host.machine(),
        "processor": host.processor(),
        "cores": machine.usable_cores(),
        "torch": said.get("torch"),  # null: the stage makes no numbers with it
        "threads": work.parameters.get("train.threads") if "torch" in said else None,
        "capability": said.get("capability"),
        "gpu": said.get("gpu"),
        "cuda": said.get("cuda"),
        "driver": _driver(),
        "seed": params.seed,
        "environment": dict(said),
    }


def _driver() -> str | None:
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return None


def _packages() -> list[str]:
    pairs = [name.rpartition("-") for name in host.distributions()]
    return sorted({f"{re.sub('[-_.]+', '-', name).lower()}=={version}" for name, _, version in pairs})  # PEP 503


# --- code that no commit has ------------------------------------------------------------------------------------------


@dataclass
class _Code:
    """Gathers it, with what was left out and in what something was hidden."""

    tree: repository.Tree | None
    left_out: dict[str, str] = field(default_factory=dict)
    redacted: dict[str, str] = field(default_factory=dict)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    def keep(self, into: Captured) -> None:
        into.tags["retrace.diff"] = self._keep_difference(into)
        if self.tree is not None:
            self._keep_untracked(self.tree, into)
        into.tags["retrace.untracked"] = str(len(self.kept)) if self.kept else "none"
        if self.kept or self.left_out or self.redacted:
            content = {"kept": self.kept, "left_out": _shortened(self.left_out), "redacted": self.redacted}
            into.files[UNTRACKED] = _json(content)
        if self.redacted:
            into.tags["retrace.redacted"] = "\n".join(self.redacted)
        if self.left_out:
            into.tags["retrace.left_out"] = "\n".join(
                f"{path}: {why}" for path, why in _shortened(self.left_out).items()
            )

    def without_passwords(self, name: str, content: bytes, is_code: bool = True) -> bytes:
        """name: of the artefact."""
        if is_code:
            hidden = redaction.redacted_source(content)
        else:
            hidden = redaction.redacted(content.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if hidden != content:
            self.redacted[name] = "passwords or tokens in it were hidden: it is not the file that the run has used"
        return hidden

    def _keep_difference(self, into: Captured) -> str:
        """Returns the tag's value: its hash, or why there is none."""
        tree = self.tree
        if tree is None or tree.changed is None:
            return "unknown"
        if not tree.changed:
            return "none"
        secret = {name: why for name in tree.changed if (why := _why_secret(Path(name), None))}
        self.left_out |= {shown(name): why for name, why in secret.items()}
        content = repository.difference(Path.cwd(), without=secret, limit=DIFF_BYTES)
        if content is None:
            self.left_out[DIFF] = f"beyond {DIFF_BYTES >> 20} MiB, or git did not answer in time"
            return "left out"
        if redaction.holds_private_key(content):  # one that the commit has and the folder has not any more
            self.left_out[DIFF] = "a private key is in it"
            return "left out"
        into.files[DIFF] = self.without_passwords(DIFF, content)
        return hashlib.sha256(into.files[DIFF]).hexdigest()

    def _keep_untracked(self, tree: repository.Tree, into: Captured) -> None:
        total = 0
        for name in sorted(tree.untracked):
            content, why = _read(Path(name)) if name.isprintable() else (None, "MLflow takes no such name")
            if content is not None and total + len(content) > ALL_FILES_BYTES:
                content, why = None, f"beyond {ALL_FILES_BYTES >> 20} MiB in all"
            if content is None:
                self.left_out[shown(name)] = why
                continue
            total += len(content)
            content = self.without_passwords(f"untracked/{name}", content)
            into.files[f"untracked/{name}"] = content
            self.kept[name] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "executable": os.access(name, os.X_OK),
            }


def _read(file: Path) -> tuple[bytes | None, str]:
    """An untracked file that is source and no secret; or why it is not kept."""
    if file.is_symlink() or not file.is_file():
        return None, "no plain file"
    if file.suffix not in KINDS and file.name not in NAMES:
        return None, f"of another kind ({file.suffix or file.name})"
    try:
        if file.stat().st_size > FILE_BYTES:
            return None, f"beyond {FILE_BYTES >> 20} MiB"
        content = file.read_bytes()
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"
    why = _why_secret(file, content)
    return (content, "") if why is None else (None, why)


def _why_secret(file: Path, content: bytes | None) -> str | None:
    """content: None for that of a tracked file, which is looked into where it is small."""
    if redaction.named_like_a_secret(str(file)):
        return "named like a secret"
    if content is None:
        with suppress(OSError):
            content = file.read_bytes() if file.is_file() and file.stat().st_size <= FILE_BYTES else None
    if content is not None and redaction.holds_private_key(content):
        return "a private key is in it"
    return "an access token is in it" if content is not None and redaction.holds_token(content) else None


def _shortened(left_out: Mapping[str, str]) -> dict[str, str]:
    if len(left_out) <= _NAMED_FILES:
        return dict(left_out)
    places = [(name.partition("/")[0] + ("/..." if "/" in name else ""), why) for name, why in left_out.items()]
    counted = Counter(places)
    shown: dict[str, list[str]] = {}
    for (place, why), count in counted.most_common(_NAMED_FILES):
        shown.setdefault(place, []).append(f"{count} {why}")
    return {place: "; ".join(reasons) for place, reasons in shown.items()}
