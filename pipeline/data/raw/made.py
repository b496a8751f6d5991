"""What data sets that are made by code share: images by number, each a pure function of the settings and its number."""

import errno
import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import seeding
from pipeline.data.images import fitted
from pipeline.data.raw import exact
from pipeline.data.raw.base import Box, Decoded, Found, Scan, Stamp

_RENDERED = 64  # images at a time: what their pixels need stays in a processor's cache
_LISTED = 1024


class Answer(NamedTuple):
    """What is to be said of an image."""

    label: str | None = None
    target: tuple[float, ...] | None = None
    box: Box | None = None  # in pixels of the image


class Made(ABC):
    """Names are `KIND/000007`, contents the bytes of the pixels (H, W, C).

    Nothing is on a disk, so the stamp is a hash of what the pixels are a function of: the settings and the code.
    """

    sequential = False
    classes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    drawn_with: tuple[ModuleType, ...] = ()  # further code that the pixels are a function of

    def __init__(self, path: Path | None, shape: tuple[int, int, int], settings: Mapping[str, Any]) -> None:
        """shape: of every image. settings: all that stands in params.yaml, `images` and `seed` among it."""
        self._kind = type(self).__module__.rpartition(".")[2]
        if path is not None:
            raise ValueError(f"{self._kind} is made by code; it has no path")
        self.place = f"data.{self._kind}"
        self.shape = shape
        self._settings = dict(settings)
        self.images: int = settings["images"]
        self.seed: int = settings["seed"]

    @abstractmethod
    def render(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pixels of some images (B, H, W, C): the same for an image whatever it is rendered with."""

    @abstractmethod
    def answers(self, indices: NDArray[np.int64]) -> Iterable[Answer]:
        """What is to be said of each of them."""

    def draws(self, purpose: str, indices: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        """Numbers in [0, 1) of this kind's own for each image: (B, count)."""
        return seeding.uniform(self.seed, f"{self._kind}/{purpose}", 0, indices, count)

    # --- the protocol of a source -------------------------------------------------------------------------------------

    def stamp(self) -> bytes:
        return self._stamp

    def scan(self) -> Scan:
        size = int(np.prod(self.shape))
        stamp = Stamp(size, 0, 0, int.from_bytes(self._stamp[:8], "little") >> 1)
        found: list[Found] = []
        for start in range(0, self.images, _LISTED):
            indices = np.arange(start, min(start + _LISTED, self.images))
            for index, (label, target, box) in zip(indices.tolist(), self.answers(indices), strict=True):
                found.append(Found(f"{self._kind}/{index:06d}", stamp, label, None, target=target, box=box))
        return Scan(classes=self.classes, found=tuple(found), ignored=(), targets=self.targets)

    def read(self, path: str) -> bytes:
        return self.render(np.array([self._number(path)])).tobytes()

    def contents(self, paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        names = list(paths)
        for start in range(0, len(names), _RENDERED):
            some = names[start : start + _RENDERED]
            for path, pixels in zip(some, self.render(np.array([self._number(path) for path in some])), strict=True):
                yield path, pixels.tobytes()

    def decoder(self, size: int, channels: int) -> Callable[[bytes], Decoded]:
        def decode(content: bytes) -> Decoded:
            pixels = np.frombuffer(content, dtype=np.uint8).reshape(self.shape)
            return Decoded(fitted(pixels, size, channels), *self.shape[:2])

        return decode

    @cached_property
    def _stamp(self) -> bytes:
        digest = hashlib.sha256(repr(sorted(self._settings.items())).encode())
        for module in (sys.modules[type(self).__module__], sys.modules[__name__], exact, seeding, *self.drawn_with):
            digest.update(Path(str(module.__file__)).read_bytes())
        return digest.digest()

    def _number(self, path: str) -> int:
        """Raises FileNotFoundError for what is not listed: an older listing may have had more images."""
        kind, _, number = path.partition("/")
        if kind != self._kind or not number.isdecimal() or int(number) >= self.images:
            raise FileNotFoundError(errno.ENOENT, f"not among the {self.images} images", path)
        return int(number)
