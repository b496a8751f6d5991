"""What the studies of neighbours share: votes of the k nearest, for many k at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.nearest import Distance

Bytes = NDArray[np.uint8]


def predictions(
    queries: Bytes, memory: Bytes, labels: NDArray[np.int64], counts: Sequence[int], distance: Distance
) -> dict[int, NDArray[np.int64]]:
    """By k, the classes (Q,) that the k nearest of `memory` (N, ...) vote for.

    Of a tie the class whose neighbours are nearer in sum wins, then the smaller label.
    """
    from models.nearest import search

    flat = [np.ascontiguousarray(np.asarray(images).reshape(len(images), -1)) for images in (queries, memory)]
    found, indices = search.nearest(flat[0], flat[1], max(counts), distance)
    away = found.astype(np.float64) if distance == "l1" else np.sqrt(found)
    voted = labels[indices]  # Q, k
    classes = int(labels.max()) + 1
    result = {}
    for count in counts:
        votes, sums = np.zeros((len(voted), classes)), np.zeros((len(voted), classes))
        for rank in range(count):
            np.add.at(votes, (np.arange(len(voted)), voted[:, rank]), 1)
            np.add.at(sums, (np.arange(len(voted)), voted[:, rank]), away[:, rank])
        sums[votes < votes.max(1, keepdims=True)] = np.inf
        result[count] = sums.argmin(1)
    return result
