"""Decoding a whole listing once, in several processes where that pays, so that a kill costs a second of it at most.

The images go into a folder of intermediate files, as pixels or as JPEG (see `intermediate`); a journal
says which are there. Whoever decodes the same listing into the same folder goes on where the journal ends.
"""

import hashlib
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks.descriptor import LENGTH, describe
from pipeline.data.images import Unreadable
from pipeline.data.listing import Listing
from pipeline.data.packing.boxes import placed
from pipeline.data.packing.intermediate import Intermediate, Jpegs, Pixels
from pipeline.data.packing.journal import Journal, Record
from pipeline.data.packing.processes import in_processes
from pipeline.data.raw.base import Source
from pipeline.data.store import Rows, rows_a_block
from pipeline.data.store.encoded import encode
from pipeline.machine import usable_cores

_MOST_IMAGES_A_BLOCK = 512
_MOST_BYTES_A_BLOCK = 8 << 20  # of contents that travel to another process
_FEWEST_FOR_PROCESSES = 4_000  # files; below this, or this many bytes, one process is done before two have started
_FEWEST_BYTES_FOR_PROCESSES = 32 << 20


@dataclass(frozen=True)
class Packed:
    """All listed images, what was learned of each by the way, and what went wrong, by place in the listing."""

    images: Rows  # N, H, W, C; what is unreadable must not be asked for
    sizes: NDArray[np.int32]  # N, 2: height and width of the upright image before; 0 where unreadable
    boxes: NDArray[np.float32] | None  # N, 4: in pixels of the stored image; None where the listing has none
    descriptors: NDArray[np.uint8]  # N, LENGTH: of each, see checks.descriptor; 0 where unreadable
    bad: tuple[tuple[int, str], ...]
    changed: tuple[int, ...]  # other content, or none, than when they were listed


class Order(NamedTuple):
    """Some images to decode."""

    rows: list[int]  # places in the listing
    contents: list[bytes] | None = None  # None: whoever decodes reads them as well


class Done(NamedTuple):
    """What is told after each order."""

    images: int  # how many it was
    record: dict[str, Any]  # what the journal keeps
    changed: list[int]


def pack(
    listing: Listing,
    source: Source,
    folder: Path,
    size: int,
    channels: int,
    *,
    encoded: bool = False,
    workers: int | None = None,
) -> Packed:
    """Decode every listed image into files in `folder`, which may hold what an earlier, killed call has done.

    encoded: keep JPEG, not pixels. workers: processes; None: as many as there are cores to use, one for a small set.
    The result is the same, and memory stays bounded: a block of images a process.
    Raises OSError when a file cannot be written.
    """
    from tqdm import tqdm

    count = len(listing.items)
    folder.mkdir(parents=True, exist_ok=True)
    kind: type[Intermediate] = Jpegs if encoded else Pixels
    files = kind(folder, (count, size, size, channels))
    contents = "\n".join(item.sha256 or "" for item in listing.items)
    about = {
        "images": count,
        "contents": hashlib.sha256(contents.encode()).hexdigest(),
        "size": size,
        "channels": channels,
        "encoded": encoded,
    }
    work = _Work(listing, source, files, size, channels)
    gathered = _Gathered(listing)
    with Journal(folder / "journal", files.file, about) as journal:
        records = files.kept(journal.records)
        journal.begin(records)  # first: a record of what the file has lost would be believed
        files.begin(records)
        for record in records:
            gathered.add(record)
        del records
        todo = gathered.todo()
        if workers is None:
            large = count >= _FEWEST_FOR_PROCESSES or sum(i.size for i in listing.items) >= _FEWEST_BYTES_FOR_PROCESSES
            workers = min(usable_cores(), 32) if large else 1
        orders = work.orders(todo, workers)
        reports = in_processes(work.do, orders, workers) if workers > 1 and todo else map(work.do, orders)
        with tqdm(
            total=count, initial=count - len(todo), desc="prepare: decoding", unit=" images", file=sys.stderr,
            mininterval=0.2,
        ) as bar:  # fmt: skip
            for report in reports:
                gathered.changed += report.changed
                if report.record["rows"]:
                    gathered.add(report.record)
                    journal.add(report.record)
                bar.update(report.images)
    return gathered.packed(files, size)


