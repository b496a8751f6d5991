"""What every data source gives: a listing that costs a stat a file, and the content of one image."""

import hashlib
from array import array
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")


class Stamp(NamedTuple):
    """What a stat says of a file's content without reading it. ctime changes with every write, also when mtime is set
    back afterwards."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Found(NamedTuple):
    """One image file of a listing."""

    path: str  # relative to the source, "/" between; undecodable bytes as os.fsdecode gives them
    stamp: Stamp
    label: str | None  # the class's name as printable text; None where the source has targets only
    split: str | None  # where the source itself says which
    problem: str | None = None  # why it cannot be read, where a stat shows that already
    group: str | None = None  # what must not be cut by a split: the patient, the scene, the video
    target: tuple[float, ...] | None = None  # what a regression predicts, in the order of Scan.targets
    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom in pixels of the upright image


class Scan(NamedTuple):
    """What is there now, in a fixed order."""

    classes: tuple[str, ...]  # empty where the source has targets only
    found: tuple[Found, ...]
    ignored: tuple[tuple[str, str], ...]  # path, why
    targets: tuple[str, ...] = ()  # the names of the target's numbers


class Decoded(NamedTuple):
    """One image, decoded and brought to the set's size."""

    pixels: "NDArray[np.uint8]"  # size, size, channels
    height: int  # of the image as the source has it, upright: what its box is measured in
    width: int
    is_plain_jpeg: bool = False  # whether the content is a JPEG file of exactly these pixels, to be stored as it is


class Source(Protocol):
    """A kind of data source."""

    place: str  # what messages call it

    sequential: bool  # whether `contents` alone is quick: reading one image means reading all before it (a .tar.xz)

    def stamp(self) -> bytes:
        """What stats alone show of all that is there, quickly: equal only when nothing was touched."""
        ...

    def scan(self) -> Scan:
        """List every image. Raises Mistake, naming the place and the remedy, when it cannot be a data set."""
        ...

    def read(self, path: str) -> bytes:
        """The content of a listed image: what its hash is of. Safe in several processes at once. Raises OSError."""
        ...

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """The path and content of each of `paths` once, in the order that is quickest here. Raises OSError."""
        ...

    def decoder(self, size: int, channels: int) -> Callable[[bytes], Decoded]:
        """What decodes a content to pixels (size, size, channels). The function raises images.Unreadable."""
        ...


def digest_of(scan: Scan) -> bytes:
    """A hash of every name and stamp: equal only when nothing was touched."""
    digest = hashlib.sha256()
    numbers: array[int] = array("q")
    for found in scan.found:
        numbers.extend(found.stamp)
    digest.update(numbers.tobytes())
    names = ["\0".join((found.path, found.label or "", found.split or "", found.problem or "")) for found in scan.found]
    digest.update("\0\0".join(names).encode("utf-8", "surrogatepass"))
    digest.update(repr((scan.classes, scan.ignored)).encode("utf-8", "surrogatepass"))
    return digest.digest()
