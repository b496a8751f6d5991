"""The search on this machine's processor, with blocks that fit its caches and products that are exact."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.nearest import Distance
from models.nearest.kernels import NO_KEY, kernels

Bytes = NDArray[np.uint8]
Whole = NDArray[np.int64]

_QUERIES, _IMAGES = 2048, 8192  # rows of a block of products, at most
_BLOCK_BYTES = 32 << 20  # of images that are in work at once, at most, unless one is larger
_CACHED_BYTES = 256 << 10  # of images that are compared with many queries in turn: a part of the second cache
# Sums of products of two numbers in [-128, 127] that are exact: in 32 bits, where the library shifts one of them to
# [0, 255] on the way (128 * 255 * 65,536 < 2^31); and in float32, all of whose partial sums stay within 2^24.
_INTEGER_RUN = 65_536
_FLOAT_RUN = 1024
_FEWEST_INTEGERS = 64  # of a single column torch 2.13 makes nonsense, and few are not worth it


def nearest(
    queries: Bytes, memory: Bytes, k: int, distance: Distance, threads: int | None = None
) -> tuple[Whole, Whole]:
    """The k nearest images of each query: distances (Q, k), of L2 squared, and indices (Q, k), by (distance, index).

    queries (Q, D) and memory (N, D) are uint8, in C order. threads: of L1 and of the selection; None: as many as torch
    has, which the products always have. The answer is the same with any number. Raises ValueError unless 1 <= k <= N.
    """
    count = len(memory)
    if not 1 <= k <= count:
        raise ValueError(f"k: {k} must lie between 1 and the number of images, {count}")
    kept = np.full((len(queries), k), NO_KEY)
    with _sharing(threads or torch.get_num_threads()) as share:
        if distance == "l1":
            _by_differences(queries, memory, kept, share)
        else:
            _by_products(queries, memory, kept, share)
    kept.sort(axis=1)
    return np.divmod(kept, count)


Share = Callable[..., None]  # work(*parts) for parts of arrays with equally many rows, a thread each


@contextmanager
def _sharing(threads: int) -> Iterator[Share]:
    with ThreadPoolExecutor(threads) as pool:

        def share(work: Callable[..., None], *arrays: NDArray[Any]) -> None:
            list(pool.map(work, *(np.array_split(array, threads) for array in arrays)))

        yield share


def _blocks(rows: int, most: int) -> Iterator[slice]:
    yield from (slice(start, min(start + most, rows)) for start in range(0, rows, most))


def _by_differences(queries: Bytes, memory: Bytes, kept: Whole, share: Share) -> None:
    keep, count = kernels().keep_by_differences, len(memory)
    rows = max(1, _CACHED_BYTES // max(1, memory.shape[1]))

    def work(queries: Bytes, kept: Whole) -> None:
        for block in _blocks(count, rows):
            keep(queries, memory[block], block.start, count, kept)

    share(work, queries, kept)


def _by_products(queries: Bytes, memory: Bytes, kept: Whole, share: Share) -> None:
    count, dimensions = memory.shape
    fitting = max(1, _BLOCK_BYTES // max(1, dimensions))
    for block in _blocks(count, min(_IMAGES, fitting)):
        images = _shifted(memory[block])
        squares = _squares(images)
        for asked in _blocks(len(queries), min(_QUERIES, fitting)):
            _keep_block(_shifted(queries[asked]), images, squares, block.start, count, kept[asked], share)


def _keep_block(
    queries: NDArray[np.int8],
    images: NDArray[np.int8],
    squares: Whole,
    first: int,
    count: int,
    kept: Whole,
    share: Share,
) -> None:
    keep = kernels().keep_by_products

    def work(products: NDArray[Any], own: Whole, kept: Whole) -> None:
        keep(products, own, squares, first, count, kept)

    products = _products(torch.from_numpy(queries), torch.from_numpy(images))
    share(work, products.numpy(), _squares(queries), kept)


def _shifted(images: Bytes) -> NDArray[np.int8]:
    """Bytes less 128, which no distance sees."""
    return (images ^ 0x80).view(np.int8)


def _squares(images: NDArray[np.int8]) -> Whole:
    """|a|^2 of each of (B, D)."""
    result = np.empty(len(images), dtype=np.int64)
    kernels().sums_of_squares(images, result)
    return result


def _products(first: Tensor, second: Tensor) -> Tensor:
    """The products of int8 (Q, D) and (M, D), exact: (Q, M) int32, or int64 where their sums may not fit."""
    dimensions = first.shape[1]
    in_integers = has_integer_products() and dimensions >= _FEWEST_INTEGERS
    if in_integers and dimensions <= _INTEGER_RUN:
        return torch._int_mm(first, second.T)
    run = _INTEGER_RUN if in_integers else _FLOAT_RUN
    total = torch.zeros(len(first), len(second), dtype=torch.int64)
    for start in range(0, dimensions, run):
        a, b = (images[:, start : start + run].contiguous() for images in (first, second))
        if in_integers and a.shape[1] >= _FEWEST_INTEGERS:
            total += torch._int_mm(a, b.T)
        else:
            total += (a.float() @ b.float().T).long()
    return total


@cache
def has_integer_products() -> bool:
    """Whether the processor multiplies bytes exactly, and so faster than floating point.

    Before the instructions for it (VNNI) sums of two products were kept in 16 bits, which do not hold them.
    """
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    if not any(features.get(name) for name in ("avx512vnni", "avxvnni")):
        return False
    ends = torch.tensor([[127], [-128]], dtype=torch.int8).expand(2, 256).contiguous().repeat(32, 1)  # 64, 256
    return bool(torch.equal(torch._int_mm(ends, ends.T).double(), ends.double() @ ends.double().T))
