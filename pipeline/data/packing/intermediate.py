"""Where images lie between decoding and the splits: in the order in which they came, or each in its own place.

Several processes put blocks of images there side by side; a record in the journal says where a block is.
"""

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.data.packing.journal import Record
from pipeline.data.store.arrays import Rows, header, write_header
from pipeline.data.store.encoded import EncodedImages


class Intermediate(Protocol):
    """One file of images (N, H, W, C)."""

    takes_jpeg: bool
    file: Path

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]) -> None: ...

    def kept(self, records: list[Record]) -> list[Record]:
        """Those of an earlier process's records whose images the file still has."""
        ...

    def begin(self, records: list[Record]) -> None:
        """Make the file ready to be written to: it keeps what `records` speak of, and the journal no others by then."""
        ...

    def put(self, rows: list[int], pixels: NDArray[np.uint8], jpegs: list[bytes]) -> dict[str, Any]:
        """Write some images, in whatever form is kept here; what the record needs to find them again."""
        ...

    def images(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Rows:
        """All of them. starts, lengths: as the records tell."""
        ...


class Pixels:
    """An .npy file in which every image has its own place."""

    takes_jpeg = False

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]) -> None:
        self.file = folder / "pixels.npy"
        self._shape = shape
        self._image_bytes = int(np.prod(shape[1:]))
        self._first = len(header(shape))  # where the first image begins

    def kept(self, records: list[Record]) -> list[Record]:
        whole = self._first + self._shape[0] * self._image_bytes
        return records if self.file.is_file() and self.file.stat().st_size == whole else []

    def begin(self, records: list[Record]) -> None:
        if not records:
            with self.file.open("wb") as stream:
                write_header(stream, self._shape)
            paths.sync_folder(self.file.parent)

    def put(self, rows: list[int], pixels: NDArray[np.uint8], jpegs: list[bytes]) -> dict[str, Any]:
        order = np.argsort(rows)
        sorted_rows = np.asarray(rows)[order]
        with self.file.open("r+b", buffering=0) as stream:
            for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(sorted_rows) != 1) + 1):
                stream.seek(self._first + int(sorted_rows[run[0]]) * self._image_bytes)
                rest = memoryview(pixels[order[run]].tobytes())
                while rest:  # a write may take less than all of it, for instance at the end of a disk's room
                    rest = rest[stream.write(rest) :]
        return {}

    def images(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Rows:
        images: NDArray[np.uint8] = np.load(self.file, mmap_mode="r", allow_pickle=False)
        return images


class Jpegs:
    """JPEG files one after another, in the order in which they came."""

    takes_jpeg = True

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]) -> None:
        self.file = folder / "images.bin"
        self._shape = shape

    def kept(self, records: list[Record]) -> list[Record]:
        length = self.file.stat().st_size if self.file.is_file() else 0
        return [record for record in records if _end(record) <= length]

    def begin(self, records: list[Record]) -> None:
        self.file.touch()
        paths.sync_folder(self.file.parent)
        os.truncate(self.file, max(map(_end, records), default=0))  # what no record speaks of

    def put(self, rows: list[int], pixels: NDArray[np.uint8], jpegs: list[bytes]) -> dict[str, Any]:
        return {"at": self._append(b"".join(jpegs)), "lengths": [len(jpeg) for jpeg in jpegs]}

    def _append(self, content: bytes) -> int:
        """Append in one piece, beside other processes that do the same; where it has come to lie."""
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            while True:
                try:
                    written = os.write(descriptor, content)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, str(self.file)) from None
                if written == len(content):
                    return os.lseek(descriptor, 0, os.SEEK_CUR) - written
                # Less than all, at the end of a disk's room: again, which says so, or finds room made meanwhile.
        finally:
            os.close(descriptor)

    def images(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Rows:
        return EncodedImages(self.file, starts, lengths, self._shape[1:])


def _end(record: Record) -> int:
    return int(record["at"]) + sum(record["lengths"])
