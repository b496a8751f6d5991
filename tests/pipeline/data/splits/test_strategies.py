"""Every image in exactly one split, as its strategy promises, the same whatever the order."""

import hashlib
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.raw.base import SPLITS
from pipeline.data.splits.folds import assign_folds
from pipeline.data.splits.strategies import Columns, Fractions, assign, strategy_for
from pipeline.errors import Mistake

SIZES = st.lists(st.integers(3, 60), min_size=2, max_size=8)
SHARES = st.tuples(st.floats(0.01, 0.45), st.floats(0.01, 0.45))
SEEDS = st.integers(0, 2**63 - 1)
STRATEGIES = ("stratified", "stable", "grouped")
TEST = SPLITS.index("test")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def columns(labels, names=None, hashes=None, given=None, groups=None) -> Columns:  # type: ignore[no-untyped-def]
    names = names or [f"{label}/{i}" for i, label in enumerate(labels)]
    nothing = [None] * len(names)
    return Columns(labels, hashes or [digest(name) for name in names], names, given or nothing, groups or nothing)


def of_sizes(sizes: list[int], each_group: int = 3) -> Columns:
    """Class by class; groups are of one class and at most `each_group` images, at least three a class."""
    labels = [f"class {i}" for i, size in enumerate(sizes) for _ in range(size)]
    places = [j for size in sizes for j in range(size)]
    groups = [
        f"{label} group {max(j // each_group, j if j < 3 else 0)}" for label, j in zip(labels, places, strict=True)
    ]
    return columns(labels, groups=groups)


def split_of(images: Columns, shares: tuple[float, float] = (0.2, 0.2), seed: int = 0, strategy: str = "stratified"):  # type: ignore[no-untyped-def]
    classes = sorted(set(images.labels))
    result = assign(images, classes, Fractions(*shares), seed, strategy)
    return dict(zip(images.names, result.splits.tolist(), strict=True))


def shuffled(images: Columns, seed: int) -> Columns:
    order = list(range(len(images.names)))
    random.Random(seed).shuffle(order)
    return images.of(order)


def each_class_everywhere(images: Columns, split: dict[str, int]) -> bool:
    held = {(label, split[name]) for label, name in zip(images.labels, images.names, strict=True)}
    return held == {(label, place) for label in set(images.labels) for place in range(3)}


@given(SIZES, SHARES, SEEDS)
def test_stratified_within_one_image_and_none_empty(sizes: list[int], shares: tuple[float, float], seed: int) -> None:
    result = split_of(of_sizes(sizes), shares, seed)
    assert len(result) == sum(sizes)
    for i, size in enumerate(sizes):
        counts = np.bincount([v for k, v in result.items() if k.startswith(f"class {i}/")], minlength=3)
        assert counts.sum() == size
        assert (counts >= 1).all()
        for split, share in ((1, shares[0]), (2, shares[1])):
            assert abs(counts[split] - size * share) <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(sizes=SIZES, shares=SHARES, seed=SEEDS)
@settings(max_examples=40)
def test_each_class_in_each_split_and_the_order_does_not_matter(
    strategy: str, sizes: list[int], shares: tuple[float, float], seed: int
) -> None:
    images = of_sizes(sizes)
    result = split_of(images, shares, seed, strategy)
    assert each_class_everywhere(images, result)
    assert split_of(shuffled(images, seed), shares, seed, strategy) == result


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_seed_is_another_split(strategy: str) -> None:
    images = of_sizes([50, 50])
    assert split_of(images, seed=0, strategy=strategy) != split_of(images, seed=1, strategy=strategy)


def test_an_image_added_to_a_stratified_set_moves_few_others() -> None:
    before, after = split_of(of_sizes([100, 200]), (0.15, 0.2), 3), split_of(of_sizes([100, 201]), (0.15, 0.2), 3)
    assert sum(after[name] != split for name, split in before.items()) <= 3