@dataclass(frozen=True)
class _Work:
    listing: Listing
    source: Source
    files: Intermediate
    size: int
    channels: int

    def orders(self, todo: list[int], workers: int) -> Iterator[Order]:
        """What is to be done, block by block; a sequential source is read here, in its own order."""
        step = min(_MOST_IMAGES_A_BLOCK, rows_a_block((self.size, self.size, self.channels)))
        if self.source.sequential:
            yield from self._arriving(todo, step)
            return
        step = max(1, min(step, -(-len(todo) // (8 * workers))))  # so that all end at about the same time
        for start in range(0, len(todo), step):
            yield Order(todo[start : start + step])

    def _arriving(self, todo: list[int], step: int) -> Iterator[Order]:
        """All of a source that gives its images in its own order alone, such as a compressed tar: one pass over it."""
        waiting = {self.listing.items[row].path: row for row in todo}
        rows: list[int] = []
        contents: list[bytes] = []
        arrived = 0  # bytes
        with suppress(FileNotFoundError):  # what is still waiting then is not there any more
            for path, content in self.source.contents(list(waiting)):
                rows.append(waiting.pop(path))
                contents.append(content)
                arrived += len(content)
                if len(rows) >= step or arrived >= _MOST_BYTES_A_BLOCK:
                    yield Order(rows, contents)
                    rows, contents, arrived = [], [], 0
        if rows:
            yield Order(rows, contents)
        gone = sorted(waiting.values())
        for start in range(0, len(gone), step):  # an empty content is not what was listed, or was unreadable then too
            part = gone[start : start + step]
            yield Order(part, [b""] * len(part))

    def do(self, order: Order) -> Done:
        """Decode some images and bring them into the intermediate files."""
        shape = (self.size, self.size, self.channels)
        pixels = np.zeros((len(order.rows), *shape), dtype=np.uint8)
        parts: list[bytes] = [b""] * len(order.rows)
        sizes = np.zeros((len(order.rows), 2), dtype=np.int32)
        bad: list[tuple[int, str]] = []
        changed: list[int] = []
        decode = self.source.decoder(self.size, self.channels)
        for place, row in enumerate(order.rows):
            item = self.listing.items[row]
            try:
                content = self.source.read(item.path) if order.contents is None else order.contents[place]
            except FileNotFoundError:
                changed.append(row)
                continue
            if hashlib.sha256(content).hexdigest() != item.sha256:
                changed.append(row)
                continue
            try:
                decoded = decode(content)
            except Unreadable as error:
                bad.append((row, str(error)))
                continue
            pixels[place] = decoded.pixels
            sizes[place] = decoded.height, decoded.width
            if self.files.takes_jpeg:
                as_it_is = decoded.is_plain_jpeg and len(content) <= pixels[place].nbytes
                parts[place] = content if as_it_is else encode(pixels[place])
        gone = set(changed)
        kept = np.array([place for place, row in enumerate(order.rows) if row not in gone], dtype=np.int64)
        rows = [order.rows[place] for place in kept.tolist()]
        record: dict[str, Any] = {"rows": rows, "sizes": sizes[kept].tolist(), "bad": bad}
        if rows:
            pixels = pixels[kept] if changed else pixels
            record |= self.files.put(rows, pixels, [parts[place] for place in kept.tolist()])
            record["descriptors"] = b64encode(describe(pixels).tobytes()).decode("ascii")
        return Done(len(order.rows), record, changed)


@dataclass
class _Gathered:
    """What all orders together told."""

    listing: Listing
    changed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.listing.items)
        self._bad = {row: item.problem for row, item in enumerate(self.listing.items) if item.problem is not None}
        self._done = np.zeros(count, dtype=bool)
        self._done[list(self._bad)] = True
        self._sizes = np.zeros((count, 2), dtype=np.int32)
        self._starts, self._lengths = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        self._descriptors = np.zeros((count, LENGTH), dtype=np.uint8)

    def todo(self) -> list[int]:
        rows: list[int] = np.flatnonzero(~self._done).tolist()
        return rows

    def add(self, record: Record) -> None:
        rows = record["rows"]
        self._done[rows] = True
        self._sizes[rows] = record["sizes"]
        self._bad |= dict(record["bad"])
        if "lengths" in record:
            lengths = np.array(record["lengths"], dtype=np.int64)
            self._lengths[rows] = lengths
            self._starts[rows] = record["at"] + np.cumsum(lengths) - lengths
        told = np.frombuffer(b64decode(record["descriptors"]), dtype=np.uint8)
        self._descriptors[rows] = told.reshape(len(rows), LENGTH)

    def packed(self, files: Intermediate, size: int) -> Packed:
        items = self.listing.items
        boxes, bad = None, dict(self._bad)
        if any(item.box is not None for item in items):
            boxes, problems = placed([item.box for item in items], self._sizes, size)
            bad = problems | bad
        return Packed(
            images=files.images(self._starts, self._lengths),
            sizes=self._sizes,
            boxes=boxes,
            descriptors=self._descriptors,
            bad=tuple(sorted(bad.items())),
            changed=tuple(sorted(self.changed)),
        )
