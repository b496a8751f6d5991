"""Images as pixels in one .npy file, which is read through a memory map."""

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Mistake

_BLOCK_BYTES = 16 << 20  # how much is copied at a time: memory stays bounded whatever the size of a set


class Rows(Protocol):
    """Images that are read some rows at a time: an array, a memory map, or what decodes or computes them."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # N, H, W, C

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """One image (H, W, C) by its number; several (B, H, W, C) by a slice or an array of numbers."""
        ...


def rows_a_block(shape: tuple[int, ...]) -> int:
    """How many images of `shape` (H, W, C) go into one block of work."""
    return max(1, _BLOCK_BYTES // max(1, int(np.prod(shape))))


def header(shape: tuple[int, ...]) -> bytes:
    """The beginning of an .npy file of uint8 in C order."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_2_0(
        stream, {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def write_header(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    """Begin an .npy file of uint8; the pixels follow, written by whoever has them.

    The file has its whole length at once, and its room is taken, where the system can: a full disk then is an error
    here, not a SIGBUS when a memory map is touched, nor hours later. Raises OSError (ENOSPC) naming the file.
    """
    stream.write(header(shape))
    stream.flush()
    size = int(np.prod(shape, dtype=np.int64))
    os.truncate(stream.fileno(), stream.tell() + size)
    if hasattr(os, "posix_fallocate") and size:
        try:
            os.posix_fallocate(stream.fileno(), stream.tell(), size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, stream.name) from None


def write_pixels(file: Path, images: Rows, rows: NDArray[np.int64]) -> None:
    """Write the chosen images into an .npy file, in this order, block by block."""
    shape = images.shape[1:]
    step = rows_a_block(shape)
    with file.open("wb") as stream:
        write_header(stream, (len(rows), *shape))
        for start in range(0, len(rows), step):
            stream.write(np.ascontiguousarray(images[rows[start : start + step]]).tobytes())


def load_array(file: Path, *, mapped: bool = False) -> NDArray[Any]:
    """An .npy file of a split, read or mapped into memory (read-only).

    Raises Mistake, naming the file and the remedy, when it is missing, damaged, or would run code. No more memory is
    taken than the file is long, whatever its header says.
    """
    try:
        # through a map in any case: its length is checked against the file's before memory is taken
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise missing(file) from None
    except OSError:
        raise
    except Exception as error:  # a damaged header raises anything: ValueError, SyntaxError, TypeError, OverflowError...
        raise damaged(file, " ".join(str(error).split())) from None
    return array if mapped else np.array(array)


def missing(file: Path) -> Mistake:
    """What to say of a file of a split that is not there."""
    return Mistake(f"{file}: not found; `dvc repro prepare` makes it, `dvc checkout` restores it")


def damaged(file: Path, why: str) -> Mistake:
    """What to say of a file of a split that is not what was written."""
    return Mistake(f"{file}: damaged ({why}); delete {file.parent}, then `dvc checkout` or `dvc repro`")
