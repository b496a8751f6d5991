"""An archive of images in class folders, read without unpacking it to disk: .zip, .tar, .tar.gz, .tar.xz, .tar.zst.

A table in an archive is `data.source: table`.
"""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import paths
from pipeline.data.raw.archive import Archive
from pipeline.data.raw.base import Scan
from pipeline.data.raw.layout import scan_folders
from pipeline.data.text import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Images:
    """Image files in an archive."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise ValueError("an archive source needs its path")
        self.place = f"data.path: {shown(str(path))}"
        self._tree = Archive(path, self.place, paths.source_memory())

    @property
    def sequential(self) -> bool:
        return self._tree.sequential

    def stamp(self) -> bytes:
        return self._tree.stamp()

    def scan(self) -> Scan:
        return scan_folders(self._tree)

    def read(self, path: str) -> bytes:
        return self._tree.read(path)

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        return self._tree.contents(paths)

    def decoder(self, size: int, channels: int) -> "Callable[[bytes], NDArray[np.uint8]]":
        from pipeline.data.images import decode

        return lambda content: decode(content, size, channels)
