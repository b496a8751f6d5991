"""The 1,797 handwritten digits of 8x8 pixels that scikit-learn carries (Alpaydin & Kaynak 1998, UCI test set)."""

import gzip
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from pipeline.data.raw.base import Decoded, Found, Scan, Stamp

_SIDE = 8
_LEVELS = 16  # pixels are 0..16


class Images:
    """Names are `digits/0007`, contents the 64 pixels as bytes."""

    place = "the embedded digits"
    sequential = False

    def __init__(self, path: Path | None = None) -> None:
        if path is not None:
            raise ValueError("the digits come with scikit-learn; they have no path")
        spec = find_spec("sklearn")  # located without the import, which costs 1.3 s
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError("scikit-learn is not installed", name="sklearn")
        self._file = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"

    def stamp(self) -> bytes:
        return repr(self._stamp()).encode()

    def scan(self) -> Scan:
        stamp = self._stamp()
        labels = (line.rpartition(",")[2] for line in self._lines)
        found = tuple(Found(f"digits/{index:04d}", stamp, label, None) for index, label in enumerate(labels))
        return Scan(classes=tuple("0123456789"), found=found, ignored=())

    def read(self, path: str) -> bytes:
        # v * 255 / 16 rounded to the nearest, in whole numbers; the one half (v = 8) goes up
        return bytes((value * 510 + _LEVELS) // (2 * _LEVELS) for value in self._pixels(int(path[-4:])))

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        return ((path, self.read(path)) for path in paths)

    def decoder(self, size: int, channels: int) -> Callable[[bytes], Decoded]:
        import numpy as np

        from pipeline.data.images import fitted

        def decode(content: bytes) -> Decoded:
            pixels = np.frombuffer(content, dtype=np.uint8).reshape(_SIDE, _SIDE, 1)
            return Decoded(fitted(pixels, size, channels), _SIDE, _SIDE)

        return decode

    def _stamp(self) -> Stamp:
        status = self._file.stat()
        return Stamp(_SIDE * _SIDE, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def _pixels(self, index: int) -> list[int]:
        return [int(value) for value in self._lines[index].split(",")[:-1]]

    @cached_property
    def _lines(self) -> list[str]:
        """64 pixels and the class, a line an image. A scan parses the classes alone."""
        return gzip.decompress(self._file.read_bytes()).decode("ascii").split()
