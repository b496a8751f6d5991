"""CIFAR's binary version (Krizhevsky 2009): files of records, each some label bytes and 3 x 32 x 32 pixels."""

from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.data.raw.base import TEST, TRAIN, Decoded, Found, Scan
from pipeline.data.raw.download import Remote, fetch
from pipeline.data.raw.official import home, numbered, raw_decoder
from pipeline.data.raw.tar import members
from pipeline.data.raw.unpacked import Unpacked
from pipeline.data.text import shown
from pipeline.errors import Mistake

_CHANNELS, _SIDE = 3, 32
_PIXELS = _CHANNELS * _SIDE * _SIDE
_RECORDS = 1_000  # read at a time
_MOST_NAMES = 64 << 10  # bytes of the file of class names


class Layout(NamedTuple):
    """What a CIFAR archive holds."""

    kind: str
    remote: Remote
    folder: str
    batches: dict[str, tuple[str, ...]]  # split -> its files, in their order
    names: str  # the file of class names, one a line
    label_bytes: int  # before the pixels
    label_at: int  # which of them is taken

    @property
    def record(self) -> int:
        return self.label_bytes + _PIXELS

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.batches[TRAIN], *self.batches[TEST], self.names)


class _File(NamedTuple):
    """A file of the layout, where it lies: alone, or in the archive."""

    content: Unpacked
    offset: int
    size: int


