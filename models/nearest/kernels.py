"""The inner loops of the search, compiled by numba when they are first asked for (about a second).

Neighbours are kept as keys, distance * count + index, one int64 each: their order is that of (distance, index). The k
smallest of a row lie in a heap whose root is the largest, the one that a nearer image replaces. Images are seen in the
order of their indices, so an equally distant one, which comes later, never does.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_KEY = np.iinfo(np.int64).max  # of a place in a heap that nothing has taken yet


class Kernels(NamedTuple):
    """They hold no interpreter lock: several threads may work on rows of their own."""

    keep_by_products: Callable[[NDArray[Any], NDArray[np.int64], NDArray[np.int64], int, int, NDArray[np.int64]], None]
    keep_by_differences: Callable[[NDArray[np.uint8], NDArray[np.uint8], int, int, NDArray[np.int64]], None]
    sums_of_squares: Callable[[NDArray[np.int8], NDArray[np.int64]], None]


@cache
def kernels() -> Kernels:
    import numba
    from numba import int32, int64

    compiled: Any = numba.njit(nogil=True, boundscheck=False, error_model="numpy")

    @compiled  # type: ignore[untyped-decorator]
    def replace_root(heap: Any, key: int) -> None:
        """Put `key` in the place of the largest, and sift it down."""
        size, place = heap.size, 0
        while True:
            child = 2 * place + 1
            if child + 1 < size and heap[child + 1] > heap[child]:
                child += 1
            if child >= size or heap[child] <= key:
                break
            heap[place] = heap[child]
            place = child
        heap[place] = key

    @compiled  # type: ignore[untyped-decorator]
    def keep_by_products(products: Any, own: Any, squares: Any, first: int, count: int, kept: Any) -> None:
        """|a - b|^2 = |a|^2 + |b|^2 - 2 ab, from the products ab (Q, M) and the squares (Q) and (M).

        first: the index of the first of the M images, of `count`. kept: Q heaps of k keys.
        """
        run = 64  # so many at a time are passed over when none of them is near
        images = squares.size
        for query in range(own.size):
            row, heap = products[query], kept[query]
            farthest = heap[0] // count - own[query]
            for start in range(0, images, run):
                stop = min(start + run, images)
                least = squares[start] - 2 * int64(row[start])
                for image in range(start + 1, stop):
                    least = min(least, squares[image] - 2 * int64(row[image]))
                if least < farthest:
                    for image in range(start, stop):
                        distance = squares[image] - 2 * int64(row[image])
                        if distance < farthest:
                            replace_root(heap, (distance + own[query]) * count + first + image)
                            farthest = heap[0] // count - own[query]

    @compiled  # type: ignore[untyped-decorator]
    def sum_of_differences(one: Any, other: Any) -> Any:
        """sum |a - b| of at most 2^23 bytes.

        Every value is cut to 32 bits: in this form the compiler finds the processor's own instruction for it (psadbw).
        """
        total = int32(0)
        for place in range(one.size):
            difference = int32(int32(one[place]) - int32(other[place]))
            total = int32(total + (difference if difference >= 0 else int32(-difference)))
        return total

    @compiled  # type: ignore[untyped-decorator]
    def keep_by_differences(queries: Any, memory: Any, first: int, count: int, kept: Any) -> None:
        """Images (M, D), few enough for the cache: they are read once for each query (Q, D). The rest as above."""
        run = 1 << 23
        for query in range(len(queries)):
            one, heap = queries[query], kept[query]
            farthest = heap[0] // count
            for image in range(len(memory)):
                other = memory[image]
                distance = int64(sum_of_differences(one[:run], other[:run]))
                for start in range(run, one.size, run):
                    distance += sum_of_differences(one[start : start + run], other[start : start + run])
                if distance < farthest:
                    replace_root(heap, distance * count + first + image)
                    farthest = heap[0] // count

    @compiled  # type: ignore[untyped-decorator]
    def sum_of_squares(one: Any) -> Any:
        total = int32(0)
        for place in range(one.size):
            total = int32(total + int32(int32(one[place]) * int32(one[place])))
        return total

    @compiled  # type: ignore[untyped-decorator]
    def sums_of_squares(images: Any, sums: Any) -> None:
        """|a|^2 of int8 (B, D), into int64 (B)."""
        run = 1 << 16  # its sum, of at most 2^14 each, fits into 32 bits
        for image in range(len(images)):
            total = int64(0)
            for start in range(0, images.shape[1], run):
                total += sum_of_squares(images[image, start : start + run])
            sums[image] = total

    return Kernels(keep_by_products, keep_by_differences, sums_of_squares)
