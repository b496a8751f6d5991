"""Decoding a whole listing into one array on disk, in several processes where that pays."""

import hashlib
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import Unreadable
from pipeline.data.listing import Listing
from pipeline.data.raw.base import Source
from pipeline.data.store import rows_a_block, write_header
from pipeline.machine import usable_cores

_MOST_IMAGES_A_BLOCK = 256
_FEWEST_FOR_PROCESSES = 4_000  # files; below this, or this many bytes, one process is done before two have started
_FEWEST_BYTES_FOR_PROCESSES = 32 << 20


@dataclass(frozen=True)
class Packed:
    """All listed images (N, H, W, C; black where unreadable), and what went wrong by place in the listing."""

    images: NDArray[np.uint8]  # memory-mapped
    bad: tuple[tuple[int, str], ...]
    changed: tuple[int, ...]  # other content, or none, than when they were listed


class _Done(NamedTuple):
    """What a worker tells after each block."""

    images: int
    bad: list[tuple[int, str]]
    changed: list[int]


class _Failed(NamedTuple):
    error: Exception


def pack(listing: Listing, source: Source, file: Path, size: int, channels: int, workers: int | None = None) -> Packed:
    """Decode every listed image into `file`, an .npy array (N, size, size, channels) of uint8.

    workers: processes; None: as many as there are cores to use, one for a small set. The result is the same.
    Memory stays bounded: a block of images a process. Raises OSError when `file` cannot be written.
    """
    from tqdm import tqdm

    count = len(listing.items)
    with file.open("wb") as stream:
        write_header(stream, (count, size, size, channels))
        work = _Work(listing, source, file, stream.tell(), size, channels)
    blocks = work.blocks()
    if workers is None:
        large = count >= _FEWEST_FOR_PROCESSES or sum(i.size for i in listing.items) >= _FEWEST_BYTES_FOR_PROCESSES
        workers = min(usable_cores(), 32, len(blocks)) if large else 1
    reports = map(work.do, blocks) if workers <= 1 else _in_processes(work, blocks, workers)
    bad: list[tuple[int, str]] = []
    changed: list[int] = []
    with tqdm(total=count, desc="prepare: decoding", unit=" images", file=sys.stderr, mininterval=0.2) as bar:
        for report in reports:
            bad += report.bad
            changed += report.changed
            bar.update(report.images)
    images = np.load(file, mmap_mode="r", allow_pickle=False)
    return Packed(images, tuple(sorted(bad)), tuple(sorted(changed)))


@dataclass(frozen=True)
class _Work:
    listing: Listing
    source: Source
    file: Path
    offset: int  # of the first pixel in the file
    size: int
    channels: int

    def blocks(self) -> list[range]:
        step = min(_MOST_IMAGES_A_BLOCK, rows_a_block((self.size, self.size, self.channels)))
        count = len(self.listing.items)
        return [range(start, min(start + step, count)) for start in range(0, count, step)]

    def do(self, block: range) -> _Done:
        """Decode some images and write them into their places in the file."""
        pixels = np.zeros((len(block), self.size, self.size, self.channels), dtype=np.uint8)
        bad: list[tuple[int, str]] = []
        changed: list[int] = []
        decode = self.source.decoder(self.size, self.channels)
        for place, index in enumerate(block):
            item = self.listing.items[index]
            if item.problem is not None:
                bad.append((index, item.problem))
                continue
            try:
                content = self.source.read(item.path)
            except FileNotFoundError:
                changed.append(index)
                continue
            if hashlib.sha256(content).hexdigest() != item.sha256:
                changed.append(index)
                continue
            try:
                pixels[place] = decode(content).pixels
            except Unreadable as error:
                bad.append((index, str(error)))
        with self.file.open("r+b", buffering=0) as stream:
            stream.seek(self.offset + block.start * pixels[0].nbytes)
            rest = memoryview(pixels.tobytes())
            while rest:  # a write may take less than all of it, for instance at the end of a disk's room
                rest = rest[stream.write(rest) :]
        return _Done(len(block), bad, changed)


def _in_processes(work: _Work, blocks: list[range], workers: int) -> Iterator[_Done]:
    """Blocks dealt out in turn. A worker ends by itself when nobody listens: none outlives a killed stage."""
    forks = sys.platform == "linux"
    context: Any = multiprocessing.get_context("fork" if forks else "spawn")
    processes = []
    listening: dict[Connection, multiprocessing.process.BaseProcess] = {}
    try:
        for number in range(workers):
            receiving, sending = context.Pipe(duplex=False)
            brought_along = [*listening, receiving] if forks else []
            process = context.Process(
                target=_worker, args=(work, blocks[number::workers], sending, brought_along), daemon=True
            )
            process.start()
            sending.close()
            processes.append(process)
            listening[receiving] = process
        while listening:
            for connection in wait(list(listening)):
                try:
                    message = cast(Connection, connection).recv()
                except EOFError:
                    process = listening.pop(cast(Connection, connection))
                    process.join()
                    if process.exitcode != 0:
                        raise RuntimeError(
                            f"a decoding process ended with status {process.exitcode}; -9 means that it was killed,"
                            " most often because memory ran out"
                        ) from None
                    continue
                if isinstance(message, _Failed):
                    raise message.error
                yield message
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _worker(work: _Work, blocks: list[range], sending: Connection, others: list[Connection]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the stage ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for connection in others:  # receiving ends that a fork brought along would keep a dead stage's pipes open
        connection.close()
    try:
        for block in blocks:
            sending.send(work.do(block))
    except BrokenPipeError:
        return
    except Exception as error:
        sending.send(_Failed(error))