def test_totals_do_not_add_up_roundings() -> None:
    counts = np.bincount(list(split_of(of_sizes([10] * 100), (0.15, 0.25)).values()))
    assert counts.tolist() == [600, 150, 250]


# --- stable -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 400), SEEDS)
@settings(max_examples=30)
def test_adding_images_moves_no_other(before: int, more: int, seed: int) -> None:
    """Without classes of fewer images than a split's share needs, what an image is for hangs on itself alone."""
    names = [f"{i}" for i in range(200 + before + more)]
    few, many = (columns([""] * count, names[:count]) for count in (200 + before, len(names)))
    old, new = split_of(few, seed=seed, strategy="stable"), split_of(many, seed=seed, strategy="stable")
    assert all(new[name] == place for name, place in old.items())


@given(SIZES, SEEDS, st.integers(1, 30))
@settings(max_examples=40)
def test_what_moves_when_images_are_added_was_lent(sizes: list[int], seed: int, more: int) -> None:
    images = of_sizes([*sizes, more + 3])
    kept = [i for i, name in enumerate(images.names) if int(name.split("/")[1]) < len(images.names) - more]
    fewer = images.of(kept)
    classes = sorted(set(images.labels))
    old, new = (assign(each, classes, Fractions(0.2, 0.2), seed, "stable") for each in (fewer, images))
    lent = {fewer.names[i] for i in old.lent} | {images.names[i] for i in new.lent}
    was = dict(zip(fewer.names, old.splits.tolist(), strict=True))
    now = dict(zip(images.names, new.splits.tolist(), strict=True))
    assert {name for name in was if was[name] != now[name]} <= lent


@given(st.lists(st.integers(0, 30), min_size=40, max_size=80), SEEDS)
@settings(max_examples=40)
def test_equal_files_never_separate_not_even_where_one_is_lent(contents: list[int], seed: int) -> None:
    contents = [*range(31), *contents]
    names = [f"{i}.png" for i in range(len(contents))]
    images = columns([""] * len(names), names, [digest(str(content)) for content in contents])
    split = split_of(images, (0.02, 0.02), seed, "stable")
    places: dict[int, set[int]] = {}
    for content, name in zip(contents, names, strict=True):
        places.setdefault(content, set()).add(split[name])
    assert all(len(held) == 1 for held in places.values())
    assert set(split.values()) == {0, 1, 2}


def test_the_shares_are_kept_on_the_whole_and_validation_leaves_test_alone() -> None:
    images = of_sizes([5000])
    one, other = (split_of(images, (share, 0.2), strategy="stable") for share in (0.1, 0.3))
    counts = np.bincount(list(one.values()))
    assert abs(counts / 5000 - [0.7, 0.1, 0.2]).max() < 0.02
    assert {n for n, place in one.items() if place == TEST} == {n for n, place in other.items() if place == TEST}


def test_a_tiny_class_lends_one_image_to_each_split_and_says_so() -> None:
    images = of_sizes([3, 400])
    result = assign(images, ["class 0", "class 1"], Fractions(0.001, 0.001), 0, "stable")
    assert sorted(result.splits[:3].tolist()) == [0, 1, 2]
    assert {i for i in range(3) if result.splits[i] != 0} <= set(result.lent)


def test_a_file_that_two_classes_share_is_not_lent_at_the_others_cost() -> None:
    """Class b has three contents, of which one is also class a's only test image."""
    labels = ["a"] * 30 + ["b"] * 3
    hashes = [digest(f"a{i}") for i in range(30)] + [digest(f"a{i}") for i in range(3)]
    images = columns(labels, hashes=hashes)
    for seed in range(20):
        split = split_of(images, (0.2, 0.2), seed, "stable")
        assert each_class_everywhere(images, split)
        assert all(split[f"a/{i}"] == split[f"b/{30 + i}"] for i in range(3))


def test_classes_that_can_only_move_together_are_a_mistake() -> None:
    images = columns(["a", "a", "a", "b", "b", "b"], hashes=[digest(x) for x in "xyyxyy"])
    with pytest.raises(Mistake, match="class a: 2 different readable images, at least 3 needed"):
        split_of(images, strategy="stable")


