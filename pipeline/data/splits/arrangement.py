"""Which images are used, and for what: split, looked through for copies, rid of those that leak, dealt into folds."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks.findings import Examined, Finding, examine
from pipeline.data.checks.leaks import Leaks, copied_from, find_leaks
from pipeline.data.listing import Listing
from pipeline.data.raw.base import SPLITS, TEST, TRAIN, VALIDATION
from pipeline.data.splits.folds import assign_folds
from pipeline.data.splits.strategies import Columns, Fractions, assign, strategy_for, titled
from pipeline.data.text import shown
from pipeline.errors import Mistake
from pipeline.params import Params
from pipeline.pictures import spread

DROPPED = len(SPLITS)  # of a copy that data.on_leak: drop takes out
PLACES = (*SPLITS, "dropped")
_NAMED_BAD_FILES = 10
_NAMED_LEAKS = 10
_SHOWN_LEAKS = 24


@dataclass(frozen=True)
class Prepared:
    """Which of the listed images go where."""

    listing: Listing
    rows: NDArray[np.int64]  # of the readable images in the listing, and in the packed array
    splits: NDArray[np.int64]  # of each of those, as an index into SPLITS
    labels: NDArray[np.int64]  # of each of those, as an index into the classes
    images: Columns  # of each of those, what the splits were made from
    strategy: str  # by which they were made
    lent: tuple[int, ...]  # those put elsewhere, so that each split has each class
    folds: NDArray[np.int64] | None  # of each of those; -1 in no fold
    quarantined: tuple[tuple[str, str], ...]  # path, why

    def of(self, split: str) -> NDArray[np.int64]:
        """Positions, among the readable images, of those in a split."""
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def counts(self, split: str) -> list[int]:
        """Images of each class in a split."""
        numbers: list[int] = np.bincount(
            self.labels[self.of(split)], minlength=max(1, len(self.listing.classes))
        ).tolist()
        return numbers


def arrange(listing: Listing, bad: Sequence[tuple[int, str]], params: Params) -> Prepared:
    """Leave out the bad images and split the rest.

    bad: (place in the listing, why). Raises Mistake when they are more than data.max_bad_fraction, naming the first
    ten, or when a class has too few images left.
    """
    reasons = dict(bad)
    quarantined = tuple((listing.items[index].path, reasons[index]) for index in sorted(reasons))
    allowed = params.data.max_bad_fraction
    if len(bad) > allowed * len(listing.items):
        named = [f"{shown(path)}: {why}" for path, why in quarantined[:_NAMED_BAD_FILES]]
        if len(bad) > len(named):
            named.append(f"... and {len(bad) - len(named)} more")
        raise Mistake(
            f"{len(bad)} of {len(listing.items)} files cannot be read, more than data.max_bad_fraction ({allowed:g})"
            " allows; mend or remove them, or raise it:",
            *named,
        )
    rows = np.array([index for index in range(len(listing.items)) if index not in reasons], dtype=np.int64)
    items = [listing.items[index] for index in rows.tolist()]
    images = Columns(
        labels=[item.label or "" for item in items],
        hashes=[item.sha256 or "" for item in items],
        names=[item.path for item in items],
        given=[item.split for item in items],
        groups=[item.group for item in items],
    )
    strategy = strategy_for(params.data.split, images, grows=params.data.path is not None)
    classes = listing.classes or ("",)
    fractions = Fractions(validation=params.data.validation_fraction, test=params.data.test_fraction)
    splits, lent = assign(images, classes, fractions, params.seed, strategy)
    number = {label: index for index, label in enumerate(classes)}
    labels = np.array([number[label] for label in images.labels], dtype=np.int64)
    return Prepared(listing, rows, splits, labels, images, strategy, tuple(lent), None, quarantined)


@dataclass(frozen=True)
class Checked:
    """What the checks found among the readable images."""

    examined: Examined  # numbers images in the order of their names
    order: NDArray[np.int64]  # the position, among the readable images, of each of those numbers
    findings: tuple[Finding, ...]
    leaks: Leaks
    leaking: tuple[Finding, ...]  # some of the pairs across splits, those of test images first


def check(
    prepared: Prepared, descriptors: NDArray[np.uint8] | None, sizes: NDArray[np.int32], image_size: int
) -> Checked:
    """Look for copies, conflicts and odd images; descriptors and sizes have one row an image of the listing.

    descriptors None: the images are vectors of numbers, in which nothing is looked for.
    """
    images = prepared.images
    order = np.array(sorted(range(len(images.names)), key=lambda index: images.names[index]), dtype=np.int64)
    listed = prepared.rows[order]
    ordered = images.of(order.tolist())
    described = None if descriptors is None else descriptors[listed]
    examined = examine(ordered.hashes, ordered.labels, described, sizes[listed], image_size)
    splits = prepared.splits[order]
    leaks = find_leaks(splits, examined.contents, examined.pairs)
    kinds = (leaks.tested_exact, leaks.tested_near, leaks.chosen_exact, leaks.chosen_near)
    suspects = np.concatenate([np.flatnonzero(kind) for kind in kinds])
    leaking = []
    for image in suspects[spread(len(suspects), _SHOWN_LEAKS)].tolist():
        other, exact = copied_from(image, splits, examined.contents, examined.pairs)
        leaking.append(Finding("exact copy" if exact else "near copy", image, other))
    return Checked(examined, order, tuple(examined.findings()), leaks, tuple(leaking))


def settle(prepared: Prepared, checked: Checked, on_leak: str) -> Prepared:
    """What data.on_leak says about copies across splits: nothing (warn), Mistake (fail), or leave them out (drop).

    Left out is the copy in the split that is looked at sooner: test keeps all its images. Raises Mistake when a class
    would lose its last image in a split.
    """
    leaks = checked.leaks
    if on_leak == "fail" and leaks:
        lines = []
        for finding in checked.leaking[:_NAMED_LEAKS]:
            one, other = (int(checked.order[number]) for number in (finding.image, finding.other or 0))
            split, own = (PLACES[int(prepared.splits[index])] for index in (other, one))
            names = prepared.images.names
            lines.append(f"{shown(names[one])} ({own}): {finding.kind} of {shown(names[other])} ({split})")
        count = leaks.total
        raise Mistake(
            f"{count} images have a copy in a split before theirs, and data.on_leak is fail; remove them, or set drop:",
            *lines,
            *([f"... and {count - len(lines)} more"] if count > len(lines) else []),
        )
    if on_leak != "drop" or not leaks:
        return prepared
    splits = prepared.splits.copy()
    splits[checked.order[leaks.surplus]] = DROPPED
    settled = replace(prepared, splits=splits)
    emptied = [
        f"{titled(label)}: data.on_leak: drop leaves none of its images in {split}, since all are copies of what is"
        " tested or chosen on; add others, or set warn"
        for split in (TRAIN, VALIDATION)
        for label, count in zip(prepared.listing.classes or ("",), settled.counts(split), strict=True)
        if not count
    ]
    if emptied:
        raise Mistake(*emptied)
    return settled


def in_folds(prepared: Prepared, folds: int | None, seed: int) -> Prepared:
    """Deal the images of train and validation out into folds, where data.folds asks for them."""
    if folds is None:
        return prepared
    pool = np.flatnonzero((prepared.splits != SPLITS.index(TEST)) & (prepared.splits != DROPPED))
    result = np.full(len(prepared.rows), -1, dtype=np.int64)
    classes = prepared.listing.classes or ("",)
    result[pool] = assign_folds(prepared.images.of(pool.tolist()), classes, folds, seed, prepared.strategy)
    return replace(prepared, folds=result)


def split_table(prepared: Prepared) -> str:
    """CSV, one image a line, in the order of the names: for a person to read and to compare."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", "label", "group", "split", "fold"])
    images = prepared.images
    for index in sorted(range(len(images.names)), key=lambda index: images.names[index]):
        fold = "" if prepared.folds is None or prepared.folds[index] < 0 else int(prepared.folds[index])
        place = PLACES[int(prepared.splits[index])]
        group = shown(images.groups[index] or "")
        writer.writerow([shown(images.names[index]), images.labels[index], group, place, fold])
    return stream.getvalue()


def groups_cut(prepared: Prepared) -> int:
    """Groups of which images lie in several splits: the source may give its splits so."""
    places: dict[str, set[int]] = {}
    for group, place in zip(prepared.images.groups, prepared.splits.tolist(), strict=True):
        if group is not None and place != DROPPED:
            places.setdefault(group, set()).add(place)
    return sum(len(held) > 1 for held in places.values())
