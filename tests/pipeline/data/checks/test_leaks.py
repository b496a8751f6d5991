"""Copies across splits: who leaks, and what must go."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.checks.leaks import copied_from, find_leaks

TRAIN, VALIDATION, TEST = 0, 1, 2
NONE = np.empty((0, 2), dtype=np.int64)


def test_worked_case() -> None:
    #                 0: a train, b test  1: train twice  2: validation  3: test, near 1 and 2
    splits = np.array([TRAIN, TEST, TRAIN, TRAIN, VALIDATION, TEST])
    contents = np.array([0, 0, 1, 1, 2, 3])
    leaks = find_leaks(splits, contents, np.array([[1, 3], [2, 3]]))
    assert leaks.tested_exact.tolist() == [False, True, False, False, False, False]
    assert leaks.tested_near.tolist() == [False, False, False, False, False, True]
    assert not leaks.chosen.any()
    assert leaks.surplus.tolist() == [True, False, True, True, True, False]
    assert leaks.total == 2
    assert copied_from(1, splits, contents, NONE) == (0, True)
    assert copied_from(5, splits, contents, np.array([[1, 3], [2, 3]])) == (2, False)


def test_validation_is_held_out_of_train() -> None:
    leaks = find_leaks(np.array([TRAIN, VALIDATION, TRAIN]), np.array([0, 0, 1]), np.array([[0, 1]]))
    assert leaks.chosen_exact.tolist() == [False, True, False]
    assert leaks.surplus.tolist() == [True, False, True]


def test_copies_within_a_split_and_left_out_ones_do_not_leak() -> None:
    assert not find_leaks(np.array([TEST, TEST, TRAIN, TRAIN]), np.array([0, 0, 1, 1]), NONE)
    assert not find_leaks(np.array([], dtype=np.int64), np.array([], dtype=np.int64), NONE)


CASES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=12)


@given(CASES, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=5))
def test_without_the_surplus_nothing_leaks_and_no_test_image_goes(
    images: list[tuple[int, int]], near: list[tuple[int, int]]
) -> None:
    splits, numbers = (np.array(column) for column in zip(*images, strict=True))
    _, contents = np.unique(numbers, return_inverse=True)
    pairs = np.array([p for p in near if p[0] < p[1] <= contents.max()], dtype=np.int64).reshape(-1, 2)
    leaks = find_leaks(splits, contents, pairs)
    assert not (leaks.surplus & (splits == TEST)).any()
    kept = ~leaks.surplus
    again = find_leaks(splits[kept], contents[kept], pairs[(pairs <= contents[kept].max(initial=-1)).all(1)])
    assert not again
    assert again.total == 0
    assert bool(leaks) == bool(leaks.total)
    for image in np.flatnonzero(leaks.tested | leaks.chosen).tolist():
        other, exact = copied_from(image, splits, contents, pairs)
        assert splits[other] < splits[image]
        assert exact == (contents[other] == contents[image])