# --- grouped ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(200, 300), SEEDS)
@settings(max_examples=25)
def test_no_group_is_cut_and_the_shares_are_near(drawn: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(drawn)
    images = list(zip(generator.integers(0, 3, count).tolist(), generator.integers(0, 41, count).tolist(), strict=True))
    labels = [f"{label}" for label, _ in images]
    groups = [f"patient {group}" for _, group in images]
    split = list(split_of(columns(labels, groups=groups), (0.2, 0.2), seed, "grouped").values())
    assert len(set(zip(groups, split, strict=True))) == len(set(groups))
    largest = max(Counter(groups).values())
    for place, share in enumerate((0.6, 0.2, 0.2)):
        assert abs(split.count(place) - share * len(images)) <= 1.5 * largest


def test_groups_of_one_class_are_stratified() -> None:
    labels = [label for label in "ab" for _ in range(100)]
    groups = [f"{label}{i // 5}" for i, label in enumerate(labels)]
    split = split_of(columns(labels, groups=groups), (0.2, 0.2), strategy="grouped")
    counts = Counter((name[0], place) for name, place in split.items())
    assert counts == {("a", 0): 60, ("a", 1): 20, ("a", 2): 20, ("b", 0): 60, ("b", 1): 20, ("b", 2): 20}


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        (["p", None, "q", "r", " ", "p"], "a/1: no group; fill its cell in the group column"),
        ([None] * 6, "data.split: grouped, but the source brings no groups"),
        (["p", "p", "p", "q", "r", "s"], "class a: all of it in one group (p), which cannot be cut"),
        (["p", "p", "q", "q", "r", "s"], "class a: 2 groups, at least 3 needed"),
    ],
)
def test_groups_that_cannot_be_dealt_out(groups: list[str | None], line: str) -> None:
    with pytest.raises(Mistake) as caught:
        split_of(columns(list("aaabbb"), groups=groups), strategy="grouped")
    assert caught.value.lines[0].startswith(line)


# --- given ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("brought", [("test",), ("validation",), ("validation", "test")])
@pytest.mark.parametrize("grouped", [False, True])
def test_given_splits_are_kept(brought: tuple[str, ...], grouped: bool) -> None:
    labels, own, groups = [], [], []
    for split in ("train", *brought):
        labels += ["a"] * 20 + ["b"] * 20
        own += [split] * 40
        groups += [f"{split} {label} {i // 4}" for label in "ab" for i in range(20)]
    images = columns(labels, given=own, groups=groups if grouped else None)
    result = assign(images, ["a", "b"], Fractions(0.1, 0.2), 0, "given").splits.tolist()
    for split, number in zip(own, result, strict=True):
        if split in brought:
            assert SPLITS[number] == split
        else:
            assert SPLITS[number] not in brought
    assert set(result) == {0, 1, 2}
    if grouped:
        assert len(set(zip(groups, result, strict=True))) == len(set(groups))


def test_a_given_split_without_a_class_and_none_given() -> None:
    images = columns(list("aabb") * 3, given=["train"] * 8 + ["test", "test", None, None])
    with pytest.raises(Mistake, match="class b: no image in the given test split; add some, remove the class, or set"):
        assign(images, ["a", "b"], Fractions(0.2, 0.2), 0, "given")
    with pytest.raises(Mistake, match=r"data\.split: given, but the source brings no splits"):
        assign(columns(list("aabb")), ["a", "b"], Fractions(0.2, 0.2), 0, "given")


def test_other_strategies_deal_out_given_splits_anew() -> None:
    images = columns(["a"] * 100, given=["train"] * 50 + ["test"] * 50)
    assert Counter(assign(images, ["a"], Fractions(0.2, 0.2), 0, "stratified").splits.tolist()) == {0: 60, 1: 20, 2: 20}


