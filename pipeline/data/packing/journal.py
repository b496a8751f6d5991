"""Which blocks of a long work are done: an append-only file that a kill or a power cut costs at most its last second.

A record is a line of JSON after its checksum. It is written only when the bytes that it speaks of are on the disk; a
torn end is dropped.
"""

import json
import os
import threading
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline import paths

_SYNC_SECONDS = 1.0

Record = Mapping[str, Any]


class Journal:
    """The records of one work, and a thread that brings new ones to the disk, after what they speak of."""

    def __init__(self, file: Path, data: Path, about: Record) -> None:
        """data: the file whose bytes the records speak of; it must exist once `begin` is called.

        about: what all of it is a function of: records of another work are not taken up.
        """
        self._file, self._data, self._about = file, data, about
        self._waiting: list[Record] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None
        found = _read(file)
        self.records = found[1:] if found[:1] == [about] else []  # what earlier processes have done

    def begin(self, records: list[Record]) -> None:
        """Go on after `records`: those of the earlier ones that still hold. They are forgotten here."""
        self.records = []
        paths.write_atomically(self._file, *(_line(record) for record in (self._about, *records)))

    def add(self, record: Record) -> None:
        """Note a record; it is on the disk a second later. Raises OSError where an earlier one could not be written."""
        if self._error is not None:
            raise self._error
        with self._lock:
            self._waiting.append(record)
        if self._thread is None:  # where nothing is written none is needed
            self._thread = threading.Thread(target=self._keep_syncing, name="journal", daemon=True)
            self._thread.start()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        if error is None:
            if self._error is not None:
                raise self._error
            self._sync()
        else:
            with suppress(OSError):  # the error that ends the work is the one to tell
                self._sync()

    def _keep_syncing(self) -> None:
        while not self._ending.wait(_SYNC_SECONDS):
            try:
                self._sync()
            except OSError as error:
                self._error = error
                return

    def _sync(self) -> None:
        with self._lock:
            records, self._waiting = self._waiting, []
        if not records:
            return
        with self._data.open("rb") as stream:
            os.fsync(stream.fileno())
        with self._file.open("ab") as stream:
            stream.write(b"".join(map(_line, records)))
            stream.flush()
            os.fsync(stream.fileno())


def _line(record: Record) -> bytes:
    content = json.dumps(record, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _read(file: Path) -> list[Record]:
    """The records before the first that is not whole."""
    records = []
    try:
        with file.open("rb") as stream:
            for line in stream:
                if line != b"%08x %s\n" % (zlib.crc32(line[9:-1]), line[9:-1]):
                    break
                records.append(json.loads(line[9:-1]))
    except FileNotFoundError:
        pass
    return records
