"""Pictures that are almost the same: found by a perceptual hash, verified on thumbnails.

Comparing all with all would be quadratic. Two near copies have 64-bit hashes that differ in few bits, mostly in those
that were close calls; so they agree wholly on one of four windows of the hash (the pigeonhole principle), once the
closest calls of that window are tried both ways. Only images that meet in such a table are compared.

Known to be missed: crops and rotations beyond a sixteenth of the side, and images of one brightness throughout.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks.descriptor import SIDE, Descriptors, unpack

SIMILAR = 0.84  # from here on two images are near copies: 99 of 100 by eye on CIFAR-10 (docs/data.md)
FLAT = 4.0  # standard deviation of brightness below which noise is all there is to compare
_BITS = 64
_STRIDE = 16  # between the windows' beginnings
_FEWEST_BITS = 16  # a window's; more for large sets, so that as few meet by chance
_CLOSE_CALLS = 5  # bits of a window that are tried both ways
_MOST_MET = 16  # images that one image meets at one place of a table: bounds the work on sets of look-alikes
_MOST_APART = 20  # bits by which the hashes of two that are compared may differ
_LEAST_ALIKE = 0.6  # correlation of thumbnails, below which no shift makes them similar
_LEAST_CHROMA_APART = 48.0  # root mean square of the colours' differences, from which they are two pictures
_WHOLE = [(down, right) for down in (0, -1, 1) for right in (0, -1, 1)]  # shifts, in cells, that are tried
_HALF = [(d / 2, r / 2) for d in range(-2, 3) for r in range(-2, 3) if d % 2 or r % 2]  # then these
_WORTH_A_LOOK, _SURE = 0.4, 0.95  # similarities between which shifts by half a cell are tried too
_NOISE = 10.0  # norm of a thumbnail's gradient that rounding alone may make
_NEIGHBOURS = 10  # which neighbour tells how alike a set's images are at all
_TIMES_CLOSER = 3.0  # than that one, two copies must be
_ROWS = 1 << 16  # images looked up at a time
_PAIRS = 1 << 12  # pairs compared at a time: they take some KB each, and so stay in the cache


class Pairs(NamedTuple):
    """Near copies, each pair once and in ascending order."""

    first: NDArray[np.int64]  # P
    second: NDArray[np.int64]  # P: above `first`
    similarity: NDArray[np.float64]  # P: SIMILAR to 1
    mirrored: NDArray[np.bool_]  # P: whether one is the other's mirror image
    threshold: float  # the similarity that was asked for


def near_copies(descriptors: NDArray[np.uint8]) -> Pairs:
    """All pairs of images, given by their descriptors (N, LENGTH), that are at least SIMILAR: see `similarity`.

    In a set of look-alikes, such as digits, more is asked for: that two be three times as close as nineteen of twenty
    images are to their tenth nearest (in the manner of Lowe 2004, section 7.1). About 97 % of what is there is found on
    CIFAR-10; the work grows with N log N.
    """
    chosen = np.flatnonzero(unpack(descriptors).contrast >= FLAT)
    images = unpack(descriptors[chosen])
    coefficients = _coefficients(images.thumbnails)
    plain, mirrored = (_that_meet(coefficients, flag) for flag in (False, True))
    scores = _scores(images, plain, mirrored=False)
    similar = max(SIMILAR, 1 - (1 - _nearness(plain, scores, len(chosen))) / _TIMES_CLOSER)
    mirrored_scores = _scores(images, mirrored, mirrored=True)
    kept, mirrored_kept = scores >= similar, mirrored_scores >= similar
    found = _merged((plain[kept], scores[kept]), (mirrored[mirrored_kept], mirrored_scores[mirrored_kept]))
    return Pairs(chosen[found.first], chosen[found.second], found.similarity, found.mirrored, similar)


def _scores(images: Descriptors, pairs: NDArray[np.int64], *, mirrored: bool) -> NDArray[np.float64]:
    parts = [pairs[start : start + _PAIRS] for start in range(0, len(pairs), _PAIRS)]
    return np.concatenate([np.empty(0), *(similarity(images, part, mirrored) for part in parts)])


def _nearness(pairs: NDArray[np.int64], scores: NDArray[np.float64], count: int) -> float:
    """How similar an image is to its tenth nearest, at the 95th percentile; 0 where they meet fewer."""
    known = scores > 0  # the rest, most of millions, are no nearer than none
    image, score = pairs[known].T.ravel(), np.tile(scores[known], 2)
    ascending = np.lexsort((score, image))
    image, score = image[ascending], score[ascending]
    end = np.searchsorted(image, np.arange(count), side="right")
    begin = np.searchsorted(image, np.arange(count))
    nearness = np.zeros(count)
    enough = end - begin >= _NEIGHBOURS
    nearness[enough] = score[end[enough] - _NEIGHBOURS]
    return float(np.quantile(nearness, 0.95)) if count else 0.0


def similarity(images: Descriptors, pairs: NDArray[np.int64], mirrored: bool) -> NDArray[np.float64]:
    """How alike the images of each pair (P, 2) are, from -1 to 1, the second one mirrored first if so asked.

    The correlation of the thumbnails' gradients: the lower one of horizontal and vertical, at the best shift by up to a
    cell each way. Neither brightness nor contrast plays a role; a horizon shared by all pictures of the sea has
    no horizontal gradient. Colours that are wholly others make two pictures: 0.
    """
    result = np.zeros(len(pairs))
    a, b = images.thumbnails[pairs[:, 0]].astype(np.float32), images.thumbnails[pairs[:, 1]].astype(np.float32)
    colours = images.colours[pairs].astype(np.float32)  # P, 2, 4, 4, 2
    if mirrored:
        b = b[:, :, ::-1]
        colours[:, 1] = colours[:, 1, :, ::-1].copy()
    apart = np.sqrt(((colours[:, 0] - colours[:, 1]) ** 2).mean((1, 2, 3)))
    rest = np.flatnonzero((_correlation(a, b) >= _LEAST_ALIKE) & (apart < _LEAST_CHROMA_APART))
    scores = _aligned(a[rest], b[rest], _WHOLE)
    unsure = (scores >= _WORTH_A_LOOK) & (scores < _SURE)
    scores[unsure] = np.maximum(scores[unsure], _aligned(a[rest[unsure]], b[rest[unsure]], _HALF))
    result[rest] = np.minimum(scores, 1.0)
    return result


def _aligned(
    a: NDArray[np.float32], b: NDArray[np.float32], shifts: Sequence[tuple[float, float]]
) -> NDArray[np.float64]:
    """The best agreement (P,) over shifts, down and to the right, in cells: of at most 1, whole or half."""
    best = np.full(len(a), -1.0)
    still: dict[tuple[bool, ...], list[NDArray[np.float32]]] = {}  # of `a`: the same for many shifts
    for shift in shifts if len(a) else ():
        halves = tuple(by != np.floor(by) for by in shift)
        if halves not in still:
            still[halves] = _gradients(_inner(_inner(a, 1, halves[0]), 2, halves[1]))
        moved = _gradients(_shifted(_shifted(b, 1, shift[0]), 2, shift[1]))
        along = zip(still[halves], moved, strict=True)
        best = np.maximum(best, np.minimum(*(np.einsum("pi,pi->p", x, y) for x, y in along)))
    return best


def _inner(image: NDArray[np.float32], axis: int, blurred: bool) -> NDArray[np.float32]:
    """The inner cells along an axis; blurred by a quarter of a squared cell, as `_shifted` blurs by half a cell."""
    if not blurred:
        return _cells(image, axis, 1)
    mean = (_cells(image, axis, 0) + 6 * _cells(image, axis, 1) + _cells(image, axis, 2)) / 8
    return mean.astype(np.float32)


def _shifted(image: NDArray[np.float32], axis: int, by: float) -> NDArray[np.float32]:
    """As many cells along an axis, from `by` cells further: half a cell between two is their mean."""
    start = int(np.floor(by)) + 1
    if by == np.floor(by):
        return _cells(image, axis, start)
    return (_cells(image, axis, start) + _cells(image, axis, start + 1)) / np.float32(2)


def _cells(image: NDArray[np.float32], axis: int, start: int) -> NDArray[np.float32]:
    return image[:, start : start + SIDE - 2] if axis == 1 else image[:, :, start : start + SIDE - 2]


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = [image.reshape(len(image), -1) for image in (a, b)]
    centred = [image - image.mean(1, keepdims=True) for image in flat]
    product, left, right = (
        np.einsum("pi,pi->p", x, y) for x, y in ((centred[0], centred[1]), (centred[0],) * 2, (centred[1],) * 2)
    )
    result: NDArray[np.float32] = product / np.sqrt(np.maximum(left * right, 1.0))
    return result


def _gradients(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Horizontal and vertical differences, each of norm 1: (P, m). A last entry stands for noise: where neither of two
    images has a gradient, they agree."""
    result = []
    for axis in (2, 1):
        steps = np.diff(images, axis=axis).reshape(len(images), -1)
        steps = np.concatenate([steps, np.full((len(steps), 1), _NOISE, np.float32)], axis=1)
        result.append(steps / np.sqrt(np.einsum("pi,pi->p", steps, steps))[:, None])
    return result


