"""Reading ahead: batches that will be asked for are decoded while those before them are used."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store.arrays import Rows
from pipeline.data.store.encoded import Begun, EncodedImages, decoding_threads

_REQUESTS_AHEAD = 2


@contextmanager
def reading_ahead(images: Rows, requests: Iterable[Any]) -> Iterator[Rows]:
    """The same images, of which it is known that `requests` (slices, or arrays of numbers) come in this order.

    Encoded images are decoded two requests ahead; another request is served as well, not ahead. At the end no thread
    is left. A memory map is given as it is: the system reads ahead there.
    """
    if not isinstance(images, EncodedImages):
        yield images
        return
    with images.file.open("rb", buffering=0) as stream, decoding_threads() as pool:
        try:
            yield _Ahead(images, stream, requests, pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Ahead:
    def __init__(
        self, images: EncodedImages, stream: IO[bytes], requests: Iterable[Any], pool: ThreadPoolExecutor
    ) -> None:
        self._images, self._stream, self._pool = images, stream, pool
        self._requests = iter(requests)
        self._begun: deque[Begun] = deque()
        self.shape = images.shape
        for _ in range(_REQUESTS_AHEAD):
            self._begin()

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        if not self._begun or not np.array_equal(self._images.numbers(rows), self._begun[0].rows):
            return self._images[rows]
        begun = self._begun.popleft()
        self._begin()
        return begun.result()

    def _begin(self) -> None:
        rows = next(self._requests, None)
        if rows is not None:
            self._begun.append(self._images.begin(self._stream, self._images.numbers(rows), self._pool))
