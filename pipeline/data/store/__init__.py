"""Images on disk, ready to be learned from: pixels that are read through a memory map, or JPEG where those would take
too much room; their labels, targets and boxes; and an index of where from.

A split is a folder with images.npy (N, H, W, C uint8), or images.bin and offsets.npy (see `encoded`); labels.npy (N
int64; 0 for all in a set without classes); where the source has them, targets.npy (N, T float64) and boxes.npy (N, 4
float32); and index.parquet (path, label, sha256: one row an image, in the same order). Nothing that is read here can
run code.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store.ahead import reading_ahead
from pipeline.data.store.arrays import Rows, damaged, load_array, missing, rows_a_block, write_pixels
from pipeline.data.store.encoded import BYTES, EncodedImages, open_encoded, write_encoded

__all__ = [
    "CLASSES",
    "TARGETS",
    "Rows",
    "Split",
    "open_split",
    "read_classes",
    "read_targets",
    "reading_ahead",
    "rows_a_block",
    "write_split",
]

IMAGES = "images.npy"
LABELS = "labels.npy"
TARGETS = "targets"  # .npy in each split: the numbers; .json beside the classes: their names
BOXES = "boxes.npy"
INDEX = "index.parquet"
CLASSES = "classes.json"


@dataclass(frozen=True)
class Split:
    """The images of one split, in the order of its index."""

    images: Rows  # N, H, W, C uint8; read-only
    labels: NDArray[np.int64]  # N
    folder: Path
    targets: NDArray[np.float64] | None = None  # N, T: numbers to predict
    boxes: NDArray[np.float32] | None = None  # N, 4: left, top, right, bottom in pixels of the stored image

    def __len__(self) -> int:
        return len(self.labels)

    def paths(self) -> list[str]:
        """Where each image came from, in order: relative to the source, as printable text."""
        import pyarrow.parquet as pq

        names: list[str] = pq.read_table(self.folder / INDEX, columns=["path"]).column("path").to_pylist()
        return names


def open_split(folder: Path) -> Split:
    """Open what `write_split` wrote. Raises Mistake, naming the file and the remedy, when it is missing or damaged."""
    encoded = (folder / BYTES).exists()
    images: Rows = open_encoded(folder) if encoded else _open_pixels(folder / IMAGES)
    count = images.shape[0]
    labels = _column(folder / LABELS, np.int64, (count,))
    if labels is None:
        raise missing(folder / LABELS)
    return Split(
        images=images,
        labels=labels,
        folder=folder,
        targets=_column(folder / f"{TARGETS}.npy", np.float64, (count, None)),
        boxes=_column(folder / BOXES, np.float32, (count, 4)),
    )


def _open_pixels(file: Path) -> NDArray[np.uint8]:
    images = load_array(file, mapped=True)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise damaged(file, f"{images.dtype} {images.shape}, not images")
    return images


def _column(file: Path, kind: type[np.generic], shape: tuple[int | None, ...]) -> NDArray[Any] | None:
    """What a split has beside its images; None where it has no such file. Of shape None: any."""
    if not file.exists():
        return None
    values = load_array(file)
    fits = len(values.shape) == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, values.shape, strict=True)
    )
    if values.dtype != kind or not fits:
        raise damaged(file, f"{values.dtype} {values.shape} does not belong to {shape[0]} images")
    return values


def read_classes(prepared: Path) -> tuple[str, ...]:
    """The names of the classes: label i is the i-th. Raises Mistake when they are not there."""
    names = _names(prepared / CLASSES)
    if names is None:
        raise missing(prepared / CLASSES)
    return names


def read_targets(prepared: Path) -> tuple[str, ...]:
    """The names of the targets' numbers, in order; none in a set with classes."""
    return _names(prepared / f"{TARGETS}.json") or ()


def _names(file: Path) -> tuple[str, ...] | None:
    try:
        return tuple(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise damaged(file, str(error)) from None


def write_split(
    folder: Path,
    images: Rows,
    labels: NDArray[np.int64],
    paths: Sequence[str],
    classes: Sequence[str],
    sha256: Sequence[str],
    rows: NDArray[np.int64] | None = None,
    *,
    targets: NDArray[np.float64] | None = None,
    boxes: NDArray[np.float32] | None = None,
) -> None:
    """Write a split into `folder`: of `images` (N, H, W, C) only `rows`, in their order, if given.

    Encoded images stay encoded. labels, paths (printable text), sha256, targets (T numbers each) and boxes (4 each)
    have one entry a written row; classes names the labels, and is empty where there are targets alone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.arange(images.shape[0]) if rows is None else rows
    if not len(rows) == len(labels) == len(paths) == len(sha256):
        raise ValueError(f"{len(rows)} images, {len(labels)} labels, {len(paths)} paths, {len(sha256)} hashes")
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(images, EncodedImages):
        write_encoded(folder, images, rows)
    else:
        write_pixels(folder / IMAGES, images, rows)
    columns = {
        LABELS: np.asarray(labels, dtype=np.int64),
        f"{TARGETS}.npy": None if targets is None else np.asarray(targets, dtype=np.float64),
        BOXES: None if boxes is None else np.asarray(boxes, dtype=np.float32),
    }
    for name, values in columns.items():
        if values is not None:
            if len(values) != len(rows):
                raise ValueError(f"{name}: {len(values)} entries for {len(rows)} images")
            np.save(folder / name, np.ascontiguousarray(values), allow_pickle=False)
    table = pa.table(
        {
            "path": pa.array(paths, pa.string()),
            "label": pa.array([classes[label] if classes else None for label in labels.tolist()], pa.string()),
            "sha256": pa.array(sha256, pa.string()),
        }
    )
    pq.write_table(table, folder / INDEX)
