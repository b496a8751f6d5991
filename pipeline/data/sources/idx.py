"""The MNIST family: images and labels in IDX files (LeCun, Cortes, Burges 1998), packed with gzip or not."""

import re
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.data.raw.base import TEST, TRAIN, Decoded, Found, Scan
from pipeline.data.raw.download import Remote, fetch
from pipeline.data.raw.official import home, numbered, raw_decoder
from pipeline.data.raw.unpacked import Unpacked
from pipeline.data.text import shown
from pipeline.errors import Mistake

_BYTES = 0x08  # the one type of numbers that images have: unsigned bytes
_MOST_SIDE = 4096
_ROLES = tuple(product((TRAIN, TEST), ("images", "labels")))
_NAME = re.compile(r"(?:.*[-_.])?(train|t10k|test)[-_.](images|labels)[-_.]idx[13][-_.]ubyte(?:\.gz)?")


class _Home(NamedTuple):
    classes: tuple[str, ...]
    address: str
    md5: tuple[str, ...]  # of the files of _ROLES


_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
HOMES = {
    "mnist": _Home(
        _DIGITS,
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "fashion_mnist": _Home(
        _CLOTHES,
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "kmnist": _Home(
        _KUZUSHIJI,
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
        (
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
    ),
}
_PUBLISHED = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class _Array(NamedTuple):
    """An IDX file: where its numbers begin, and their shape."""

    content: Unpacked
    offset: int
    shape: tuple[int, ...]


class Images:
    """Names are `train/00007` and `test/00007`, contents the pixel bytes row by row.

    dataset: which set; of `other`, put there by hand, the classes are the numbers that occur. transposed: the bytes lie
    column by column.
    """

    def __init__(
        self, path: Path | None, dataset: Literal["mnist", "fashion_mnist", "kmnist", "other"], transposed: bool
    ) -> None:
        self._dataset, self._transposed = dataset, transposed
        self._downloads = path is None
        self._base, self.place = home(path, "idx")
        if path is None:
            self._base, self.place = self._base / dataset, f"{self.place}/{dataset}"
        files = self._listed().values()
        self.sequential = any(Unpacked(file, "").packed for file in files) if files else True  # as they are published

    def stamp(self) -> bytes:
        stats = {role: (file.name, file.stat()) for role, file in self._listed().items()}
        return repr(
            [(role, name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for role, (name, s) in stats.items()]
        ).encode()

    def scan(self) -> Scan:
        self.__dict__.pop("_arrays", None)  # they may have changed since another scan
        labels = {split: self._labels(split) for split in (TRAIN, TEST)}
        known = HOMES[self._dataset].classes if self._dataset in HOMES else None
        if known is None:
            numbers = sorted({label for values in labels.values() for label in values})
            names = {number: str(number) for number in numbers}
        else:
            names = dict(enumerate(known))
        found = []
        for split, values in labels.items():
            images = self._arrays[split, "images"]
            stamp = images.content.stamp(images.shape[1] * images.shape[2])
            for index, label in enumerate(values):
                if label not in names:
                    raise Mistake(
                        f"{self._arrays[split, 'labels'].content.place}: label {label} of image {index}, but"
                        f" {self._dataset} has {len(names)} classes (0 to {len(names) - 1}); fetch it again, or set"
                        " data.idx.dataset to other"
                    )
                found.append(Found(numbered(split, index), stamp, names[label], split))
        return Scan(classes=tuple(names.values()), found=tuple(found), ignored=())

    def read(self, path: str) -> bytes:
        split, _, number = path.partition("/")
        content, offset, (count, rows, columns) = self._arrays[split, "images"]
        if int(number) >= count:
            raise FileNotFoundError(f"{path}: gone")
        return content.exactly(offset + int(number) * rows * columns, rows * columns)

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        return ((path, self.read(path)) for path in sorted(paths, key=_place))

    def decoder(self, size: int, channels: int) -> Callable[[bytes], Decoded]:
        _, rows, columns = self._arrays[TRAIN, "images"].shape
        if self._transposed:
            return raw_decoder((columns, rows, 1), (1, 0, 2), size, channels)
        return raw_decoder((rows, columns, 1), (0, 1, 2), size, channels)

    def _labels(self, split: str) -> bytes:
        content, offset, shape = self._arrays[split, "labels"]
        return content.exactly(offset, shape[0])

    @cached_property
    def _arrays(self) -> dict[tuple[str, str], _Array]:
        """The four files, by split and kind. Raises Mistake where one is missing or not what it should be."""
        found = self._listed()
        missing = [_PUBLISHED[number] for number, role in enumerate(_ROLES) if role not in found]
        if missing and self._downloads and self._dataset in HOMES:
            home = HOMES[self._dataset]
            for name, md5 in zip(_PUBLISHED, home.md5, strict=True):
                if name in missing:
                    fetch(Remote(f"{home.address}/{name}", md5), self._base)
            found = self._listed()
        elif missing:
            where = "set data.path to the folder that holds" if self._downloads else "put there"
            raise Mistake(
                *(f"{self.place}: {name}: missing; {where} all four files, packed or not" for name in missing)
            )
        arrays = {role: self._opened(found[role], 3 if role[1] == "images" else 1) for role in _ROLES}
        for split in (TRAIN, TEST):
            images, labels = arrays[split, "images"], arrays[split, "labels"]
            if images.shape[0] != labels.shape[0]:
                raise Mistake(
                    f"{images.content.place}: {images.shape[0]} images, but {labels.shape[0]} labels in"
                    f" {found[split, 'labels'].name}; fetch both again"
                )
        train, test = arrays[TRAIN, "images"], arrays[TEST, "images"]
        if train.shape[1:] != test.shape[1:]:
            raise Mistake(f"{test.content.place}: images of {test.shape[1:]} pixels, those of train {train.shape[1:]}")
        return arrays

    def _listed(self) -> dict[tuple[str, str], Path]:
        """The files of the folder that are named as the family's are."""
        if not self._base.is_dir():
            return {}
        found: dict[tuple[str, str], Path] = {}
        for file in sorted(self._base.iterdir()):
            match = _NAME.fullmatch(file.name)
            if match is None or not file.is_file():
                continue
            role = TRAIN if match[1] == "train" else TEST, match[2]
            if role in found and found[role].name.removesuffix(".gz") != file.name.removesuffix(".gz"):
                raise Mistake(
                    f"{self.place}: both {shown(found[role].name)} and {shown(file.name)}; remove one of them"
                )
            found.setdefault(role, file)  # of a file and its packed form, the one that needs no unpacking
        return found

    def _opened(self, file: Path, dimensions: int) -> _Array:
        """Check an IDX file: two zeros, the type, the dimensions, their big-endian 32-bit sizes, then just as much."""
        content = Unpacked(file, f"{self.place}: {shown(file.name)}")
        head = content.exactly(0, 4 + 4 * dimensions)
        if head[:4] != bytes((0, 0, _BYTES, dimensions)):
            what = "images (N x rows x columns)" if dimensions == 3 else "labels (N)"
            raise Mistake(f"{content.place}: begins with {head[:4].hex(' ')}: no IDX file of {what} as unsigned bytes")
        shape = tuple(int.from_bytes(head[start : start + 4], "big") for start in range(4, len(head), 4))
        if 0 in shape or max(shape[1:], default=1) > _MOST_SIDE:
            raise Mistake(f"{content.place}: its header says {_times(shape)}; fetch it again")
        size = 1
        for number in shape:
            size *= number
        length = content.length(len(head) + size) - len(head)
        if length != size:
            held = f"more than {size}" if length > size and content.packed else length
            raise Mistake(f"{content.place}: its header says {_times(shape)} bytes, but {held} follow; fetch it again")
        return _Array(content, len(head), shape)


def _place(path: str) -> tuple[str, int]:
    split, _, number = path.partition("/")
    return split, int(number)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
