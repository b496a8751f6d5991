"""A folder of images: one sub-folder a class, or train/ [val/] test/ each with one sub-folder a class."""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from pipeline.data.raw.base import TEST, TRAIN, VALIDATION, Decoded, Found, Scan, Stamp, digest_of
from pipeline.data.text import shown
from pipeline.errors import Mistake

_SPLIT_FOLDERS = {"train": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "test": TEST}
_LAYOUT = "make one sub-folder a class, or train/ [val/] test/ each with one sub-folder a class"

# What file managers, archivers and network drives leave behind. Hidden names are left out as well.
_JUNK = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "lost+found"})

# Files that are meant to be something else than an image. An unknown extension, or none, is tried as an image.
_NO_IMAGE_NAMES = (
    "avi bin cfg csv db doc docx dvc gz h5 htm html ini ipynb joblib js json jsonl lock log mat md mov mp3 mp4 npy npz"
    " parquet pdf pickle pkl pt pth py rar rst sh sqlite tar toml tsv txt wav xls xlsx xml yaml yml zip 7z"
)
_NO_IMAGE = frozenset(_NO_IMAGE_NAMES.split())

# A larger file would fill the memory before it shows that it is no image.
_MOST_BYTES = 1 << 30


class Images:
    """Image files below a folder. Symbolic links are followed; links that loop are told from those that do not."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise ValueError("a folder source needs its path")
        self._base = path
        self.place = f"data.path: {shown(str(path))}"

    sequential = False

    def stamp(self) -> bytes:
        return digest_of(self.scan())

    def scan(self) -> Scan:
        base = str(self._base)
        if not os.path.lexists(base):
            raise Mistake(f"{self.place}: not found; set data.path in params.yaml to the folder that holds the images")
        if not os.path.isdir(base):
            raise Mistake(f"{self.place}: not a folder (archives must be unpacked); {_LAYOUT}")
        walk = _Walk(base)
        top = walk.subfolders("")
        splits = self._splits(top, walk)
        folders: dict[str | None, dict[str, str]] = {}  # split -> class -> its folder
        if splits:
            walk.note_outside("")
            for name, own_split in splits.items():
                walk.note_outside(name)
                folders[own_split] = self._named([f"{name}/{child}" for child in walk.subfolders(name)])
        else:
            walk.note_outside("")
            folders[None] = self._named(top)
        classes = self._classes(folders, splits)
        found: list[Found] = []
        empty: list[str] = []
        for split, members in folders.items():
            for label in classes:
                before = len(found)
                found += walk.images(members[label], label, split)
                if len(found) == before:
                    empty.append(members[label])
        if empty:
            raise Mistake(*(f"{self.place}: {shown(name)}/: no image in it; add some, or remove it" for name in empty))
        found.sort(key=lambda item: item.path)
        return Scan(classes=classes, found=tuple(found), ignored=tuple(sorted(walk.ignored)))

    def read(self, path: str) -> bytes:
        # without buffering and pathlib: at 60,000 files that is a second
        descriptor = os.open(f"{self._base}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            content = os.read(descriptor, size + 1)
            while len(content) < size and (more := os.read(descriptor, size - len(content))):
                content += more
            return content
        finally:
            os.close(descriptor)

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        return ((path, self.read(path)) for path in paths)

    def decoder(self, size: int, channels: int) -> Callable[[bytes], Decoded]:
        from pipeline.data.images import decode

        return lambda content: decode(content, size, channels)

    def _splits(self, top: list[str], walk: "_Walk") -> dict[str, str]:
        """Folder name -> split, where the source brings its own; empty where its folders are classes."""
        named = {name: _SPLIT_FOLDERS[name] for name in top if name in _SPLIT_FOLDERS}
        # `train` and `bus` may be classes; train/ and test/ beside one another, with folders in them, are splits
        if "train" not in named or (len(named) == 1 and len(top) > 1) or not walk.subfolders("train"):
            return {}
        held_out = [f"{name}/" for name, split in named.items() if split == VALIDATION]
        if len(held_out) > 1:
            raise Mistake(f"{self.place}: both {' and '.join(held_out)}; keep one of them")
        extra = [shown(name) for name in top if name not in named]
        if extra:
            beside = ", ".join(f"{name}/" for name in named)
            raise Mistake(*(f"{self.place}: {name}/ lies beside {beside}; move it elsewhere" for name in extra))
        return named

    def _named(self, folders: list[str]) -> dict[str, str]:
        """Class -> its folder."""
        named: dict[str, str] = {}
        for folder in folders:
            label = shown(folder.rpartition("/")[2])
            if label in named:  # one name in two encodings
                raise Mistake(f"{self.place}: two class folders read as {label}/; rename one of them")
            named[label] = folder
        return named

    def _classes(self, folders: dict[str | None, dict[str, str]], splits: dict[str, str]) -> tuple[str, ...]:
        known = {label for members in folders.values() for label in members}
        if not known:
            raise Mistake(f"{self.place}: empty, or no class folder in it; {_LAYOUT}")
        missing = [
            f"{self.place}: {name}/{label}/: missing, while another split has this class; add it, or remove the class"
            for name, split in splits.items()
            for label in sorted(known - folders[split].keys())
        ]
        if missing:
            raise Mistake(*missing)
        if len(known) == 1:
            raise Mistake(f"{self.place}: one class only ({known.pop()}/); a classifier needs two or more: {_LAYOUT}")
        return tuple(sorted(known))


class _Walk:
    """Lists folders, noting what it leaves out and why."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.ignored: list[tuple[str, str]] = []

    def subfolders(self, relative: str) -> list[str]:
        """Names of the folders in a folder, sorted."""
        with os.scandir(os.path.join(self._base, relative)) as entries:
            return sorted(entry.name for entry in entries if not _junk(entry.name) and _is_folder(entry))

    def note_outside(self, relative: str) -> None:
        """Note the files that lie beside class folders: they belong to no class."""
        with os.scandir(os.path.join(self._base, relative)) as entries:
            self.ignored += [
                (f"{relative}/{entry.name}".lstrip("/"), "not in a class folder")
                for entry in entries
                if not _junk(entry.name) and not _is_folder(entry)
            ]

    def images(
        self, folder: str, label: str, split: str | None, above: tuple[tuple[int, int], ...] = ()
    ) -> Iterator[Found]:
        """Every image in a class folder and the folders in it. `above`: (device, inode) of the folders around."""
        descriptor = os.open(f"{self._base}/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        deeper: list[str] = []
        try:
            status = os.fstat(descriptor)
            here = (status.st_dev, status.st_ino)
            if here in above or here == self._identity():
                self.ignored.append((folder, "a link to a folder around it: it would loop"))
                return
            with os.scandir(descriptor) as entries:  # by descriptor: half the time of whole paths
                for entry in entries:
                    name = entry.name
                    if _junk(name):
                        continue
                    path = f"{folder}/{name}"
                    if _is_folder(entry):
                        deeper.append(path)
                    elif name.rpartition(".")[2].lower() in _NO_IMAGE:
                        self.ignored.append((path, "not an image, by its extension"))
                    else:
                        try:
                            status = entry.stat()
                        except OSError as error:  # a link to nowhere or to itself
                            yield Found(path, Stamp(0, 0, 0, 0), label, split, f"broken link ({error.strerror})")
                            continue
                        if not stat.S_ISREG(status.st_mode):
                            self.ignored.append((path, "neither a file nor a folder"))
                            continue
                        stamp = Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
                        large = f"{status.st_size} bytes, more than {_MOST_BYTES}: not opened"
                        yield Found(path, stamp, label, split, large if status.st_size > _MOST_BYTES else None)
        finally:
            os.close(descriptor)
        for path in sorted(deeper):
            yield from self.images(path, label, split, (*above, here))

    def _identity(self) -> tuple[int, int]:
        status = os.stat(self._base)
        return status.st_dev, status.st_ino


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself; others that cannot be followed are no folder already
            return False
        raise


def _junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK
