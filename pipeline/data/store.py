"""Packed images on disk: uint8 arrays that are read through a memory map, their labels, and an index of where from.

A split is a folder with images.npy (N, H, W, C uint8), labels.npy (N int64) and index.parquet (path, label, sha256:
one row an image, in the same order). Nothing that is read here can run code.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Mistake
from pipeline.paths import PARAMS

IMAGES = "images.npy"
LABELS = "labels.npy"
INDEX = "index.parquet"
CLASSES = "classes.json"
_BLOCK_BYTES = 16 << 20  # how much is copied at a time: memory stays bounded whatever the size of a set


@dataclass(frozen=True)
class Split:
    """The images of one split, in the order of its index."""

    images: NDArray[np.uint8]  # N, H, W, C; memory-mapped, read-only
    labels: NDArray[np.int64]  # N
    folder: Path

    def __len__(self) -> int:
        return len(self.labels)

    def paths(self) -> list[str]:
        """Where each image came from, in order: relative to the source, as printable text."""
        import pyarrow.parquet as pq

        names: list[str] = pq.read_table(self.folder / INDEX, columns=["path"]).column("path").to_pylist()
        return names


def open_split(folder: Path) -> Split:
    """Open what `write_split` wrote. Raises Mistake, naming the file and the remedy, when it is missing or damaged."""
    loaded: list[NDArray[Any]] = []
    for name in (IMAGES, LABELS):
        file = folder / name
        try:
            loaded.append(np.load(file, mmap_mode="r" if name == IMAGES else None, allow_pickle=False))
        except FileNotFoundError:
            raise Mistake(f"{file}: not found; `dvc repro prepare` makes it, `dvc checkout` restores it") from None
        except (ValueError, EOFError) as error:
            raise Mistake(f"{file}: damaged ({error}); delete {folder}, then `dvc checkout` or `dvc repro`") from None
    images, labels = loaded
    types = images.dtype == np.uint8 and labels.dtype == np.int64
    if not types or images.ndim != 4 or labels.shape != images.shape[:1]:
        raise Mistake(
            f"{folder}: images {images.shape} {images.dtype} and labels {labels.shape} {labels.dtype} do not belong"
            " together; delete the folder, then `dvc checkout` or `dvc repro`"
        )
    return Split(images=images, labels=labels, folder=folder)


def read_classes(prepared: Path) -> tuple[str, ...]:
    """The names of the classes: label i is the i-th. Raises Mistake when they are not there."""
    file = prepared / CLASSES
    try:
        return tuple(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise Mistake(f"{file}: not found; `dvc repro prepare` makes it, `dvc checkout` restores it") from None
    except ValueError:
        raise Mistake(f"{file}: damaged; delete {prepared}, then `dvc checkout` or `dvc repro`") from None


def require_classes(classes: Sequence[str]) -> None:
    """Raise Mistake where a set has targets, which are numbers, and no classes."""
    if not classes:
        raise Mistake(
            f"{PARAMS}: data.source: its images have targets, which are numbers, and no classes, and no model here"
            " learns numbers; choose a source with classes, or name a table's column of classes (data.table.label)"
        )


def write_split(
    folder: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    paths: Sequence[str],
    classes: Sequence[str],
    sha256: Sequence[str],
    rows: NDArray[np.int64] | None = None,
) -> None:
    """Write a split into `folder`: of `images` (N, H, W, C; may be a memory map) only `rows`, in their order, if given.

    labels, paths (printable text) and sha256 have one entry a written row; classes names the labels.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.arange(len(images)) if rows is None else rows
    if not len(rows) == len(labels) == len(paths) == len(sha256):
        raise ValueError(f"{len(rows)} images, {len(labels)} labels, {len(paths)} paths, {len(sha256)} hashes")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / IMAGES).open("wb") as stream:
        write_header(stream, (len(rows), *images.shape[1:]))
        step = rows_a_block(images.shape[1:])
        for start in range(0, len(rows), step):
            stream.write(np.ascontiguousarray(images[rows[start : start + step]]).tobytes())
    np.save(folder / LABELS, np.ascontiguousarray(labels, dtype=np.int64), allow_pickle=False)
    table = pa.table(
        {
            "path": pa.array(paths, pa.string()),
            "label": pa.array([classes[label] for label in labels.tolist()], pa.string()),
            "sha256": pa.array(sha256, pa.string()),
        }
    )
    pq.write_table(table, folder / INDEX)


def write_header(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    """The beginning of an .npy file of uint8 in C order; the pixels follow, written by whoever has them.

    The file's room is taken first, where the system can: a full disk then is an error here, not a SIGBUS when a memory
    map is touched, nor hours later. Raises OSError (ENOSPC) naming the file.
    """
    np.lib.format.write_array_header_2_0(
        stream, {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    )
    stream.flush()
    if hasattr(os, "posix_fallocate") and (size := int(np.prod(shape, dtype=np.int64))):
        try:
            os.posix_fallocate(stream.fileno(), stream.tell(), size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, stream.name) from None


def rows_a_block(shape: tuple[int, ...]) -> int:
    """How many images of `shape` (H, W, C) go into one block of work."""
    return max(1, _BLOCK_BYTES // max(1, int(np.prod(shape))))
