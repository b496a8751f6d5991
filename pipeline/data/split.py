"""Which image belongs to which split: a pure function of the seed and the images, never of the order of listing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline import seeding
from pipeline.data.raw.base import SPLITS, TEST, TRAIN, VALIDATION
from pipeline.errors import Mistake


@dataclass(frozen=True)
class Fractions:
    """Shares of the images that a split is made from: all of them, or the given train split."""

    validation: float
    test: float


def assign(
    labels: Sequence[str],
    hashes: Sequence[str],
    names: Sequence[str],
    given: Sequence[str | None],
    fractions: Fractions,
    seed: int,
    classes: Sequence[str],
) -> NDArray[np.int64]:
    """The split of each image, as an index into SPLITS.

    labels, hashes (sha256 in hexadecimal), names and given (its split where the source says it) have one entry an
    image; classes names all there are, also those without a readable image. A split that the source brings is kept;
    one that it does not bring is taken from the train images, stratified:
    from each class within one image of its share, and in total within one, but never none. An image's place in the
    draw depends on the seed and its own content alone, so that adding an image moves few others, and equal files of a
    class mostly stay together.

    Raises Mistake for each class with too few images.
    """
    brought = {split for split in given if split is not None}
    result = np.array([SPLITS.index(split or TRAIN) for split in given], dtype=np.int64)
    wanted = [(split, share) for split, share in ((TEST, fractions.test), (VALIDATION, fractions.validation))]
    wanted = [(split, share) for split, share in wanted if split not in brought]
    pools: dict[str, list[int]] = {label: [] for label in classes}
    for index, label in enumerate(labels):
        if result[index] == 0:
            pools[label].append(index)
    least = 1 + len(wanted)
    few = [(label, len(pool)) for label, pool in pools.items() if len(pool) < least]
    if few:
        kept = ", ".join([TRAIN, *(split for split, _ in reversed(wanted))])
        noun = "training image" if brought else "image"
        raise Mistake(
            *(
                f"class {label}: {count} readable {noun}{'s' * (count != 1)}, at least {least} needed to have one in"
                f" each of {kept}; add some, or remove the class"
                for label, count in few
            )
        )
    counts = {split: _shares([len(pool) for pool in pools.values()], share) for split, share in wanted}
    for place, pool in enumerate(pools.values()):
        sizes = {split: max(1, counts[split][place]) for split, _ in wanted}
        while sum(sizes.values()) >= len(pool):  # leave one to train on; the least needed was checked above
            largest = max(sizes, key=lambda split: sizes[split])
            sizes[largest] -= 1
        order = _drawn(pool, hashes, names, seed)
        start = 0
        for split, size in sizes.items():
            result[order[start : start + size]] = SPLITS.index(split)
            start += size
    return result


def _drawn(pool: list[int], hashes: Sequence[str], names: Sequence[str], seed: int) -> list[int]:
    samples = np.array([int(hashes[index][:16], 16) for index in pool], dtype=np.uint64)
    draws = seeding.bits(seed, "split", 0, samples, 1)[:, 0].tolist()
    return [index for _, _, index in sorted(zip(draws, (names[i] for i in pool), pool, strict=True))]


def _shares(sizes: list[int], share: float) -> list[int]:
    """Whole numbers within one of size * share each, their sum the nearest to the exact total: largest remainders."""
    exact = [size * share for size in sizes]
    result = [int(value) for value in exact]
    left = round(sum(exact)) - sum(result)
    by_remainder = sorted(range(len(sizes)), key=lambda i: (result[i] - exact[i], i))
    for i in by_remainder[: max(0, left)]:
        result[i] += 1
    return result
