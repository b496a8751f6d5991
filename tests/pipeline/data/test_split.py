"""Every image in exactly one split, stratified, the same whatever the order."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.raw.base import SPLITS
from pipeline.data.split import Fractions, assign
from pipeline.errors import Mistake

SIZES = st.lists(st.integers(3, 60), min_size=2, max_size=8)
SHARES = st.tuples(st.floats(0.01, 0.45), st.floats(0.01, 0.45))


def split_of(sizes: list[int], shares: tuple[float, float], seed: int, given: str | None = None) -> dict[str, int]:
    labels = [f"class {i}" for i, size in enumerate(sizes) for _ in range(size)]
    names = [f"{label}/{i}" for i, label in enumerate(labels)]
    return dict(zip(names, _assigned(labels, names, [given] * len(names), shares, seed), strict=True))


def _assigned(labels, names, given, shares, seed):  # type: ignore[no-untyped-def]
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    return assign(labels, hashes, names, given, Fractions(*shares), seed, sorted(set(labels))).tolist()


@given(SIZES, SHARES, st.integers(0, 2**63 - 1))
@settings(deadline=None)
def test_stratified_within_one_image_and_none_empty(sizes: list[int], shares: tuple[float, float], seed: int) -> None:
    result = split_of(sizes, shares, seed)
    assert len(result) == sum(sizes)
    assert set(result.values()) == {0, 1, 2}
    for i, size in enumerate(sizes):
        counts = np.bincount([v for k, v in result.items() if k.startswith(f"class {i}/")], minlength=3)
        assert counts.sum() == size
        assert (counts >= 1).all()
        for split, share in ((1, shares[0]), (2, shares[1])):
            assert abs(counts[split] - size * share) <= 1


@given(SIZES, SHARES, st.integers(0, 2**63 - 1), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_listing_does_not_matter(sizes, shares, seed, random) -> None:  # type: ignore[no-untyped-def]
    expected = split_of(sizes, shares, seed)
    names = list(expected)
    random.shuffle(names)
    labels = [name.split("/")[0] for name in names]
    assert dict(zip(names, _assigned(labels, names, [None] * len(names), shares, seed), strict=True)) == expected


def test_another_seed_is_another_split() -> None:
    assert split_of([50, 50], (0.2, 0.2), 0) != split_of([50, 50], (0.2, 0.2), 1)


def test_an_added_image_moves_few_others() -> None:
    before, after = split_of([100, 200], (0.15, 0.2), 3), split_of([100, 201], (0.15, 0.2), 3)
    assert sum(after[name] != split for name, split in before.items()) <= 3


def test_totals_do_not_add_up_roundings() -> None:
    counts = np.bincount(list(split_of([10] * 100, (0.15, 0.25), 0).values()))
    assert counts.tolist() == [600, 150, 250]


@pytest.mark.parametrize("brought", [("test",), ("validation",), ("validation", "test")])
def test_given_splits_are_kept(brought: tuple[str, ...]) -> None:
    labels, given = [], []
    for split in ("train", *brought):
        labels += ["a"] * 20 + ["b"] * 20
        given += [split] * 40
    names = [f"{split}/{label}/{i}" for i, (label, split) in enumerate(zip(labels, given, strict=True))]
    result = _assigned(labels, names, given, (0.1, 0.2), 0)
    for split, number in zip(given, result, strict=True):
        if split in brought:
            assert SPLITS[number] == split
        else:
            assert SPLITS[number] not in brought
    assert set(result) == {0, 1, 2}


def test_too_few_images_are_named_with_the_least_number() -> None:
    with pytest.raises(Mistake) as caught:
        split_of([2, 5, 1], (0.2, 0.2), 0)
    assert len(caught.value.lines) == 2
    assert caught.value.lines[0].startswith("class class 0: 2 readable images, at least 3 needed")
    with pytest.raises(Mistake, match="class empty: 0 readable images, at least 3"):
        assign(["a"] * 5, ["0" * 64] * 5, list("abcde"), [None] * 5, Fractions(0.2, 0.2), 0, ["a", "empty"])
    with pytest.raises(Mistake, match="1 readable training image, at least 2 needed"):
        _assigned(["a", "b", "b"] * 2, list("uvwxyz"), ["train"] * 3 + ["test"] * 3, (0.2, 0.2), 0)
