"""A folder of images: one sub-folder a class, or train/ [val/] test/ each with one sub-folder a class."""

import os
from functools import cached_property
from pathlib import Path

from pipeline.data.raw.base import Scan, digest_of
from pipeline.data.raw.files import ImageFiles
from pipeline.data.raw.layout import EXPECTED, scan_folders
from pipeline.data.raw.tree import Directory
from pipeline.data.text import shown
from pipeline.errors import Mistake


class Images(ImageFiles):
    """Image files below a folder."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise ValueError("a folder source needs its path")
        self._base = path
        self.place = f"data.path: {shown(str(path))}"

    def stamp(self) -> bytes:
        return digest_of(self.scan())

    def scan(self) -> Scan:
        if not os.path.lexists(self._base):
            raise Mistake(f"{self.place}: not found; set data.path in params.yaml to the folder that holds the images")
        if not self._base.is_dir():
            raise Mistake(f"{self.place}: not a folder; for an archive set data.source: archive; otherwise {EXPECTED}")
        return scan_folders(self._tree)

    @cached_property
    def _tree(self) -> Directory:
        return Directory(self._base, self.place)