# --- who is compared with whom ----------------------------------------------------------------------------------------


def _frequencies() -> NDArray[np.int64]:
    """The 64 lowest frequencies (vertical, horizontal) without the mean: (64, 2)."""
    grid = [(u * u + v * v, u, v) for u in range(SIDE) for v in range(SIDE)]
    return np.array([(u, v) for _, u, v in sorted(grid)[1 : _BITS + 1]])


def _coefficients(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of the cosine transform (DCT-II) of (N, SIDE, SIDE), the lowest: (N, 64). Their signs are the hash."""
    place = np.arange(SIDE)
    basis = np.cos(np.pi * (2 * place[None, :] + 1) * place[:, None] / (2 * SIDE)).astype(np.float32)
    waves = np.stack([np.outer(basis[u], basis[v]).ravel() for u, v in _frequencies()], axis=1)  # SIDE ** 2, 64
    flat = thumbnails.reshape(-1, SIDE * SIDE)
    parts = [flat[start : start + _ROWS].astype(np.float32) @ waves for start in range(0, len(flat), _ROWS)]
    return np.concatenate(parts or [np.empty((0, _BITS), np.float32)])


def _that_meet(coefficients: NDArray[np.float32], mirrored: bool) -> NDArray[np.int64]:
    """Pairs (P, 2) of images that meet in a table and whose hashes are not far apart; ascending, each once."""
    count = len(coefficients)
    width = max(_FEWEST_BITS, int(np.ceil(np.log2(max(2, count)))))
    asked = coefficients * np.where(mirrored & (_frequencies()[:, 1] % 2 == 1), -1, 1).astype(np.float32)
    hashes, asked_hashes = _packed(coefficients > 0), _packed(asked > 0)
    found = np.empty(0, dtype=np.int64)
    for start in range(0, _BITS, _STRIDE):
        window = (start + np.arange(width)) % _BITS
        keys = _rotated(hashes, start)  # the window first, then the rest, by which neighbours are close
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        shift = np.uint64(_BITS - width)
        begins = np.searchsorted(keys >> shift, np.arange((1 << width) + 1, dtype=np.uint64))
        new = [found]
        for first in range(0, count, _ROWS):
            rows = slice(first, first + _ROWS)
            own = _rotated(asked_hashes[rows], start)
            closest = np.argsort(abs(asked[rows][:, window]), axis=1, kind="stable")[:, :_CLOSE_CALLS]
            calls = np.uint64(1) << (_BITS - 1 - closest).astype(np.uint64)  # B, _CLOSE_CALLS
            for flips in _subsets(calls):
                tried = own ^ flips
                query, met = _neighbours(tried, keys, begins, shift)
                one, other = first + query, order[met]
                close = np.bitwise_count(asked_hashes[one] ^ hashes[other]) <= _MOST_APART
                close &= one != other
                one, other = one[close], other[close]
                new.append(np.minimum(one, other) * count + np.maximum(one, other))
        found = _distinct(np.concatenate(new))
    return np.stack([found // max(1, count), found % max(1, count)], axis=1)


def _distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ascending, each once. np.unique hashes whole numbers, which takes several times as long for millions."""
    ascending = np.sort(values)
    return ascending[np.diff(ascending, prepend=-1) > 0]


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """(N, 64) to (N,), the first bit the highest."""
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _rotated(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """The bit at this place, from the highest, becomes the first."""
    return (hashes << np.uint64(bits)) | (hashes >> np.uint64((_BITS - bits) % _BITS))


def _subsets(calls: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
    """Every choice among the columns of (B, c), as one mask a row."""
    for size in range(calls.shape[1] + 1):
        for chosen in combinations(range(calls.shape[1]), size):
            yield np.bitwise_or.reduce(calls[:, list(chosen)], axis=1)


def _neighbours(
    tried: NDArray[np.uint64], keys: NDArray[np.uint64], begins: NDArray[np.int64], shift: np.uint64
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Who meets whom: positions in `tried` and in the sorted `keys` with the same window, the nearest where many do."""
    window = (tried >> shift).astype(np.int64)
    low, high = begins[window], begins[window + 1]
    crowded = np.flatnonzero(high - low > _MOST_MET)
    if len(crowded):
        middle = np.searchsorted(keys, tried[crowded]) - _MOST_MET // 2
        low[crowded] = np.clip(middle, low[crowded], high[crowded] - _MOST_MET)
        high[crowded] = low[crowded] + _MOST_MET
    counts = high - low
    query = np.repeat(np.arange(len(tried)), counts)
    return query, np.arange(len(query)) + np.repeat(low - (np.cumsum(counts) - counts), counts)


def _merged(
    plain: tuple[NDArray[np.int64], NDArray[np.float64]], mirrored: tuple[NDArray[np.int64], NDArray[np.float64]]
) -> Pairs:
    """One entry a pair: as it is rather than mirrored, where it is both."""
    pairs = np.concatenate([plain[0], mirrored[0]])
    scores = np.concatenate([plain[1], mirrored[1]])
    flags = np.repeat([False, True], [len(plain[0]), len(mirrored[0])])
    unique, first = np.unique(pairs, axis=0, return_index=True)  # the first of equals: the plain one
    return Pairs(unique[:, 0], unique[:, 1], scores[first], flags[first], SIMILAR)
