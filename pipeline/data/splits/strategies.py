"""Which image belongs to which split: a pure function of the seed and the images, never of the order of listing.

*stratified*: each class is dealt out in the wanted shares. *stable*: each image by a hash of its content, so that
adding images moves no other. *grouped*: whole groups, as evenly over the classes as they allow. *given*: as the source
says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import seeding
from pipeline.data.raw.base import SPLITS, TEST, TRAIN, VALIDATION
from pipeline.data.splits.groups import Units, complete, evenly, units_by
from pipeline.data.text import shown
from pipeline.errors import Mistake

_NAMED = 10  # images that a message names
_TRAIN = SPLITS.index(TRAIN)


@dataclass(frozen=True)
class Fractions:
    """Shares of the images that a split is made from: all of them, or the given train split."""

    validation: float
    test: float


class Columns(NamedTuple):
    """What splits depend on, one entry an image."""

    labels: Sequence[str]  # "" for all images of a set without labels
    hashes: Sequence[str]  # sha256 in hexadecimal
    names: Sequence[str]
    given: Sequence[str | None]  # its split, where the source says it
    groups: Sequence[str | None]  # what must not be cut

    def of(self, rows: Sequence[int]) -> "Columns":
        """Some of the images."""
        return Columns(
            [self.labels[row] for row in rows],
            [self.hashes[row] for row in rows],
            [self.names[row] for row in rows],
            [self.given[row] for row in rows],
            [self.groups[row] for row in rows],
        )


class Assigned(NamedTuple):
    splits: NDArray[np.int64]  # N: an index into SPLITS
    lent: list[int]  # images that *stable* had to put elsewhere so that no split lacks a class


def strategy_for(wanted: str, images: Columns, *, grows: bool) -> str:
    """What data.split `wanted` comes to; grows: whether images may be added to the source."""
    if wanted != "auto":
        return wanted
    if any(split is not None for split in images.given):
        return "given"
    if any(group is not None for group in images.groups):
        return "grouped"
    return "stable" if grows else "stratified"


def assign(images: Columns, classes: Sequence[str], fractions: Fractions, seed: int, strategy: str) -> Assigned:
    """The split of each image.

    classes names all there are, also those without a readable image; ("",) for a set without labels. *given* keeps what
    the source brings; a split that it does not bring is taken from the train images, *grouped* where there are groups,
    else *stratified*. The other strategies deal out all images, whatever the source says.

    Raises Mistake for each class that cannot be in every split, for images without a group, and for a strategy that
    the source does not serve.
    """
    result = np.full(len(images.labels), _TRAIN, dtype=np.int64)
    brought: set[str] = set()
    if strategy == "given":
        brought = {split for split in images.given if split is not None}
        if not brought:
            raise Mistake("data.split: given, but the source brings no splits; use auto, stratified or stable")
        result = np.array([SPLITS.index(split or TRAIN) for split in images.given], dtype=np.int64)
        _refuse_missing(images, classes, result, brought - {TRAIN})
        strategy = "grouped" if any(group is not None for group in images.groups) else "stratified"
    shares = [(TEST, fractions.test), (VALIDATION, fractions.validation)]
    wanted = {SPLITS.index(split): share for split, share in shares if split not in brought}
    pool = np.flatnonzero(result == _TRAIN).tolist()
    noun = "readable training image" if brought else "readable image"
    chosen = images.of(pool)
    lent: list[int] = []
    if strategy == "stratified":
        _refuse_few(_counts(chosen.labels, classes), wanted, noun)
        result[pool] = _stratified(chosen, classes, wanted, seed)
    elif wanted:
        units = units_by(refuse_ungrouped(chosen) if strategy == "grouped" else chosen.hashes, chosen.labels)
        _refuse_few_units(units, chosen, classes, wanted, strategy, noun)
        if strategy == "grouped":
            every = {_TRAIN: 1.0 - sum(wanted.values()), **wanted}
            places = evenly(units, list(classes), every, seed)
            order = places.tolist()  # any group will do
        else:
            draws = draws_of(units.names, seed, "split")
            places, order = _by_draw(draws, wanted), draws.tolist()
        moved = complete(units, places, order, classes, [*wanted, _TRAIN])
        for unit, place in zip(units.members, places.tolist(), strict=True):
            result[[pool[row] for row in unit]] = place
        if strategy == "stable":
            lent = sorted(pool[row] for unit in moved for row in units.members[unit])
    return Assigned(result, lent)


def draws_of(hashes: Sequence[str], seed: int, purpose: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each content, whatever else there is."""
    return seeding.uniform(seed, purpose, 0, _samples(hashes), 1)[:, 0]


def refuse_ungrouped(images: Columns) -> list[str]:
    """The groups, when every image has one. Raises Mistake."""
    if not any(group is not None for group in images.groups):
        raise Mistake(
            "data.split: grouped, but the source brings no groups; name the table's group column, or use auto"
        )
    without = [name for name, group in zip(images.names, images.groups, strict=True) if not (group or "").strip()]
    if without:
        lines = [f"{shown(name)}: no group; fill its cell in the group column" for name in sorted(without)[:_NAMED]]
        if len(without) > len(lines):
            lines.append(f"... and {len(without) - len(lines)} more without a group")
        raise Mistake(*lines)
    return [group for group in images.groups if group is not None]


