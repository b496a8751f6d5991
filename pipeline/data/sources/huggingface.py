"""Image sets of Hugging Face `datasets`: a name on the hub, or a local folder. Needs the extra retrace[huggingface].

No code of a data set is ever run: `datasets` runs none, and an image is the bytes that the table holds, never a path or
an address in it.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.data.raw.base import TEST, TRAIN, VALIDATION, Decoded, Found, Scan, Stamp
from pipeline.data.raw.official import home, numbered
from pipeline.data.raw.tree import too_large
from pipeline.data.text import shown
from pipeline.errors import Mistake

if TYPE_CHECKING:
    import datasets

_ROWS = 1_000  # looked at at a time
_NAMES_A_FILE = "names a file instead of holding its bytes; save the set with its images embedded"


class Images:
    """Names are `train/00007`, contents the encoded image files.

    dataset, configuration, revision: on the hub, where there is no path. Columns and splits: the set's own names.
    """

    sequential = False

    def __init__(
        self,
        path: Path | None,
        dataset: str | None,
        configuration: str | None,
        revision: str | None,
        image_column: str,
        label_column: str,
        train_split: str,
        validation_split: str | None,
        test_split: str | None,
    ) -> None:
        self._hub = (dataset, configuration, revision)
        self._downloads = path is None
        self._base, self.place = home(path, "huggingface")
        if path is None and dataset is not None:
            name = "@".join(re.sub(r"[^\w.-]+", "--", part) for part in self._hub if part)
            self._base, self.place = self._base / name, f"data.huggingface.dataset: {shown(dataset)}"
        self._image, self._label = image_column, label_column
        named = {TRAIN: train_split, VALIDATION: validation_split, TEST: test_split}
        self._splits = {split: name for split, name in named.items() if name is not None}

    def stamp(self) -> bytes:
        return repr(self._stats()).encode("utf-8", "surrogatepass")

    def scan(self) -> Scan:
        self.__dict__.pop("_tables", None)  # they may have changed since another scan
        if self._downloads and not self._base.is_dir():
            self._download()
        labels = {split: self._labels_of(split, table) for split, table in self._tables.items()}
        classes, name_of = self._classes(labels)
        stats = self._stats()
        mtime, ctime = (max(times, default=0) for times in ([stat[2] for stat in stats], [stat[3] for stat in stats]))
        identity = int.from_bytes(hashlib.sha256(self.stamp()).digest()[:7], "big")  # of all files, as one inode
        found = []
        for split, table in self._tables.items():
            for index, (size, label) in enumerate(zip(self._sizes(table), labels[split], strict=True)):
                problem = too_large(size) if size is not None else _NAMES_A_FILE
                stamp = Stamp(size or 0, mtime, ctime, identity)
                found.append(Found(numbered(split, index), stamp, name_of[label], split, problem))
        return Scan(classes=classes, found=tuple(found), ignored=())

    def read(self, path: str) -> bytes:
        split, _, number = path.partition("/")
        table = self._tables[split]
        if int(number) >= len(table):
            raise FileNotFoundError(f"{path}: gone")
        value = table[int(number) : int(number) + 1].column(self._image)[0].as_py()
        content: bytes | None = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            raise FileNotFoundError(f"{path}: its bytes are gone")
        return content

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        return ((path, self.read(path)) for path in paths)

    def decoder(self, size: int, channels: int) -> Callable[[bytes], Decoded]:
        from pipeline.data.images import decode

        return lambda content: decode(content, size, channels)

    # --- labels and sizes ---------------------------------------------------------------------------------------------

    def _labels_of(self, split: str, table: "datasets.Dataset") -> list[Any]:
        values: list[Any] = []
        for start in range(0, len(table), _ROWS):
            values += table[start : start + _ROWS].column(self._label).to_pylist()
        for row, value in enumerate(values):
            if not isinstance(value, str | int):
                what = "no label" if value is None else f"{shown(repr(value))[:60]}, neither text nor a whole number,"
                raise Mistake(f"{self.place}: split {self._splits[split]}, row {row}: {what} in {self._label}")
        return values

    def _classes(self, labels: dict[str, list[Any]]) -> tuple[tuple[str, ...], dict[Any, str]]:
        """The classes' names in order, and each label's: a ClassLabel's own names, else the labels as text."""
        names = getattr(self._tables[TRAIN].features[self._label], "names", None)
        values = {value for split in labels.values() for value in split}
        if names is not None:
            for split, own in labels.items():
                row = next((row for row, value in enumerate(own) if not 0 <= value < len(names)), None)
                if row is not None:
                    raise Mistake(
                        f"{self.place}: split {self._splits[split]}, row {row}: label {own[row]}, but {self._label} has"
                        f" {len(names)} classes; a hub's test split often comes without labels: set"
                        f" data.huggingface.{split}_split to null"
                    )
            name_of = {value: shown(name) for value, name in enumerate(names)}
        elif len({isinstance(value, str) for value in values}) > 1:
            raise Mistake(f"{self.place}: {self._label} holds numbers in one split, text in another; make them alike")
        else:
            name_of = {value: shown(str(value)) for value in sorted(values)}
        classes = tuple(name_of.values())
        if len(set(classes)) < len(classes):
            raise Mistake(f"{self.place}: two classes of {self._label} read alike; rename one of them")
        return classes, name_of

    def _sizes(self, table: "datasets.Dataset") -> Iterator[int | None]:
        """The size of each image; None where its bytes are not there. Reads offsets alone."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for start in range(0, len(table), _ROWS):
            column = table[start : start + _ROWS].column(self._image)
            if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
                column = pc.struct_field(column, "bytes")
            if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
                raise Mistake(f"{self.place}: column {self._image} is {column.type}, no encoded images")
            yield from pc.binary_length(column).to_pylist()

    # --- tables -------------------------------------------------------------------------------------------------------

    @cached_property
    def _tables(self) -> dict[str, "datasets.Dataset"]:
        """The used splits with the two columns, as Arrow tables. Raises Mistake, naming what is not there."""
        loaded = self._loaded()
        missing = {split: name for split, name in self._splits.items() if name not in loaded}
        if missing:
            there = ", ".join(map(shown, sorted(loaded))) or "none"
            raise Mistake(
                *(
                    f"data.huggingface.{split}_split: {name}: no such split in {self.place} (there: {there})"
                    for split, name in missing.items()
                )
            )
        for name in self._splits.values():
            for column in (self._image, self._label):
                if column not in loaded[name].column_names:
                    there = ", ".join(map(shown, loaded[name].column_names))
                    raise Mistake(f"{self.place}: split {name}: no column {column} ({there}); see data.huggingface")
        columns = list(dict.fromkeys((self._image, self._label)))
        return {
            split: loaded[name].select_columns(columns).with_format("arrow") for split, name in self._splits.items()
        }

    def _loaded(self) -> dict[str, "datasets.Dataset"]:
        """Splits by the set's own names."""
        hugging = _library()
        base = self._base
        if not base.is_dir():
            raise Mistake(f"{self.place}: not found; set it to a folder that `save_to_disk` wrote or of Parquet files")
        try:
            if (base / "dataset_dict.json").is_file():
                return dict(hugging.load_from_disk(str(base)))
            if (base / "state.json").is_file():
                return {self._splits[TRAIN]: hugging.load_from_disk(str(base))}
            files = {name: files for name in self._splits.values() if (files := self._parquet(name))}
            if files:
                cache = str(paths.state() / "huggingface")
                return dict(hugging.load_dataset("parquet", data_files=files, cache_dir=cache))
        except Exception as error:  # fed damaged files, it raises anything
            raise Mistake(f"{self.place}: cannot be read: {_first_line(error)}") from None
        raise Mistake(
            f"{self.place}: neither written by `save_to_disk` nor Parquet files named by their split, as"
            f" {self._splits[TRAIN]}-00000-of-00001.parquet"
        )

    def _parquet(self, split: str) -> list[str]:
        """Files or folders called by the split: train-00000-of-00001.parquet, data/train.parquet, train/0.parquet."""
        named = re.compile(rf"(?:.*/)?{re.escape(split)}(?:[-_.][^/]*|/.*)?\.parquet")
        files = (file.relative_to(self._base).as_posix() for file in self._base.rglob("*.parquet"))
        return [str(self._base / name) for name in sorted(files) if named.fullmatch(name)]

    def _stats(self) -> list[tuple[str, int, int, int, int]]:
        files = sorted(file for pattern in ("*.arrow", "*.parquet", "*.json") for file in self._base.rglob(pattern))
        stats = [(file.relative_to(self._base).as_posix(), os.stat(file)) for file in files if file.is_file()]
        return [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in stats]

    def _download(self) -> None:
        dataset, configuration, revision = self._hub
        if dataset is None:
            raise Mistake("data.huggingface.dataset: null; name a set of the hub, or set data.path to a local folder")
        hugging = _library()
        cache = self._base.with_name(f".{self._base.name}.cache")  # what arrived stays there for the next try
        try:
            loaded = hugging.load_dataset(dataset, configuration, revision=revision, cache_dir=str(cache))
        except Exception as error:  # no network, no such name, no such configuration: each by errors of its own
            raise Mistake(
                f"{self.place}: cannot be loaded: {_first_line(error)}",
                "check the name; where there is no network, `load_dataset(...).save_to_disk(FOLDER)` elsewhere, bring"
                " the folder here and set data.path to it",
            ) from None
        for split in loaded.values():
            for outside in _outside(split.with_format("arrow"), cache):
                raise Mistake(f"{self.place}: names {shown(outside)}, a file of this machine, as its own: not taken")
        with paths.replacing(self._base) as (folder,):
            loaded.save_to_disk(str(folder))  # which takes in the files that a table names
        shutil.rmtree(cache)


def _outside(table: "datasets.Dataset", cache: Path) -> Iterator[str]:
    """The files that a table names instead of holding their bytes, less those that were downloaded with it."""
    for start in range(0, len(table), _ROWS):
        rows = table[start : start + _ROWS]
        for column in rows.column_names:
            if {"bytes", "path"} <= {field.name for field in getattr(rows[column].type, "fields", ())}:
                held = rows.filter(rows[column].combine_chunks().field("bytes").is_null())[column]
                for path in held.combine_chunks().field("path").to_pylist():
                    if path is not None and not Path(path).resolve().is_relative_to(cache.resolve()):
                        yield path


def _library() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when it is imported
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise Mistake(
            f"data.source: huggingface: the package {error.name} is not installed; `pip install 'retrace[huggingface]'`"
        ) from None
    datasets.disable_progress_bars()
    return datasets


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {shown((str(error).strip().splitlines() or [''])[0])[:300]}"
