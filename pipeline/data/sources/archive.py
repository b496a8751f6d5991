"""An archive of images in class folders, read without unpacking it to disk: .zip, .tar, .tar.gz, .tar.xz, .tar.zst.

A table in an archive is `data.source: table`.
"""

from functools import cached_property
from pathlib import Path

from pipeline import paths
from pipeline.data.raw.archive import Archive
from pipeline.data.raw.base import Scan
from pipeline.data.raw.files import ImageFiles
from pipeline.data.raw.layout import scan_folders
from pipeline.data.text import shown


class Images(ImageFiles):
    """Image files in an archive."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise ValueError("an archive source needs its path")
        self._file = path
        self.place = f"data.path: {shown(str(path))}"

    def stamp(self) -> bytes:
        return self._tree.stamp()

    def scan(self) -> Scan:
        return scan_folders(self._tree)

    @cached_property
    def _tree(self) -> Archive:
        return Archive(self._file, self.place, paths.members_of_archive(self._file))
