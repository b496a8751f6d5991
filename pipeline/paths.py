"""Where everything is, once. Artefacts are relative to the folder a stage runs in; state belongs to the root."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PARAMS = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
CONSTRAINTS = Path("constraints.txt")

RAW = Path("data/raw")  # what was downloaded; known to neither git nor DVC
SOURCE = Path("data/source.json")
PREPARED = Path("data/prepared")  # train and validation
TEST = Path("data/test")  # the sealed split: only evaluate opens it
INITIAL = Path("data/initial.safetensors")  # the weights that training starts from, if any
SPLITS = Path("data/splits.csv")  # which image is where: for people, no stage reads it
AUGMENTED = Path("data/augmented")
COPIES = AUGMENTED / "copies"  # a split of augmented training images, where augment.copies asks for it
BEST = Path("artifacts/search/best.yaml")
SEARCH = Path("artifacts/search")
MODEL = Path("artifacts/model")
EVALUATION = Path("artifacts/evaluation")
STUDIES = Path("artifacts/studies")


def root() -> Path:
    """The project's own root: where tracking and state live, also while a temporary DVC experiment folder runs."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def state() -> Path:
    """Working state (spools, hash caches, locks): ignored by git, unknown to DVC, safe to delete between runs."""
    return root() / ".retrace"


def raw(kind: str) -> Path:
    """Where a source keeps what it downloads: the root's, so that no temporary experiment fetches it again."""
    return root() / RAW / kind


def states() -> Path:
    """What stages keep while they work: STAGE/FINGERPRINT/."""
    return state() / "state"


def source_memory() -> Path:
    """What the stage `source` remembers between runs."""
    return state() / "source"


def hashes_of_source(kind: str, path: str | None) -> Path:
    """The remembered hashes, one file a source: going to and fro between two data sets hashes neither again."""
    name = hashlib.sha256(repr((kind, path)).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return source_memory() / f"{name}.json"


def members_of_archive(archive: Path) -> Path:
    """The remembered members of an archive: to list a compressed tar means to unpack all of it."""
    return source_memory() / f"members-{hashlib.sha256(os.fsencode(archive)).hexdigest()[:16]}.json"


def studied_data() -> Path:
    """The data that studies have made for themselves, a folder for each set of parameters."""
    return state() / "studies"


def find_project(start: Path) -> Path | None:
    """The nearest folder at or above `start` that holds a dvc.yaml and a params.yaml."""
    for folder in (start, *start.parents):
        if (folder / DVC_YAML).is_file() and (folder / PARAMS).is_file():
            return folder
    return None


@contextmanager
def replacing(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Folders to write into, that take the places of `targets` together at the end, or vanish on any error.

    An output is thus whole or absent, never half-written. The scratch folders lie beside their targets (a rename
    works within one file system only) and carry their process's number, so that what a killed one left is swept.
    """
    with ExitStack() as cleanup:
        scratch = []
        for target in targets:
            if target.exists() and not target.is_dir():  # told before the work, and before another target is replaced
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(target))
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            for left in left_by_dead_processes(target):
                shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(f".{os.getpid()}.tmp", f".{target.name}.", target.parent))
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.chmod(0o755)  # mkdtemp's 0700 would keep colleagues out of a shared output
            scratch.append(folder)
        yield tuple(scratch)
        for folder, target in zip(scratch, targets, strict=True):
            if target.is_symlink():
                target.unlink()  # the link alone: what it points to is somebody's
            elif target.exists():
                shutil.rmtree(target)
            folder.rename(target)


def left_by_dead_processes(target: Path) -> list[Path]:
    """Scratch of `replacing` and `write_atomically` whose process was killed."""
    found = target.parent.glob(f".{target.name}.*.[0-9]*.tmp")
    return sorted(path for path in found if not _is_alive(int(path.name.split(".")[-2])))


def _is_alive(process: int) -> bool:
    import psutil

    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE  # a container's init may never bury its orphans
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # somebody else's, but there
        return True


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Write a file so that a reader, or a kill, or a power cut, leaves the old content or the new, never a part.

    Raises OSError, leaving what was there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in left_by_dead_processes(path):
        left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(f".{os.getpid()}.tmp", f".{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            for part in content:
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
