"""Images that are files of a tree: what the sources of such images do alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator

from pipeline.data.raw.base import Decoded
from pipeline.data.raw.tree import Tree


class ImageFiles(ABC):
    """All of a source but its stamp and its listing, by its tree."""

    place: str

    @property
    @abstractmethod
    def _tree(self) -> Tree:
        """Where the files are."""

    @property
    def sequential(self) -> bool:
        return self._tree.sequential

    def read(self, path: str) -> bytes:
        return self._tree.read(path)

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        return self._tree.contents(paths)

    def decoder(self, size: int, channels: int) -> Callable[[bytes], Decoded]:
        from pipeline.data.images import decode

        return lambda content: decode(content, size, channels)