def test_what_auto_comes_to() -> None:
    plain = columns(["a"] * 3)
    assert strategy_for("auto", plain, grows=True) == "stable"
    assert strategy_for("auto", plain, grows=False) == "stratified"
    assert strategy_for("auto", plain._replace(groups=["g", None, None]), grows=True) == "grouped"
    assert strategy_for("auto", plain._replace(groups=["g"] * 3, given=["train"] * 3), grows=True) == "given"
    assert strategy_for("stable", plain._replace(given=["train"] * 3), grows=False) == "stable"


# --- too few ----------------------------------------------------------------------------------------------------------


def test_too_few_images_are_named_with_the_least_number() -> None:
    with pytest.raises(Mistake) as caught:
        split_of(of_sizes([2, 5, 1]))
    assert len(caught.value.lines) == 2
    assert caught.value.lines[0].startswith("class class 0: 2 readable images, at least 3 needed")
    with pytest.raises(Mistake, match="class empty: 0 readable images, at least 3"):
        assign(columns(["a"] * 5), ["a", "empty"], Fractions(0.2, 0.2), 0, "stable")
    images = columns(["a", "b", "b"] * 2, given=["train"] * 3 + ["test"] * 3)
    with pytest.raises(Mistake, match="1 readable training image, at least 2 needed"):
        assign(images, ["a", "b"], Fractions(0.2, 0.2), 0, "given")
    with pytest.raises(Mistake, match="the image set: 2 readable images, at least 3"):
        assign(columns(["", ""]), [""], Fractions(0.2, 0.2), 0, "stratified")


# --- folds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [*STRATEGIES, "given"])
@given(sizes=st.lists(st.integers(40, 90), min_size=1, max_size=4), folds=st.integers(2, 5), seed=SEEDS)
@settings(max_examples=25)
def test_folds(strategy: str, sizes: list[int], folds: int, seed: int) -> None:
    images = of_sizes(sizes)
    classes = sorted(set(images.labels))
    found = assign_folds(images, classes, folds, seed, strategy).tolist()
    assert set(found) == set(range(folds))
    by_name = dict(zip(images.names, found, strict=True))
    other = shuffled(images, seed)
    again = assign_folds(other, classes, folds, seed, strategy).tolist()
    assert dict(zip(other.names, again, strict=True)) == by_name
    if strategy == "stratified":
        counts = Counter(zip(images.labels, found, strict=True))
        assert max(Counter(found).values()) - min(Counter(found).values()) <= 1
        for label in classes:
            of_class = [counts[label, fold] for fold in range(folds)]
            assert max(of_class) - min(of_class) <= 1
    if strategy in ("grouped", "given"):
        assert len(set(zip(images.groups, found, strict=True))) == len(set(images.groups))
    if strategy == "stable":
        half = images.of(range(0, len(images.names), 2))
        try:
            alone = assign_folds(half, classes, folds, seed, strategy).tolist()
        except Mistake:  # half of them may leave a fold empty
            return
        assert all(by_name[name] == fold for name, fold in zip(half.names, alone, strict=True))


def test_folds_that_cannot_be() -> None:
    with pytest.raises(Mistake, match=r"class a: 3 images outside test, at least 5 needed for data\.folds: 5"):
        assign_folds(columns(["a"] * 3 + ["b"] * 9), ["a", "b"], 5, 0, "stratified")
    with pytest.raises(Mistake, match=r"data\.folds: 4, but only 3 groups outside test"):
        assign_folds(columns(["a"] * 6, groups=list("ppqqrr")), ["a"], 4, 0, "grouped")
    with pytest.raises(Mistake, match=r"class a: in one of data\.folds: 2 alone"):
        assign_folds(columns(list("aabbbb"), groups=list("ppqrst")), ["a", "b"], 2, 0, "grouped")
    with pytest.raises(Mistake, match=r"data\.folds: 50 leaves fold \d+ empty"):
        assign_folds(columns(["a"] * 6), ["a"], 50, 0, "stable")
