"""What every data source gives: a listing that costs a stat a file, and the content of one image."""

from collections.abc import Callable
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
    label: str  # the class's name as printable text
    split: str | None  # where the source itself says which
    problem: str | None = None  # why it cannot be read, where a stat shows that already


class Scan(NamedTuple):
    """What is there now, in a fixed order."""

    classes: tuple[str, ...]
    found: tuple[Found, ...]
    ignored: tuple[tuple[str, str], ...]  # path, why


class Source(Protocol):
    """A kind of data source."""

    place: str  # what messages call it

    def scan(self) -> Scan:
        """List every image. Raises Mistake, naming the place and the remedy, when it cannot be a data set."""
        ...

    def read(self, path: str) -> bytes:
        """The content of a listed image: what its hash is of. Raises OSError."""
        ...

    def decoder(self, size: int, channels: int) -> "Callable[[bytes], NDArray[np.uint8]]":
        """From a content to pixels (size, size, channels). The function raises images.Unreadable."""
        ...
