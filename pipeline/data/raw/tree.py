"""A tree of files, wherever it lies: here a directory; an archive is pipeline/data/raw/archive.py."""

import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

from pipeline.data.raw.base import Stamp

# A larger file would fill the memory before it shows that it is no image.
MOST_BYTES = 1 << 30

# What file managers, archivers and network drives leave behind. Hidden names are left out as well.
_JUNK = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "lost+found"})


class File(NamedTuple):
    path: str  # relative to the tree, "/" between; undecodable bytes as os.fsdecode gives them
    stamp: Stamp
    problem: str | None = None  # why it cannot be read, where a stat shows that already


class Walk(NamedTuple):
    """All that is in a tree, less what nobody put there on purpose."""

    folders: dict[str, list[File]]  # each folder ("" is the tree itself) -> the files in it; empty folders too
    ignored: list[tuple[str, str]]  # path, why


class Tree(Protocol):
    """Files by their path below a common place."""

    place: str  # what messages call it

    @property
    def sequential(self) -> bool:
        """Whether `contents` alone is quick: reading one file means reading all before it."""
        ...

    def walk(self) -> Walk:
        """Every file. Raises Mistake where nothing is there, or nothing that can be walked."""
        ...

    def look(self, paths: Collection[str]) -> dict[str, File]:
        """Those of `paths` that are files here, hidden ones too."""
        ...

    @property
    def hashes(self) -> Mapping[str, str]:
        """path -> sha256 of what had to be read to know what is there; otherwise empty."""
        ...

    def read(self, path: str) -> bytes:
        """The content of a file. Safe in several processes at once. Raises as `contents`."""
        ...

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """The path and content of each of `paths` once, in the quickest order.

        Raises FileNotFoundError for one that is gone, other OSErrors, and Mistake where an archive is damaged.
        """
        ...


class Directory:
    """A directory on disk. Symbolic links are followed; links that loop are told from those that do not."""

    sequential = False
    hashes: Mapping[str, str] = MappingProxyType({})

    def __init__(self, base: Path, place: str) -> None:
        self._base = os.fspath(base)
        self.place = place

    def walk(self) -> Walk:
        found = Walk({}, [])
        self._walk("", (), found)
        return found

    def look(self, paths: Collection[str]) -> dict[str, File]:
        found = {}
        for path in paths:
            try:
                file = _file(path, os.stat(f"{self._base}/{path}"))
            except (OSError, ValueError):  # not there, a link to nowhere, a name that no file can have
                continue
            if file is not None:
                found[path] = file
        return found

    def read(self, path: str) -> bytes:
        # without buffering and pathlib: at 60,000 files that is a second
        descriptor = os.open(f"{self._base}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            content = os.read(descriptor, size + 1)
            while len(content) < size and (more := os.read(descriptor, size - len(content))):
                content += more
            return content
        finally:
            os.close(descriptor)

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        return ((path, self.read(path)) for path in paths)

    def _walk(self, folder: str, above: tuple[tuple[int, int], ...], found: Walk) -> None:
        """`above`: (device, inode) of the folders around."""
        files: list[File] = []
        found.folders[folder] = files
        descriptor = os.open(f"{self._base}/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        deeper: list[str] = []
        try:
            status = os.fstat(descriptor)
            here = (status.st_dev, status.st_ino)
            if here in above:
                found.ignored.append((folder, "a link to a folder around it: it would loop"))
                return
            with os.scandir(descriptor) as entries:  # by descriptor: half the time of whole paths
                for entry in entries:
                    name = entry.name
                    if is_junk(name):
                        continue
                    path = f"{folder}/{name}" if folder else name
                    if _is_folder(entry):
                        deeper.append(path)
                        continue
                    try:
                        file = _file(path, entry.stat())
                    except OSError as error:  # a link to nowhere or to itself
                        files.append(File(path, Stamp(0, 0, 0, 0), f"broken link ({error.strerror})"))
                        continue
                    if file is None:
                        found.ignored.append((path, "neither a file nor a folder"))
                    else:
                        files.append(file)
        finally:
            os.close(descriptor)
        for path in sorted(deeper):
            self._walk(path, (*above, here), found)


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is left behind by some program, or hidden."""
    return name.startswith(".") or name.lower() in _JUNK


def too_large(size: int) -> str | None:
    """Why a file of so many bytes is not opened; None for one that is."""
    return f"{size} bytes, more than {MOST_BYTES}: not opened" if size > MOST_BYTES else None


def _file(path: str, status: os.stat_result) -> File | None:
    """A regular file; None for what is none."""
    if not stat.S_ISREG(status.st_mode):
        return None
    size = status.st_size
    return File(path, Stamp(size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino), too_large(size))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself; others that cannot be followed are no folder already
            return False
        raise