def titled(label: str) -> str:
    """How messages begin that are about a class, or about all images of a set without labels."""
    return f"class {label}" if label else "the image set"


# --- stratified and stable --------------------------------------------------------------------------------------------


def _stratified(images: Columns, classes: Sequence[str], wanted: dict[int, float], seed: int) -> NDArray[np.int64]:
    """From each class within one image of its share, and in total within one, but never none.

    An image's place in the draw depends on the seed and its own content alone, so that adding an image moves few
    others, and equal files of a class mostly stay together.
    """
    result = np.full(len(images.labels), _TRAIN, dtype=np.int64)
    pools: dict[str, list[int]] = {label: [] for label in classes}
    for index, label in enumerate(images.labels):
        pools[label].append(index)
    counts = {split: _shares([len(pool) for pool in pools.values()], share) for split, share in wanted.items()}
    for place, pool in enumerate(pools.values()):
        sizes = {split: max(1, counts[split][place]) for split in wanted}
        while sum(sizes.values()) >= len(pool):  # leave one to train on; the least needed was checked before
            largest = max(sizes, key=lambda split: sizes[split])
            sizes[largest] -= 1
        order = drawn(pool, images, seed, "split")
        start = 0
        for split, size in sizes.items():
            result[order[start : start + size]] = split
            start += size
    return result


def drawn(pool: list[int], images: Columns, seed: int, purpose: str) -> list[int]:
    """Some images in a random order, in which equal contents lie side by side."""
    draws = seeding.bits(seed, purpose, 0, _samples([images.hashes[index] for index in pool]), 1)[:, 0].tolist()
    return [index for _, _, index in sorted(zip(draws, (images.names[i] for i in pool), pool, strict=True))]


def _samples(hashes: Sequence[str]) -> NDArray[np.uint64]:
    return np.array([int(digest[:16], 16) for digest in hashes], dtype=np.uint64)


def _shares(sizes: list[int], share: float) -> list[int]:
    """Whole numbers within one of size * share each, their sum the nearest to the exact total: largest remainders."""
    exact = [size * share for size in sizes]
    result = [int(value) for value in exact]
    left = round(sum(exact)) - sum(result)
    by_remainder = sorted(range(len(sizes)), key=lambda i: (result[i] - exact[i], i))
    for i in by_remainder[: max(0, left)]:
        result[i] += 1
    return result


def _by_draw(draws: NDArray[np.float64], wanted: dict[int, float]) -> NDArray[np.int64]:
    """The lowest draws are test, then come validation and train: another validation share moves no test image."""
    places = np.full(len(draws), _TRAIN, dtype=np.int64)
    end = sum(wanted.values())
    for split, share in reversed(wanted.items()):
        places[draws < end] = split
        end -= share
    return places


# --- what cannot be ---------------------------------------------------------------------------------------------------


def _counts(labels: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    counts = dict.fromkeys(classes, 0)
    for label in labels:
        counts[label] += 1
    return counts


def _refuse_few(counts: dict[str, int], wanted: dict[int, float], noun: str, more: str = "") -> None:
    least = 1 + len(wanted)
    kept = ", ".join(SPLITS[split] for split in sorted([_TRAIN, *wanted]))
    few = [(label, count) for label, count in counts.items() if count < least]
    if few:
        raise Mistake(
            *(
                f"{titled(label)}: {count} {noun}{'s' * (count != 1)}{more}, at least {least} needed to have one in"
                f" each of {kept}; add some, or remove the class"
                for label, count in few
            )
        )


def _refuse_few_units(
    units: Units, images: Columns, classes: Sequence[str], wanted: dict[int, float], strategy: str, noun: str
) -> None:
    _refuse_few(_counts(images.labels, classes), wanted, noun)
    counts = _counts([label for held in units.labels for label in held], classes)
    if strategy == "grouped":
        noun = "group"
        for label, count in counts.items():
            if count == 1 and len(classes) > 1:
                name = next(n for n, held in zip(units.names, units.labels, strict=True) if label in held)
                raise Mistake(
                    f"{titled(label)}: all of it in one group ({shown(name)}), which cannot be cut; add other groups of"
                    " this class, or set data.split: stratified"
                )
        _refuse_few(counts, wanted, noun)
    else:
        _refuse_few(counts, wanted, f"different {noun}")


def _refuse_missing(images: Columns, classes: Sequence[str], splits: NDArray[np.int64], brought: set[str]) -> None:
    held = set(zip(images.labels, splits.tolist(), strict=True))
    missing = [
        f"{titled(label)}: no image in the given {split} split; add some, remove the class, or set data.split:"
        " stratified, which deals all images out anew"
        for split in SPLITS
        if split in brought | {TRAIN}
        for label in classes
        if (label, SPLITS.index(split)) not in held
    ]
    if missing:
        raise Mistake(*missing)
