"""The content of a file by offset, whether it is packed with gzip or not."""

import os
import sys
import threading
import zlib
from pathlib import Path

from pipeline.data.raw.base import Stamp
from pipeline.data.raw.streams import ALLOWED_BYTES, MOST_RATIO, pread
from pipeline.errors import Mistake

_GZIP = b"\x1f\x8b"
_CHUNK = 256 << 10  # bytes asked of the disk, and given by the decompressor, at a time: memory stays bounded


class Unpacked:
    """Bytes by offset of a plain file (any order is quick), or of a gzip file (forwards is quick, back begins anew).

    Safe in several processes and threads at once: nothing stays open, and each thread goes forward by itself.
    place: what messages call the file.
    """

    def __init__(self, file: Path, place: str) -> None:
        self._file = file
        self.place = place
        self._own = threading.local()
        with file.open("rb") as stream:
            self.packed = stream.read(2) == _GZIP

    def __reduce__(self) -> tuple[type["Unpacked"], tuple[Path, str]]:  # to a process that is spawned: from the start
        return Unpacked, (self._file, self.place)

    def stamp(self, size: int) -> Stamp:
        """For a part of `size` bytes: it changes whenever the file does."""
        status = self._file.stat()
        return Stamp(size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes, fewer at the end. Raises OSError; Mistake for a gzip file cut short, damaged or a bomb."""
        if not self.packed:
            return _read(self._file, offset, size) if offset + size <= sys.maxsize else b""
        stream: _Inflating | None = getattr(self._own, "stream", None)
        if stream is None or stream.offset > offset:
            stream = self._own.stream = _Inflating(self._file, self.place)
        while stream.offset < offset and stream.some(offset - stream.offset):
            pass
        pieces = []
        while size > 0 and (piece := stream.some(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def exactly(self, offset: int, size: int) -> bytes:
        """`size` bytes. Raises Mistake where the file ends before."""
        content = self.read(offset, size)
        if len(content) < size:
            raise self.cut_short(offset + len(content))
        return content

    def length(self, most: int) -> int:
        """How many bytes there are; of a gzip file no more than `most` + 1 are looked at."""
        if not self.packed:
            return self._file.stat().st_size
        return most + 1 if self.read(most, 1) else int(self._own.stream.offset)

    def cut_short(self, length: int) -> Mistake:
        return Mistake(f"{self.place}: cut short after {length} bytes; fetch it again")


class _Inflating:
    """A gzip file read forwards. Its file is opened for every piece: nothing is shared after a fork."""

    def __init__(self, file: Path, place: str) -> None:
        self._file, self._place = file, place
        self._most = max(ALLOWED_BYTES, MOST_RATIO * file.stat().st_size)
        self._taken = 0  # bytes of the file
        self._input = b""
        self._engine = zlib.decompressobj(31)  # gzip's header and checksum
        self._ready, self._given = b"", 0  # what was unpacked last, and how much of that was given
        self.offset = 0  # bytes given in all

    def some(self, most: int) -> bytes:
        """Up to `most` bytes; none at the end, where the checksum has been compared. Raises Mistake, OSError."""
        if self._given == len(self._ready):
            self._ready, self._given = self._unpack(), 0
        piece = self._ready[self._given : self._given + most]
        self._given += len(piece)
        self.offset += len(piece)
        if self.offset > self._most:
            raise Mistake(f"{self._place}: grows beyond {self._most} bytes: taken for a decompression bomb")
        return piece

    def _unpack(self) -> bytes:
        while True:
            if self._engine.eof and not self._next_member():
                return b""
            try:
                piece = self._engine.decompress(self._input, _CHUNK)
            except zlib.error as error:
                raise Mistake(f"{self._place}: damaged gzip ({error}); fetch it again") from None
            self._input = self._engine.unconsumed_tail
            if piece:
                return piece
            if not self._engine.eof and not self._input:
                self._input = self._more()
                if not self._input:
                    raise Mistake(f"{self._place}: cut short after {self.offset} bytes of its content; fetch it again")

    def _next_member(self) -> bool:
        """gzip files may follow one another, and zeros may fill the last one up."""
        rest = self._engine.unused_data.lstrip(b"\0")
        while not rest:
            more = self._more()
            if not more:
                return False
            rest = more.lstrip(b"\0")
        self._input = rest
        self._engine = zlib.decompressobj(31)
        return True

    def _more(self) -> bytes:
        content = _read(self._file, self._taken, _CHUNK)
        self._taken += len(content)
        return content


def _read(file: Path, offset: int, size: int) -> bytes:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
