"""ImageNet ILSVRC-2012 as it is published: a tar of 1,000 tars to train on, the validation tar, and the devkit.

Nothing is unpacked: images are read by their place in the tars. The official test images have no labels, so the
official validation images are the sealed test split, and validation is drawn from the training images.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.data.raw.base import TEST, TRAIN, Decoded, Found, Scan, Stamp
from pipeline.data.raw.matlab import struct_array
from pipeline.data.raw.official import home
from pipeline.data.raw.tar import Member, members
from pipeline.data.raw.tree import too_large
from pipeline.data.raw.unpacked import Unpacked
from pipeline.data.text import shown
from pipeline.errors import Mistake

_TRAIN, _VALIDATION, _DEVKIT = FILES = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_devkit_t12.tar.gz",
)
_META, _TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
_MOST_DEVKIT = 32 << 20  # bytes of a file in it
_KEPT_INDICES = 8  # synsets' inner tars whose members are remembered: images are read synset by synset


class _Synset(NamedTuple):
    wnid: str  # n02124075
    label: str  # with its first readable name: "n02124075 Egyptian cat"


class Images:
    """Names are `train/n02124075/n02124075_10.JPEG` and `val/ILSVRC2012_val_00000001.JPEG`, contents the JPEG files.

    Classes are the synsets in the order of their WordNet numbers.
    """

    sequential = False

    def __init__(self, path: Path | None) -> None:
        self._base, self.place = home(path, "imagenet")
        self._indices: OrderedDict[str, dict[str, Member]] = OrderedDict()

    def stamp(self) -> bytes:
        files = [self._base / name for name in FILES]
        stats = [file.stat() if file.is_file() else None for file in files]
        return repr([(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) if s else None for s in stats]).encode()

    def scan(self) -> Scan:
        for name in ("_opened", "_devkit", "_synset_tars", "_validation"):
            self.__dict__.pop(name, None)  # they may have changed since another scan
        self._indices.clear()
        synsets, truth = self._devkit
        by_wnid = {synset.wnid: synset for synset in synsets.values()}
        self._check_complete(by_wnid, truth)
        train, validation = (self._opened[name].stamp(0) for name in (_TRAIN, _VALIDATION))
        found = []
        for wnid in sorted(by_wnid):
            own = self._members_of(wnid)
            if not own:
                raise Mistake(f"{self._opened[_TRAIN].place}: {wnid}.tar: no image in it; fetch it again")
            label = by_wnid[wnid].label
            found += [self._found(train, f"train/{wnid}/{name}", own[name], label, TRAIN) for name in sorted(own)]
        for number, name in enumerate(sorted(self._validation)):
            label = synsets[truth[number]].label
            found.append(self._found(validation, f"val/{name}", self._validation[name], label, TEST))
        return Scan(classes=tuple(by_wnid[wnid].label for wnid in sorted(by_wnid)), found=tuple(found), ignored=())

    def read(self, path: str) -> bytes:
        folder, _, name = path.rpartition("/")
        if folder == "val":
            content, member = self._opened[_VALIDATION], self._validation.get(name)
        else:
            content, member = self._opened[_TRAIN], self._members_of(folder.rpartition("/")[2]).get(name)
        if member is None:
            raise FileNotFoundError(f"{path}: gone")
        return content.exactly(member.offset, member.size)

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        return ((path, self.read(path)) for path in paths)

    def decoder(self, size: int, channels: int) -> Callable[[bytes], Decoded]:
        from pipeline.data.images import decode

        return lambda content: decode(content, size, channels)

    @staticmethod
    def _found(stamp: Stamp, path: str, member: Member, label: str, split: str) -> Found:
        return Found(path, stamp._replace(size=member.size), label, split, too_large(member.size))

    def _check_complete(self, by_wnid: dict[str, _Synset], truth: list[int]) -> None:
        missing = sorted(by_wnid.keys() - self._synset_tars.keys())
        if missing:
            named = ", ".join(f"{wnid}.tar" for wnid in missing[:10]) + (", ..." if len(missing) > 10 else "")
            raise Mistake(f"{self._opened[_TRAIN].place}: {named} missing ({len(missing)} synsets); fetch it again")
        if len(self._validation) != len(truth):
            raise Mistake(
                f"{self._opened[_VALIDATION].place}: {len(self._validation)} images, but {len(truth)} labels in"
                f" {_TRUTH}; fetch it and {_DEVKIT} again"
            )

    @cached_property
    def _opened(self) -> dict[str, Unpacked]:
        missing = [name for name in FILES if not (self._base / name).is_file()]
        if missing:
            raise Mistake(
                *(f"{self.place}: {name}: missing" for name in missing),
                "ImageNet is given to people with an account: fetch these three files of ILSVRC-2012 at"
                f" https://image-net.org/download-images and put them into {shown(str(self._base))}/ as they are:",
                *FILES,
            )
        opened = {name: Unpacked(self._base / name, f"{self.place}: {name}") for name in FILES}
        for name in (_TRAIN, _VALIDATION):
            if opened[name].packed:  # reading one image would mean reading all before it
                raise Mistake(f"{opened[name].place}: packed with gzip; unpack it (`gunzip`) to the tar as published")
        return opened

    @cached_property
    def _synset_tars(self) -> dict[str, Member]:
        return {
            PurePosixPath(member.name).stem: member
            for member in members(self._opened[_TRAIN])
            if member.name.endswith(".tar")
        }

    def _members_of(self, wnid: str) -> dict[str, Member]:
        """The images of a synset, by name. The last few synsets asked for are remembered: all would be 1.3 million."""
        found = self._indices.get(wnid)
        if found is None:
            if wnid not in self._synset_tars:
                return {}
            inner = members(self._opened[_TRAIN], self._synset_tars[wnid])
            found = self._indices[wnid] = {PurePosixPath(member.name).name: member for member in inner}
            if len(self._indices) > _KEPT_INDICES:
                self._indices.popitem(last=False)
        return found

    @cached_property
    def _validation(self) -> dict[str, Member]:
        return {PurePosixPath(member.name).name: member for member in members(self._opened[_VALIDATION])}

    @cached_property
    def _devkit(self) -> tuple[dict[int, _Synset], list[int]]:
        """The synsets without children by ILSVRC2012_ID, and that number of each validation image in order."""
        content = self._opened[_DEVKIT]
        files = {PurePosixPath(m.name).name: m for m in members(content) if PurePosixPath(m.name).parent.name == "data"}
        missing = [name for name in (_META, _TRUTH) if name not in files]
        if missing:
            raise Mistake(*(f"{content.place}: data/{name}: missing; fetch the devkit again" for name in missing))
        texts = {}
        for name in (_META, _TRUTH):
            if files[name].size > _MOST_DEVKIT:
                raise Mistake(f"{content.place}: data/{name}: {files[name].size} bytes; fetch it again")
            texts[name] = content.exactly(files[name].offset, files[name].size)
        synsets = _synsets(texts[_META], f"{content.place}: data/{_META}")
        truth = texts[_TRUTH].split()
        for line, number in enumerate(truth, start=1):
            if not number.isdigit() or len(number) > 9 or int(number) not in synsets:
                told = shown(number[:20].decode("ascii", "replace"))
                raise Mistake(f"{content.place}: data/{_TRUTH}: line {line}: {told}: no synset; fetch it again")
        if not truth:
            raise Mistake(f"{content.place}: data/{_TRUTH}: empty; fetch it again")
        return synsets, [int(number) for number in truth]


def _synsets(content: bytes, place: str) -> dict[int, _Synset]:
    """The struct array `synsets` of meta.mat, less those that stand above others."""
    found: dict[int, _Synset] = {}
    try:
        for row in struct_array(content, "synsets"):
            if row["num_children"] == 0:
                number, wnid, words = int(str(row["ILSVRC2012_ID"]).removesuffix(".0")), row["WNID"], row["words"]
                if number in found or not isinstance(wnid, str) or not wnid.isalnum() or not isinstance(words, str):
                    raise ValueError(f"synset {number}: twice, or without a name")
                found[number] = _Synset(wnid, shown(f"{wnid} {words.split(',')[0].strip()}"))
    except (ValueError, KeyError) as error:
        raise Mistake(f"{place}: damaged ({shown(str(error))}); fetch the devkit again") from None
    if len({synset.wnid for synset in found.values()}) < max(2, len(found)):
        raise Mistake(f"{place}: fewer than two synsets, or one twice; fetch the devkit again")
    return found
