"""Dealing out what must stay together: groups, and files of equal content."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import seeding
from pipeline.errors import Mistake


class Units(NamedTuple):
    """What is dealt out as a whole, in the order of the names."""

    names: list[str]
    members: list[list[int]]  # the images of each
    labels: list[Counter[str]]  # how many of each class


def units_by(names: Sequence[str], labels: Sequence[str]) -> Units:
    """The images gathered by name; labels has one entry an image too."""
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    ordered = sorted(members)
    return Units(
        ordered,
        [members[name] for name in ordered],
        [Counter(labels[index] for index in members[name]) for name in ordered],
    )


def evenly(units: Units, classes: Sequence[str], shares: Mapping[int, float], seed: int) -> NDArray[np.int64]:
    """A place for each unit, so that each place has about its share of each class.

    Greedy, the largest first: each goes where the squared error over the wanted counts (chi-squared) grows least. Units
    of one size are taken in an order drawn from the seed.
    """
    number = {label: index for index, label in enumerate(classes)}
    held = np.zeros((len(units.names), len(classes)))
    for row, labels in enumerate(units.labels):
        for label, count in labels.items():
            held[row, number[label]] = count
    places = list(shares)
    target = np.outer([shares[place] for place in places], held.sum(0))  # places, classes
    spread = np.maximum(target, 1e-9)
    filled = np.zeros_like(target)
    draw = seeding.permutation(seed, "groups", 0, len(units.names))
    result = np.zeros(len(units.names), dtype=np.int64)
    for row in np.lexsort((draw, -held.sum(1))).tolist():
        growth = (held[row] * (held[row] + 2 * (filled - target)) / spread).sum(1)
        best = int(growth.argmin())
        filled[best] += held[row]
        result[row] = places[best]
    return result


def complete(
    units: Units, places: NDArray[np.int64], order: Sequence[float], classes: Sequence[str], needed: Sequence[int]
) -> list[int]:
    """Move single units, in `places`, until each class is in each of the needed places; which ones were moved.

    The last of `needed` is where most units are: from there come those of the lowest `order`, so that what is moved
    lies nearest to where it goes. Nothing moves whose leaving would take a class out of a place.
    Raises Mistake when that cannot be.
    """
    holders: dict[str, list[int]] = {label: [] for label in classes}
    counts: Counter[tuple[str, int]] = Counter()
    for unit, labels in enumerate(units.labels):
        for label in labels:
            holders[label].append(unit)
            counts[label, int(places[unit])] += 1
    moved: list[int] = []
    largest = needed[-1]
    for place in needed:
        for label in classes:
            if counts[label, place]:
                continue
            free = [
                unit
                for unit in holders[label]
                if unit not in moved and all(counts[other, int(places[unit])] > 1 for other in units.labels[unit])
            ]
            if not free:
                raise Mistake(
                    f"class {label}: its images cannot be in every split without taking another class out of one, since"
                    " some belong together; add images, or set data.split: stratified"
                )
            sign = -1 if place == largest else 1
            chosen = min(free, key=lambda unit: (places[unit] != largest, sign * order[unit], units.names[unit]))
            for other in units.labels[chosen]:
                counts[other, int(places[chosen])] -= 1
                counts[other, place] += 1
            places[chosen] = place
            moved.append(chosen)
    return moved