class CifarImages:
    """Names are `train/00007`, counted over all batches; contents the 3,072 pixel bytes: red, green, blue planes.

    The official test batch is the given test split. Reads the .tar.gz as it is published, or the folder in it.
    """

    def __init__(self, layout: Layout, path: Path | None) -> None:
        self._layout = layout
        self._downloads = path is None
        self._base, self.place = home(path, layout.kind)
        self.sequential = self._folder() is None  # a .tar.gz is read forwards

    def stamp(self) -> bytes:
        folder = self._folder()
        files = [self._archive()] if folder is None else [folder / name for name in self._layout.files]
        stats = [file.stat() if file.is_file() else None for file in files]
        return repr([(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) if s else None for s in stats]).encode()

    def scan(self) -> Scan:
        files: dict[str, _File] = {}
        labels: dict[str, bytes] = {}
        classes: tuple[str, ...] = ()
        for name, file in self._walk():  # names and labels on the way: one pass over a packed archive
            files[name] = file
            if name == self._layout.names:
                classes = self._classes(file)
            else:
                labels[name] = self._labels(file)
        self._files = self._checked(files)  # in place of those of another scan
        found = []
        for split, names in self._layout.batches.items():
            index = 0
            for name in names:
                stamp = self._files[name].content.stamp(_PIXELS)
                for label in labels[name]:
                    if label >= len(classes):
                        raise Mistake(
                            f"{self.place}: {name}: image {index}: label {label}, but {self._layout.names} names"
                            f" {len(classes)} classes (0 to {len(classes) - 1}); fetch it again"
                        )
                    found.append(Found(numbered(split, index), stamp, classes[label], split))
                    index += 1
        return Scan(classes=classes, found=tuple(found), ignored=())

    def read(self, path: str) -> bytes:
        split, _, number = path.partition("/")
        place = self._places(split)[int(number)]
        return place.content.exactly(place.offset, place.size)

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        places = {split: self._places(split) for split in self._layout.batches}
        wanted = [(places[split][int(number)], path) for path in paths for split, _, number in [path.partition("/")]]
        wanted.sort(key=lambda item: item[0].offset)  # in an archive, as they lie
        return ((path, place.content.exactly(place.offset, place.size)) for place, path in wanted)

    def decoder(self, size: int, channels: int) -> Callable[[bytes], Decoded]:
        return raw_decoder((_CHANNELS, _SIDE, _SIDE), (1, 2, 0), size, channels)

    def _folder(self) -> Path | None:
        """The unpacked folder, where there is one."""
        inside = self._base / self._layout.folder
        return next((folder for folder in (self._base, inside) if (folder / self._layout.names).is_file()), None)

    def _archive(self) -> Path:
        return self._base / self._layout.remote.name if self._downloads or self._base.is_dir() else self._base

    def _classes(self, file: _File) -> tuple[str, ...]:
        if file.size > _MOST_NAMES:
            raise Mistake(f"{self.place}: {self._layout.names}: {file.size} bytes, no list of names; fetch it again")
        try:
            text = file.content.exactly(file.offset, file.size).decode("utf-8")
        except UnicodeDecodeError:
            raise Mistake(f"{self.place}: {self._layout.names}: no text; fetch it again") from None
        names = tuple(shown(line.strip()) for line in text.splitlines() if line.strip())
        if not names or len(set(names)) < len(names):
            raise Mistake(f"{self.place}: {self._layout.names}: no class names, or one twice; fetch it again")
        return names

    def _labels(self, file: _File) -> bytes:
        record, end = self._layout.record, file.offset + file.size
        return b"".join(
            file.content.exactly(start, min(_RECORDS * record, end - start))[self._layout.label_at :: record]
            for start in range(file.offset, end, _RECORDS * record)
        )

    def _places(self, split: str) -> "_Places":
        return _Places([self._files[name] for name in self._layout.batches[split]], self._layout)

    @cached_property
    def _files(self) -> dict[str, _File]:
        return self._checked(dict(self._walk()))

    def _walk(self) -> Iterator[tuple[str, _File]]:
        """The files of the layout that are there, as they lie."""
        folder = self._folder()
        return self._in_archive() if folder is None else self._in_folder(folder)

    def _checked(self, found: dict[str, _File]) -> dict[str, _File]:
        """The same. Raises Mistake where one is missing, or no whole number of records."""
        lines = [f"{name}: missing" for name in self._layout.files if name not in found]
        for names in self._layout.batches.values():
            sizes = {name: found[name].size for name in names if name in found}
            for name, size in sizes.items():
                if size == 0 or size % self._layout.record:
                    lines.append(f"{name}: {size} bytes, no whole number of {self._layout.record}-byte records")
                elif size != max(sizes.values()):
                    lines.append(f"{name}: {size} bytes, cut short: another batch has {max(sizes.values())}")
        if lines:
            raise Mistake(*(f"{self.place}: {line}; fetch {self._layout.remote.url} again" for line in lines))
        return found

    def _in_folder(self, folder: Path) -> Iterator[tuple[str, _File]]:
        for name in self._layout.files:
            if (file := folder / name).is_file():
                yield name, _File(Unpacked(file, f"{self.place}: {name}"), 0, file.stat().st_size)

    def _in_archive(self) -> Iterator[tuple[str, _File]]:
        archive = self._archive()
        if self._downloads:
            fetch(self._layout.remote, self._base)
        elif not archive.is_file():
            raise Mistake(
                f"{self.place}: neither {self._layout.remote.name} nor {self._layout.folder}/ is there; set data.path"
                " to one of them or to the folder that holds it, or to null to have it downloaded"
            )
        content = Unpacked(archive, f"{self.place}: {archive.name}" if archive != self._base else self.place)
        for member in members(content):
            if (name := PurePosixPath(member.name).name) in self._layout.files:
                yield name, _File(content, member.offset, member.size)


class _Places:
    """Where the pixels of each image of a split lie."""

    def __init__(self, files: list[_File], layout: Layout) -> None:
        self._files, self._layout = files, layout
        self._each = files[0].size // layout.record  # the same in every batch of a split

    def __getitem__(self, index: int) -> _File:
        batch, number = divmod(index, self._each)
        if batch >= len(self._files):
            raise FileNotFoundError(f"image {index} is gone")
        file = self._files[batch]
        return _File(file.content, file.offset + number * self._layout.record + self._layout.label_bytes, _PIXELS)
