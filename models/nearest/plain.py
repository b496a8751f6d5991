"""The search in torch's own operations: it can be exported and runs on any device, and finds what `search` finds.

Exact, since every number on the way is a whole one that its type holds. Not fast: L1 goes through torch.cdist.
"""

import torch
from torch import Tensor

from models.nearest import Distance

_BLOCKS, _IMAGES = 64, 4096  # images in a block, or more, so that an exported graph has at most so many blocks in turn
_PRODUCT_RUN = 1024  # columns whose sums of products of numbers in [-128, 127] are exact in float32: 2^10 * 2^14 = 2^24
_DIFFERENCE_RUN = 65_536  # and whose sums of differences are: 2^16 * 255 < 2^24


def nearest(queries: Tensor, memory: Tensor, k: int, distance: Distance) -> tuple[Tensor, Tensor]:
    """As `search.nearest`: queries (Q, D) and memory (N, D) uint8, distances and indices (Q, k) int64, L2 squared."""
    count = len(memory)
    measure = _absolute if distance == "l1" else _squared
    size = max(_IMAGES, -(-count // _BLOCKS))
    kept = None
    for start in range(0, count, size):
        block = memory[start : start + size]
        indices = torch.arange(start, start + block.shape[0], device=memory.device)
        keys = measure(queries, block) * count + indices  # their order is that of (distance, index)
        keys = keys if kept is None else torch.cat([kept, keys], 1)
        kept = keys.topk(min(k, keys.shape[1]), dim=1, largest=False).values
    assert kept is not None
    return kept // count, kept % count


def _squared(queries: Tensor, images: Tensor) -> Tensor:
    """sum (a - b)^2 = |a|^2 + |b|^2 - 2 ab as (Q, M) int64, of bytes less 128; also where low precision is in force."""
    total = torch.zeros(queries.shape[0], images.shape[0], dtype=torch.int64, device=queries.device)
    for ours, theirs in _runs(queries, images, _PRODUCT_RUN):
        a, b = ours.float() - 128, theirs.float() - 128  # at most 8 bits each: bfloat16 holds them as well
        with torch.autocast(queries.device.type, enabled=False):
            products = a @ b.T
        total += _whole(a.square().sum(1))[:, None] + _whole(b.square().sum(1)) - 2 * _whole(products)
    return total


def _absolute(queries: Tensor, images: Tensor) -> Tensor:
    """sum |a - b| as (Q, M) int64."""
    total = torch.zeros(queries.shape[0], images.shape[0], dtype=torch.int64, device=queries.device)
    for ours, theirs in _runs(queries, images, _DIFFERENCE_RUN):
        with torch.autocast(queries.device.type, enabled=False):
            total += _whole(torch.cdist(ours.float(), theirs.float(), p=1.0))
    return total


def _runs(queries: Tensor, images: Tensor, columns: int) -> list[tuple[Tensor, Tensor]]:
    starts = range(0, images.shape[1], columns)
    return [(queries[:, start : start + columns], images[:, start : start + columns]) for start in starts]


def _whole(numbers: Tensor) -> Tensor:
    return numbers.round().to(torch.int64)
