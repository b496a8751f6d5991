"""Brings data to the scratch clone by hash: from DVC's cache, the project's own folders, or DVC's remote.

All of them are only read. Whatever comes is hashed before it is believed.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.lineage import hashes
from pipeline.tracking.recorded import is_inside

if TYPE_CHECKING:
    from dvc.repo import Repo

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


class Fetcher:
    """Finds content of one project by its hash."""

    def __init__(self, project: Path, scratch: Path) -> None:
        self._project = project
        self._pulled = scratch / "pulled"
        self._caches: list[Path] | None = None
        self._asked: set[str] = set()  # of the remote
        self.remote_said = ""  # why the remote did not help, if it did not

    def fetch(self, path: str, digest: str, target: Path) -> bool:
        """Put the content with this hash, which the project calls `path`, at `target`; False where nobody has it."""
        if not _MD5.fullmatch(digest):
            return False
        if self._copy(path, digest, target):
            return True
        return self._pull(digest) and self._copy(path, digest, target)

    def listing(self, digest: str, path: str) -> dict[str, str] | None:
        """The files (relative path -> hash) of an output folder `path`, known by its hash; None where it is unknown."""
        if not digest.endswith(".dir") or not _MD5.fullmatch(digest):
            return None
        found = self._listing(digest)
        if found is None and (own := self._own(path, digest)) is not None:
            return {file.relative_to(own).as_posix(): hashes.md5(file) for file in own.rglob("*") if file.is_file()}
        if found is None and self._pull(digest):
            found = self._listing(digest)
        return found

    def _listing(self, digest: str) -> dict[str, str] | None:
        for file in self._objects(digest):
            if hashes.md5(file) != digest.removesuffix(".dir"):
                continue
            entries = {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_bytes())}
            if all(is_inside(name) and _MD5.fullmatch(md5) for name, md5 in entries.items()):
                return entries
        return None

    def _copy(self, path: str, digest: str, target: Path) -> bool:
        _remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._copy_objects(digest, target) and _is(target, digest):
            return True
        _remove(target)
        own = self._own(path, digest)
        if own is not None:
            shutil.copytree(own, target) if own.is_dir() else shutil.copyfile(own, target)
            if _is(target, digest):
                return True
            _remove(target)
        return False

    def _copy_objects(self, digest: str, target: Path) -> bool:
        if not digest.endswith(".dir"):
            return self._copy_object(digest, target)
        entries = self._listing(digest)
        if entries is None:
            return False
        target.mkdir()
        for name, md5 in entries.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if not self._copy_object(md5, target / name):
                return False
        return True

    def _copy_object(self, digest: str, target: Path) -> bool:
        """Copy one file; bytes alone, since the cache's files are read-only. A damaged object is passed over."""
        for source in self._objects(digest):
            shutil.copyfile(source, target)
            if hashes.md5(target) == digest:
                return True
        return False

    def _objects(self, digest: str) -> Iterator[Path]:
        if self._caches is None:
            with self._repo() as repo:
                self._caches = [self._pulled, Path(repo.cache.local.path)]
        for cache in self._caches:
            file = cache / digest[:2] / digest[2:]
            if file.is_file():
                yield file

    def _own(self, path: str, digest: str) -> Path | None:
        """The project's own file or folder of that name, where it still is what was recorded."""
        own = self._project / path
        return own if is_inside(path) and _is(own, digest) else None

    def _pull(self, digest: str) -> bool:
        """Ask DVC's default remote, if there is one; what it has goes to the scratch folder, not to the cache."""
        if digest in self._asked:
            return False
        self._asked.add(digest)
        from dvc.exceptions import DvcException
        from dvc_data.hashfile.db import HashFileDB
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.transfer import transfer
        from dvc_objects.fs.local import LocalFileSystem

        with self._repo() as repo:
            if not repo.config["core"].get("remote"):
                self.remote_said = "no default DVC remote is configured"
                return False
            try:
                remote = repo.cloud.get_remote_odb(None, "fetch")
                self._pulled.mkdir(parents=True, exist_ok=True)
                mine = HashFileDB(LocalFileSystem(), str(self._pulled))  # type: ignore[no-untyped-call]
                result = transfer(remote, mine, {HashInfo("md5", digest)}, shallow=False)
            except (DvcException, OSError) as error:
                self.remote_said = f"DVC's remote: {error}"
                return False
        if result.failed:
            self.remote_said = "DVC's remote does not have it either"
        return bool(result.transferred)

    @contextlib.contextmanager
    def _repo(self) -> "Iterator[Repo]":
        from dvc.repo import Repo

        with Repo(str(self._project)) as repo:
            yield repo


def _is(path: Path, digest: str) -> bool:
    try:
        return path.exists() and path.is_dir() == digest.endswith(".dir") and hashes.md5(path) == digest
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
