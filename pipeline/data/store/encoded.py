"""Images kept as JPEG: for sets that would take too much room as pixels.

`images.bin` has the images one after another, each a JPEG of the set's size; image i lies from offsets[i] to
offsets[i + 1] in `offsets.npy` (N + 1 int64). Decoding goes to threads, which libjpeg-turbo lets run side by side. The
index is not trusted: what it says must fit the file, and every image must be of the size of the first.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store.arrays import damaged, load_array, missing
from pipeline.errors import Mistake
from pipeline.machine import usable_cores

BYTES = "images.bin"
OFFSETS = "offsets.npy"
_QUALITY = 95
_MOST_THREADS = 16
_MOST_PIXELS_A_SIDE = 4096  # the largest data.image_size
_FEWEST_FOR_THREADS = 8  # images; fewer are decoded before a thread has started


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W, 1 or 3) as JPEG of quality 95 with whole chroma (4:4:4): equal pixels give equal bytes."""
    import simplejpeg

    grey = pixels.shape[2] == 1
    content: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels),
        quality=_QUALITY,
        colorspace="GRAY" if grey else "RGB",
        colorsubsampling="Gray" if grey else "444",
        fastdct=False,
    )
    return content


class EncodedImages:
    """Images (N, H, W, C) that lie as JPEG in a file, decoded when they are asked for. Holds no file and no thread."""

    def __init__(
        self, file: Path, starts: NDArray[np.int64], lengths: NDArray[np.int64], size: tuple[int, int, int]
    ) -> None:
        """starts, lengths: where each image lies in `file`, in bytes. size: height, width, channels of each."""
        self.file = file
        self._starts, self._lengths = starts, lengths
        self.shape = (len(starts), *size)

    def numbers(self, rows: Any) -> NDArray[np.int64]:
        """The images that an index means: () for one, (B,) for several. Raises IndexError as an array does."""
        chosen: NDArray[np.int64] = np.arange(self.shape[0])[rows]
        return chosen

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """As an array gives them, but always a copy. Raises Mistake, naming the file and the remedy, for damage."""
        chosen = self.numbers(rows)
        with self.file.open("rb", buffering=0) as stream:
            if chosen.ndim == 0:
                return self._decoded(stream, chosen[None]).squeeze(0)
            if len(chosen) < _FEWEST_FOR_THREADS:
                return self._decoded(stream, chosen)
            with decoding_threads() as pool:
                return self.begin(stream, chosen, pool).result()

    def begin(self, stream: IO[bytes], rows: NDArray[np.int64], pool: ThreadPoolExecutor) -> "Begun":
        """Have the images `rows` decoded by the threads of `pool`. stream: of `file`, open until they are there."""
        pixels = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        step = max(1, -(-len(rows) // (4 * _threads())))
        parts = [
            pool.submit(self._decode_into, pixels[start : start + step], stream, rows[start : start + step])
            for start in range(0, len(rows), step)
        ]
        return Begun(rows, pixels, parts)

    def content(self, stream: IO[bytes], row: int) -> bytes:
        """The JPEG file of one image. stream: of `file`. Raises Mistake where the file has ended before."""
        length = int(self._lengths[row])
        content = os.pread(stream.fileno(), length, int(self._starts[row]))
        if len(content) < length:
            raise self._damaged(row, "the file ends before it does")
        return content

    def _decoded(self, stream: IO[bytes], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        pixels = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        self._decode_into(pixels, stream, rows)
        return pixels

    def _decode_into(self, pixels: NDArray[np.uint8], stream: IO[bytes], rows: NDArray[np.int64]) -> None:
        """Decode the images `rows` into `pixels` (B, H, W, C)."""
        import simplejpeg

        colours = "GRAY" if self.shape[3] == 1 else "RGB"
        for place, row in enumerate(rows.tolist()):
            content = self.content(stream, row)
            try:
                height, width, _, _ = simplejpeg.decode_jpeg_header(content)  # before memory is taken for it
                if (height, width) != self.shape[1:3]:
                    raise ValueError(f"{height} x {width} pixels, not {self.shape[1]} x {self.shape[2]}")
                simplejpeg.decode_jpeg(
                    content, colours, fastdct=False, fastupsample=False, strict=True, buffer=pixels[place]
                )
            except ValueError as error:
                raise self._damaged(row, str(error)) from None

    def _damaged(self, row: int, why: str) -> Mistake:
        return damaged(self.file, f"image {row}: {why}")


class Begun(NamedTuple):
    """Images that are being decoded."""

    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    parts: "list[Future[None]]"

    def result(self) -> NDArray[np.uint8]:
        """Wait for them: (B, H, W, C)."""
        for part in self.parts:
            part.result()
        return self.pixels


def decoding_threads() -> ThreadPoolExecutor:
    """As many as this machine has use for."""
    return ThreadPoolExecutor(_threads(), thread_name_prefix="decoding")


def _threads() -> int:
    return min(usable_cores(), _MOST_THREADS)


def write_encoded(folder: Path, images: EncodedImages, rows: NDArray[np.int64]) -> None:
    """Write the chosen images into `folder`, in this order, byte for byte."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    with images.file.open("rb", buffering=0) as source, (folder / BYTES).open("wb") as stream:
        for place, row in enumerate(rows.tolist()):
            content = images.content(source, row)
            stream.write(content)
            offsets[place + 1] = offsets[place] + len(content)
    np.save(folder / OFFSETS, offsets, allow_pickle=False)


def open_encoded(folder: Path) -> EncodedImages:
    """Open what `write_encoded` wrote. Raises Mistake, naming the file and the remedy, when it is missing or damaged.

    Reads the index and the first image's header; what is wrong with another image is told when it is decoded.
    """
    file, index = folder / BYTES, folder / OFFSETS
    offsets = load_array(index)
    if offsets.dtype != np.int64 or offsets.ndim != 1 or len(offsets) < 2:
        raise damaged(index, f"{offsets.dtype} {offsets.shape}, not the places of images")
    try:
        length = file.stat().st_size
    except FileNotFoundError:
        raise missing(file) from None
    # compared, not subtracted: a difference of hostile numbers may overflow
    if offsets[0] != 0 or offsets[-1] != length or (offsets[1:] <= offsets[:-1]).any():
        raise damaged(index, f"does not fit {BYTES}, which has {length} bytes")
    return EncodedImages(file, offsets[:-1], np.diff(offsets), _size_of_first(file, int(offsets[1])))


def _size_of_first(file: Path, length: int) -> tuple[int, int, int]:
    import simplejpeg

    with file.open("rb") as stream:
        content = stream.read(length)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError as error:
        raise damaged(file, f"image 0: {error}") from None
    if height != width or height > _MOST_PIXELS_A_SIDE:
        raise damaged(file, f"image 0: {height} x {width} pixels")
    return height, width, 1 if colours == "Gray" else 3
