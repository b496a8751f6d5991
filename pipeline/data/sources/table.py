"""A table of images: paths and labels, or paths and numbers to predict, or paths, labels and boxes.

The table (CSV, TSV, Parquet) lies in the folder or archive that holds the images, or `data.path` is the table itself.
"""

import difflib
import posixpath
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from pipeline import paths
from pipeline.data.raw import cells
from pipeline.data.raw.archive import Archive, is_archive
from pipeline.data.raw.base import Found, Scan, digest_of
from pipeline.data.raw.files import ImageFiles
from pipeline.data.raw.table import SUFFIXES, Rows, read_columns, refuse
from pipeline.data.raw.tree import Directory
from pipeline.data.text import names_in, shown
from pipeline.errors import Mistake


class Images(ImageFiles):
    """Image files that a table names. The settings are those of params.yaml (pipeline/params/sources.py)."""

    def __init__(
        self,
        path: Path | None,
        *,
        image: str,
        label: str | None,
        file: str | None = None,
        folder: str | None = None,
        targets: str | None = None,
        box: str | None = None,
        group: str | None = None,
        split: str | None = None,
    ) -> None:
        if path is None:
            raise ValueError("a table source needs its path")
        self.place = f"data.path: {shown(str(path))}"
        self._path = path
        self._file = file
        self._folder = folder
        self._image = image
        self._label = label
        self._targets = names_in(targets)
        self._box = names_in(box)
        self._group = group
        self._split = split

    def stamp(self) -> bytes:
        return self._tree.stamp() if isinstance(self._tree, Archive) else digest_of(self.scan())

    def scan(self) -> Scan:
        file, around = self._table()
        base = posixpath.dirname(file) if self._folder is None else posixpath.join(around, self._folder)
        place = self.place if self._file is None else f"{self.place}: {shown(file)}"
        rows = read_columns(self._tree.read(file), place, self._wanted())
        names = cells.paths_of(rows, self._image, base)
        nothing: list[None] = [None] * len(rows)
        labels = cells.labels_of(rows, self._label) if self._label is not None else nothing
        targets = cells.numbers_of(rows, self._targets) if self._targets else nothing
        boxes = cells.boxes_of(rows, self._box) if self._box else nothing
        groups = cells.groups_of(rows, self._group) if self._group is not None else nothing
        splits = cells.splits_of(rows, self._split) if self._split is not None else nothing
        known = [label for label in labels if label is not None]
        if known:
            cells.check_classes(rows, known, splits)
        files = self._tree.look(names)
        self._refuse_missing(rows, [index for index, name in enumerate(names) if name not in files], base)
        found = [
            Found(name, files[name].stamp, label, split, files[name].problem, group, target, box)
            for name, label, split, group, target, box in zip(
                names, labels, splits, groups, targets, boxes, strict=True
            )
        ]
        found.sort(key=lambda item: item.path)
        classes = tuple(sorted(set(known)))
        return Scan(classes, tuple(found), (), tuple(self._targets), self._tree.hashes)

    # --- where table and images are -----------------------------------------------------------------------------------

    @cached_property
    def _tree(self) -> Directory | Archive:
        if self._path.is_dir():
            return Directory(self._path, self.place)
        if not self._path.is_file():
            raise Mistake(f"{self.place}: not found; set data.path in params.yaml to the table, or to what it lies in")
        if is_archive(self._path):
            return Archive(self._path, self.place, paths.members_of_archive(self._path))
        return Directory(
            self._path.resolve().parent, self.place
        )  # images lie beside the table, not beside a link to it

    def _table(self) -> tuple[str, str]:
        """The table's path in the tree, and the folder that data.table.file and .folder begin at."""
        itself = isinstance(self._tree, Directory) and not self._path.is_dir()
        if itself:
            if self._file is not None:
                raise Mistake(f"data.table.file: {shown(self._file)}, but data.path is a file itself; set this to null")
            return self._path.resolve().name, ""
        if self._file is None:
            raise Mistake(f"data.table.file: null, but data.path is no table; name the table in it{self._known()}")
        # as tar and zip make them of a folder: everything in one folder of its name
        for around in ("", self._tree.top) if isinstance(self._tree, Archive) else ("",):
            file = posixpath.normpath(posixpath.join(around, self._file))
            if not file.startswith(("/", "../")) and self._tree.look([file]):
                return file, around
        raise Mistake(f"data.table.file: {shown(self._file)}: not in data.path{self._known()}")

    def _known(self) -> str:
        """The end of a message: the tables that are there."""
        walk = self._tree.walk()
        tables = [f.path for files in walk.folders.values() for f in files if f.path.lower().endswith(SUFFIXES)]
        near = difflib.get_close_matches(self._file or "", tables, n=3, cutoff=0.6) or sorted(tables)[:3]
        return f"; there is {shown(', '.join(near))}" if near else f"; no {', '.join(SUFFIXES)} is there"

    def _wanted(self) -> dict[str, str]:
        """Column -> the key that names it."""
        keys = {"image": self._image, "label": self._label, "group": self._group, "split": self._split}
        wanted = {column: f"data.table.{key}" for key, column in keys.items() if column is not None}
        wanted |= dict.fromkeys(self._targets, "data.table.targets")
        return wanted | dict.fromkeys(self._box, "data.table.box")

    def _refuse_missing(self, rows: Rows, missing: Sequence[int], base: str) -> None:
        if missing:
            where = f"{base}/ in data.path" if base else "data.path"
            written = rows.columns[self._image]
            named = [f"{rows.at(index)}: {shown(str(written[index]))}: no such file" for index in missing]
            refuse(named, f"{len(missing)} of {len(rows)} are not in {where}; data.table.folder says where they are")
