"""A tree of files in an archive, read without unpacking it to disk: .zip, .tar, .tar.gz, .tar.xz, .tar.zst.

The format is told by the content. What an archive holds is kept between runs: to list a compressed tar means to unpack
all of it.
"""

import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from pipeline import paths
from pipeline.data.raw import tarball, zipped
from pipeline.data.raw.base import Stamp
from pipeline.data.raw.entry import FILE, Entry, checked, cleaned
from pipeline.data.raw.streams import OPENERS, Damaged, Plain, Stream, Unpacked, pread
from pipeline.data.raw.tree import File, Walk, is_junk, too_large
from pipeline.data.text import shown
from pipeline.errors import Mistake

KINDS = ".zip, .tar, .tar.gz, .tar.xz or .tar.zst"
_ARCHIVES = (".zip", ".tar", ".tgz", ".txz", ".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".tbz2", ".7z", ".rar")
_HASHED = 1 << 20  # bytes at a time

# An archive written again within a clock tick keeps its times: what is this young is listed again next time.
_RACY_NS = 2_000_000_000


class Archive:
    """The members of an archive, under their names in it.

    memory: the file in which the list of members is kept between runs; None keeps none.
    """

    def __init__(self, file: Path, place: str, memory: Path | None = None) -> None:
        self._file = file
        self.place = place
        self._memory = memory

    # --- what is there ------------------------------------------------------------------------------------------------

    def stamp(self) -> bytes:
        """A stat of the archive: equal only when it was not touched."""
        return repr(self._stamp()).encode()

    def walk(self) -> Walk:
        stamp = self._stamp()
        folders: dict[str, list[File]] = {"": []}
        junk: dict[str, bool] = {"": False}  # of each folder

        def enter(folder: str) -> bool:
            """Whether what lies in a folder counts."""
            if folder not in junk:
                around, _, name = folder.rpartition("/")
                junk[folder] = not enter(around) or is_junk(name)
                if not junk[folder]:
                    folders[folder] = []
            return not junk[folder]

        nested = []
        for entry in self._entries:
            if entry.kind != FILE:
                enter(entry.path)
                continue
            folder, _, name = entry.path.rpartition("/")
            if not is_junk(name) and enter(folder):
                folders[folder].append(_file(entry, stamp))
                if name.lower().endswith(_ARCHIVES):
                    nested.append(entry.path)
        if nested:
            why = "an archive in the archive; unpack it, then pack all again"
            raise Mistake(*(f"{self.place}: {shown(path)}: {why}" for path in nested))
        return Walk(folders, [])

    def look(self, paths: Collection[str]) -> dict[str, File]:
        stamp = self._stamp()
        return {path: _file(self._files[path], stamp) for path in paths if path in self._files}

    @property
    def hashes(self) -> Mapping[str, str]:
        return {entry.path: entry.sha256 for entry in self._entries if entry.sha256 is not None}

    @property
    def top(self) -> str:
        """The folder that everything lies in; "" where there is none."""
        tops = {path.partition("/")[0] for path in self._files if not is_junk(path.partition("/")[0])}
        only = tops.pop() if len(tops) == 1 else ""
        return "" if only in self._files else only

    # --- contents -----------------------------------------------------------------------------------------------------

    @cached_property
    def sequential(self) -> bool:
        with self._told():
            if self._magic().startswith(tuple(OPENERS)):
                return True
            _ = self._files  # processes that fork after they have asked this share the list of members
            return False

    def read(self, path: str) -> bytes:
        return next(self.contents((path,)))[1]

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        with self._told():
            yield from self._streamed(set(paths)) if self.sequential else self._picked(paths)

    def _picked(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Members by their place in the archive."""
        for path in paths:
            if path not in self._files:
                raise FileNotFoundError(2, "not in the archive", path)
        descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for entry in sorted((self._files[path] for path in paths), key=lambda entry: entry.offset):
                if entry.checksum is not None:
                    yield entry.path, zipped.content(descriptor, entry)
                    continue
                content = pread(descriptor, entry.size, entry.offset)
                if len(content) < entry.size:
                    raise Damaged("truncated meanwhile; run again", entry.path)
                yield entry.path, content
        finally:
            os.close(descriptor)

    def _streamed(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Members as they come, which needs no list of them."""
        with self._file.open("rb") as file:
            stream = self._stream(file)
            for entry in tarball.entries(stream) if wanted else ():
                path = cleaned(entry.path)
                if path in wanted and entry.kind == FILE:
                    wanted.remove(path)
                    if (large := too_large(entry.size)) is not None:  # another archive than was listed
                        raise Damaged(large, path)
                    yield path, stream.read(entry.size)
                    if not wanted:
                        return
        if wanted:
            raise FileNotFoundError(2, "not in the archive", min(wanted))

    # --- the list of members ------------------------------------------------------------------------------------------

    @cached_property
    def _files(self) -> dict[str, Entry]:
        return {entry.path: entry for entry in self._entries if entry.kind == FILE}

    @cached_property
    def _entries(self) -> list[Entry]:
        with self._told():
            stamp = self._stamp()
            known = self._recalled(stamp)
            if known is not None:
                return known
            now = time.time_ns()
            entries = checked(self._listed(stamp.size))
            if self._stamp() != stamp:
                raise Mistake(f"{self.place}: changed while it was listed; run again")
            if max(stamp.mtime_ns, stamp.ctime_ns) < now - _RACY_NS:
                self._keep(stamp, entries)
            return entries

    def _listed(self, size: int) -> Iterator[Entry]:
        magic = self._magic()
        with self._file.open("rb") as file:
            if magic.startswith(zipped.MAGIC):
                yield from zipped.entries(file, size)
            elif magic.startswith(tuple(OPENERS)):
                yield from self._hashed(file, size)
            elif tarball.is_header(magic):
                yield from tarball.entries(Plain(file))
            else:
                raise Damaged(f"not an archive of a kind that is read here; make it a {KINDS}")

    def _hashed(self, file: BinaryIO, size: int) -> Iterator[Entry]:
        """Members of a compressed tar with their hashes: reading them again would unpack all of it again."""
        from tqdm import tqdm

        with tqdm(desc="source: unpacking", total=size, unit="B", unit_scale=True, file=sys.stderr) as bar:
            stream = self._stream(file)
            for number, entry in enumerate(tarball.entries(stream)):
                digest, left = hashlib.sha256(), entry.size
                while left:
                    piece = stream.read(min(left, _HASHED))
                    if not piece:
                        break  # truncated, which the next header tells
                    digest.update(piece)
                    left -= len(piece)
                if number % 100 == 0:
                    bar.update(file.tell() - bar.n)
                yield entry._replace(sha256=digest.hexdigest()) if entry.kind == FILE else entry
            bar.update(size - bar.n)

    def _stream(self, file: BinaryIO) -> Stream:
        head = file.read(8)
        file.seek(0)
        magic = next(magic for magic in OPENERS if head.startswith(magic))
        return Unpacked(file, os.fstat(file.fileno()).st_size, magic)

    def _magic(self) -> bytes:
        self._stamp()  # tells what is no file
        with self._file.open("rb") as file:
            magic = file.read(tarball.BLOCK)
        if not magic:
            raise Damaged("empty; copy or download it again")
        return magic

    def _stamp(self) -> Stamp:
        try:
            status = os.stat(self._file)
        except (FileNotFoundError, NotADirectoryError):
            raise Mistake(f"{self.place}: not found; set data.path in params.yaml to the archive") from None
        if not stat.S_ISREG(status.st_mode):
            raise Mistake(f"{self.place}: no file, so no archive; for a folder of images set data.source: folder")
        return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What is wrong with the archive, as the user's mistake."""
        try:
            yield
        except Damaged as damage:
            member = f": {shown(damage.member)}" if damage.member else ""
            raise Mistake(f"{self.place}{member}: {damage.why}") from None

    # --- kept between runs --------------------------------------------------------------------------------------------

    def _recalled(self, stamp: Stamp) -> list[Entry] | None:
        """The members as listed before; None where the archive or this code is another, or nothing is kept."""
        if self._memory is None:
            return None
        try:
            content = json.loads(self._memory.read_bytes())
            if content["key"] != _key(stamp):
                return None
            return [Entry(*row) for row in content["members"]]
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # a cache: what is damaged is made again
            return None

    def _keep(self, stamp: Stamp, entries: list[Entry]) -> None:
        if self._memory is not None:
            paths.write_atomically(self._memory, json.dumps({"key": _key(stamp), "members": entries}).encode("ascii"))


def is_archive(file: Path) -> bool:
    """Whether a file is an archive of a kind that is read here, by its first bytes."""
    with file.open("rb") as stream:
        head = stream.read(tarball.BLOCK)
    return head.startswith((*OPENERS, *zipped.MAGIC)) or tarball.is_header(head)


def _file(entry: Entry, archive: Stamp) -> File:
    """A member with the stamp that it has: its own size, the archive's times and inode."""
    return File(entry.path, archive._replace(size=entry.size), too_large(entry.size))


def _key(stamp: Stamp) -> str:
    """A hash of the archive's stamp and of the code that judges it."""
    digest = hashlib.sha256(repr(stamp).encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
