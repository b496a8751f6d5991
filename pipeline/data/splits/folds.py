"""The folds of cross-validation: each image outside test is validated on in one of k, and trained on in the others."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.splits.groups import evenly, units_by
from pipeline.data.splits.strategies import Columns, drawn, draws_of, refuse_ungrouped, titled
from pipeline.errors import Mistake


def assign_folds(images: Columns, classes: Sequence[str], folds: int, seed: int, strategy: str) -> NDArray[np.int64]:
    """The fold, 0 to folds - 1, of each image; only those outside test are given.

    strategy: data.split's; *given* is *grouped* where there are groups, else *stratified*. Raises Mistake when a fold
    would be empty, or a class be in one fold alone, so that nothing of it were left to train on.
    """
    if strategy == "given":
        strategy = "grouped" if any(group is not None for group in images.groups) else "stratified"
    if strategy == "grouped":
        units = units_by(refuse_ungrouped(images), images.labels)
        if len(units.names) < folds:
            raise Mistake(f"data.folds: {folds}, but only {len(units.names)} groups outside test; lower it")
        result = np.zeros(len(images.labels), dtype=np.int64)
        for members, fold in zip(
            units.members, evenly(units, classes, dict.fromkeys(range(folds), 1 / folds), seed).tolist(), strict=True
        ):
            result[members] = fold
    elif strategy == "stable":
        result = np.floor(draws_of(images.hashes, seed, "fold") * folds).astype(np.int64)
    else:
        result = _stratified(images, classes, folds, seed)
    _refuse_unfit(result, images.labels, classes, folds)
    return result


def _stratified(images: Columns, classes: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """Each class in runs of equal length, so that equal contents mostly stay together."""
    pools: dict[str, list[int]] = {label: [] for label in classes}
    for index, label in enumerate(images.labels):
        pools[label].append(index)
    few = [(label, len(pool)) for label, pool in pools.items() if len(pool) < folds]
    if few:
        raise Mistake(
            *(
                f"{titled(label)}: {count} images outside test, at least {folds} needed for data.folds: {folds};"
                " add some, or lower it"
                for label, count in few
            )
        )
    result = np.zeros(len(images.labels), dtype=np.int64)
    larger = 0  # the fold that gets the next image which does not divide
    for pool in pools.values():
        short, more = divmod(len(pool), folds)
        sizes = np.full(folds, short)
        sizes[(larger + np.arange(more)) % folds] += 1
        larger += more
        result[drawn(pool, images, seed, "fold")] = np.repeat(np.arange(folds), sizes)
    return result


def _refuse_unfit(result: NDArray[np.int64], labels: Sequence[str], classes: Sequence[str], folds: int) -> None:
    empty = sorted(set(range(folds)) - set(result.tolist()))
    if empty:
        raise Mistake(f"data.folds: {folds} leaves fold {empty[0]} empty; lower it, or add images")
    held: dict[str, set[int]] = {label: set() for label in classes}
    for label, fold in zip(labels, result.tolist(), strict=True):
        held[label].add(fold)
    alone = [label for label, where in held.items() if len(where) < 2]
    if alone:
        raise Mistake(
            *(
                f"{titled(label)}: in one of data.folds: {folds} alone, so that nothing of it is left to train on;"
                " add images, or set data.split: stratified"
                for label in alone
            )
        )
