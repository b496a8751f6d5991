"""A folder of images: one sub-folder a class, or train/ [val/] test/ each with one sub-folder a class."""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.raw.base import Scan, digest_of
from pipeline.data.raw.layout import EXPECTED, scan_folders
from pipeline.data.raw.tree import Directory
from pipeline.data.text import shown
from pipeline.errors import Mistake

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Images:
    """Image files below a folder."""

    sequential = False

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise ValueError("a folder source needs its path")
        self._base = path
        self.place = f"data.path: {shown(str(path))}"
        self._tree = Directory(path, self.place)

    def stamp(self) -> bytes:
        return digest_of(self.scan())

    def scan(self) -> Scan:
        if not os.path.lexists(self._base):
            raise Mistake(f"{self.place}: not found; set data.path in params.yaml to the folder that holds the images")
        if not self._base.is_dir():
            raise Mistake(f"{self.place}: not a folder; for an archive set data.source: archive; otherwise {EXPECTED}")
        return scan_folders(self._tree)

    def read(self, path: str) -> bytes:
        return self._tree.read(path)

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        return self._tree.contents(paths)

    def decoder(self, size: int, channels: int) -> "Callable[[bytes], NDArray[np.uint8]]":
        from pipeline.data.images import decode

        return lambda content: decode(content, size, channels)
