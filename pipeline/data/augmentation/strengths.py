"""How strong each transform is for each sample, and the random numbers that it takes: no transform draws its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline import seeding
from pipeline.data.store import Split
from pipeline.errors import Mistake
from pipeline.params import Augment
from pipeline.params.augmentation import WHOLE_SET
from pipeline.params.fields import nearest

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Variants:
    """The settings in force: those of the whole set, and what some classes or images have instead."""

    settings: tuple[Augment, ...]  # the first: of the whole set
    of_sample: NDArray[np.int64] | None = None  # N: which of them a sample has; None: the first

    @cached_property
    def _values(self) -> dict[str, Array]:
        """By key: one number a variant."""
        keys = [key for key in Augment.model_fields if key not in WHOLE_SET]
        return {key: np.array([float(getattr(settings, key)) for settings in self.settings]) for key in keys}

    @cached_property
    def _largest(self) -> dict[str, float]:
        return {key: float(values.max()) for key, values in self._values.items()}

    @cached_property
    def on(self) -> frozenset[str]:
        """The keys that are above 0 for any image."""
        return frozenset(key for key, largest in self._largest.items() if largest > 0)

    @cached_property
    def everywhere(self) -> frozenset[str]:
        """The keys that are above 0 for all images."""
        return frozenset(key for key, values in self._values.items() if values.min() > 0)

    def strength(self, key: str, samples: NDArray[np.int64]) -> Array:
        """One number a sample: (B,)."""
        values = self._values[key]
        return np.full(len(samples), values[0]) if self.of_sample is None else values[self.of_sample[samples]]

    def largest(self, key: str) -> float:
        """Of any image: 0 where the transform is off altogether."""
        return self._largest[key]


def of_split(settings: Augment, train: Split, classes: Sequence[str]) -> Variants:
    """What augment.per_class and augment.per_image make of each training image; an image goes before its class.

    classes: the names of the labels. Raises Mistake that names a class or a path that is not there.
    """
    by_class, by_image = settings.per_class, settings.per_image
    wrong = unknown_classes(settings, classes)
    places = {path: place for place, path in enumerate(train.paths())} if by_image else {}
    wrong += [
        f"params.yaml: augment.per_image.{path}: no such training image{nearest(path, list(places), otherwise='')}"
        " (data/prepared/train/index.parquet lists them; those held out are not augmented)"
        for path in by_image
        if path not in places
    ]
    if wrong:
        raise Mistake(*wrong)
    if not by_class and not by_image:
        return Variants((settings,))
    found, of_sample = [settings], np.zeros(len(train), dtype=np.int64)
    for name, changes in by_class.items():
        of_sample[train.labels == classes.index(name)] = len(found)
        found.append(settings.with_changes(changes))
    for path, changes in by_image.items():
        before = found[of_sample[places[path]]]
        of_sample[places[path]] = len(found)
        found.append(before.with_changes(changes))
    return Variants(tuple(found), of_sample)


def unknown_classes(settings: Augment, classes: Sequence[str]) -> list[str]:
    """What is wrong with the names in augment.per_class: a line each."""
    unknown = [name for name in settings.per_class if name not in classes]
    return [f"params.yaml: augment.per_class.{name}: no such class{nearest(name, classes)}" for name in unknown]


@dataclass(frozen=True)
class Numbers:
    """Of some samples in one epoch: strengths by key, and numbers as a function of (seed, purpose, epoch, sample)."""

    seed: int
    epoch: int
    samples: NDArray[np.int64]  # B
    variants: Variants

    def __len__(self) -> int:
        return len(self.samples)

    def on(self, key: str) -> bool:
        """Whether any image of the set, in this batch or not, has this transform."""
        return key in self.variants.on

    def everywhere(self, key: str) -> bool:
        """Whether all images of the set have it."""
        return key in self.variants.everywhere

    def named(self, purpose: str) -> str:
        """The stream that `purpose` draws from."""
        return purpose

    def strength(self, key: str) -> Array:
        """(B,)."""
        return self.variants.strength(key, self.samples)

    def uniform(self, purpose: str, draws: int) -> Array:
        """Numbers in [0, 1): (B, draws)."""
        return seeding.uniform(self.seed, self.named(purpose), self.epoch, self.samples, draws)

    def normal(self, purpose: str, draws: int) -> Array:
        """Standard normal numbers: (B, draws)."""
        return seeding.normal(self.seed, self.named(purpose), self.epoch, self.samples, draws)

    def coin(self, purpose: str) -> NDArray[np.bool_]:
        """One toss a sample for all epochs: (B,)."""
        return seeding.uniform(self.seed, self.named(purpose), 0, self.samples, 1)[:, 0] < 0.5

    def direction(self, purpose: str, draws: int = 1) -> Array:
        """How much of the strength, and which way: numbers in [-1, 1), shape (B, draws)."""
        return 2 * self.uniform(purpose, draws) - 1

    def amount(self, key: str, purpose: str, draws: int = 1, unit: float = 1.0) -> Array:
        """Up to the strength either way, times `unit`: (B, draws)."""
        return self.strength(key)[:, None] * unit * self.direction(purpose, draws)

    def part(self, key: str, purpose: str) -> Array:
        """Between nothing and the strength: (B,)."""
        return self.strength(key) * self.uniform(purpose, 1)[:, 0]

    def keys(self, purpose: str) -> NDArray[np.int32]:
        """A 32-bit name of a stream of numbers that the device makes itself: (B,)."""
        return (
            (seeding.bits(self.seed, self.named(purpose), self.epoch, self.samples, 1)[:, 0] >> np.uint64(32))
            .astype(np.uint32)
            .view(np.int32)
        )


@dataclass(frozen=True)
class Operation(Numbers):
    """One operation that TrivialAugment or RandAugment chose for each sample: its whole strength, either way."""

    place: int = 0  # among the operations of an image
    strengths: Mapping[str, Array] = field(default_factory=dict)  # by key: (B,), 0 where another was chosen

    def on(self, key: str) -> bool:
        return key in self.strengths

    def everywhere(self, key: str) -> bool:
        return False

    def strength(self, key: str) -> Array:
        return self.strengths.get(key, np.zeros(len(self)))

    def named(self, purpose: str) -> str:
        return f"automatic {self.place} {purpose}"

    def direction(self, purpose: str, draws: int = 1) -> Array:
        return np.where(self.uniform(purpose, draws) < 0.5, -1.0, 1.0)

    def part(self, key: str, purpose: str) -> Array:
        return self.strength(key)
