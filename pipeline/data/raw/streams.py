"""Bytes in order out of a file, plain or compressed: a step in memory at a time, and in all no more than is sound."""

import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

_STEP = 1 << 16  # bytes read from the file at a time
_PIECE = 1 << 20  # bytes unpacked at a time, at most
_ZSTD_STEP = 1 << 10  # zstd unpacks all it is given: 4 bytes may stand for 128 KiB, so that this makes 32 MiB at most
_MOST_WINDOW = 1 << 27  # bytes that zstd may look back; its tool writes more with --ultra --long=28 alone
_MOST_DICTIONARY = 256 << 20  # bytes that xz may take to unpack; `xz -9e` takes 65 MiB

# Image sets hardly shrink (JPEG, PNG) or to a twentieth (blank BMP). A bomb grows a thousandfold or more.
MOST_RATIO = 200
ALLOWED_BYTES = 64 << 20  # bytes, whatever the ratio
_MOST_BYTES = 1 << 42


class Damaged(Exception):
    """This archive cannot be read, or must not be: why, with the remedy, and at which member where that is known."""

    def __init__(self, why: str, member: str = "") -> None:
        super().__init__(why, member)
        self.why = why
        self.member = member


def pread(descriptor: int, count: int, offset: int) -> bytes:
    """`count` bytes from `offset` on; fewer at the end of the file alone."""
    content = os.pread(descriptor, count, offset)
    while len(content) < count and (more := os.pread(descriptor, count - len(content), offset + len(content))):
        content += more
    return content


class Stream(Protocol):
    """Bytes that are read once, from first to last."""

    position: int  # bytes read or skipped so far

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer at the end alone. Raises Damaged."""
        ...

    def skip(self, count: int) -> None:
        """Leave out the next `count` bytes, or all that are left. Raises Damaged."""
        ...


class Plain:
    """A file as it is. What is skipped is not read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = 0

    def read(self, count: int) -> bytes:
        content = self._file.read(count)
        self.position += len(content)
        return content

    def skip(self, count: int) -> None:
        self.position += count
        self._file.seek(count, os.SEEK_CUR)


class Unpacked:
    """What a compressed file holds."""

    def __init__(self, file: BinaryIO, packed_bytes: int, magic: bytes) -> None:
        self._pieces = _unpack(file, *OPENERS[magic])
        self._packed_bytes = packed_bytes
        self._unpacked_bytes = 0
        self._piece = b""
        self._at = 0  # in the piece
        self.position = 0

    def read(self, count: int) -> bytes:
        end = self._at + count
        if end <= len(self._piece):
            content = self._piece[self._at : end]
            self._at = end
        else:
            parts = [self._piece[self._at :]]
            missing = count - len(parts[0])
            while missing and self._next():
                parts.append(self._piece[:missing])
                self._at = len(parts[-1])
                missing -= self._at
            content = b"".join(parts)
        self.position += len(content)
        return content

    def skip(self, count: int) -> None:
        while count:
            step = min(count, len(self._piece) - self._at)
            self._at += step
            self.position += step
            count -= step
            if count and not self._next():
                return

    def _next(self) -> bool:
        """Go to the next piece; whether there is one."""
        self._piece = next(self._pieces, b"")
        self._at = 0
        self._unpacked_bytes += len(self._piece)
        refuse_bomb(self._unpacked_bytes, self._packed_bytes)
        return bool(self._piece)


def refuse_bomb(unpacked_bytes: int, packed_bytes: int) -> None:
    """Raise Damaged where an archive grows more than any set of images does."""
    if unpacked_bytes > min(_MOST_BYTES, max(ALLOWED_BYTES, MOST_RATIO * packed_bytes)):
        raise Damaged(
            f"{packed_bytes} bytes that unpack to {unpacked_bytes} or more: taken for a decompression bomb; if it is"
            " none, unpack it and set data.source: folder"
        )


# --- decompression ----------------------------------------------------------------------------------------------------


class _Decompressor(Protocol):
    """As lzma.LZMADecompressor: at most `max_length` bytes a call, more of them with b"" until it needs input."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)  # with gzip's header and checksum

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class _Zstd:
    needs_input = True

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW).decompressobj()

    def decompress(self, data: bytes, max_length: int) -> bytes:
        import zstandard

        try:
            return self._inner.decompress(data)
        except zstandard.ZstdError as error:
            raise Damaged(f"damaged ({error}); copy or download it again") from None

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MOST_DICTIONARY)


# How a compressed file begins -> what unpacks it, and the bytes that it is given at a time.
OPENERS: dict[bytes, tuple[Callable[[], _Decompressor], int]] = {
    b"\x1f\x8b": (_Gzip, _STEP),
    b"\xfd7zXZ\0": (_xz, _STEP),
    b"\x28\xb5\x2f\xfd": (_Zstd, _ZSTD_STEP),
}


def _unpack(file: BinaryIO, opener: Callable[[], _Decompressor], step: int) -> Iterator[bytes]:
    """Pieces of one compressed stream after another, with zeros between them as tapes and xz have them."""
    inner: _Decompressor | None = None
    rest = b""
    try:
        while True:
            if not rest and (inner is None or inner.needs_input):
                rest = file.read(step)
                if not rest:
                    break
            if inner is None:
                rest = rest.lstrip(b"\0")
                if not rest:
                    continue
                inner = opener()
            piece = inner.decompress(rest, _PIECE)
            rest = b""
            if inner.eof:
                rest, inner = inner.unused_data, None
            if piece:
                yield piece
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise Damaged(f"damaged ({error}); copy or download it again") from None
    if inner is not None:
        raise Damaged("truncated: it ends in the middle; copy or download it again")
