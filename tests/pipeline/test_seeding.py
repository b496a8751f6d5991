"""Random numbers as a pure function: of what they depend on, and of what not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import seeding

GOLDEN_BITS = [[14045327092924034748, 12407223836106930865], [11962907789093003957, 7014070684226300128]]
GOLDEN_NUMBER = 2092978004943428893
GOLDEN_ORDER = [0, 4, 1, 7, 5, 2, 6, 3]

SEEDS = st.integers(0, 2**63 - 1)
EPOCHS = st.integers(0, 10**6)
PURPOSES = st.text(max_size=12)


@given(SEEDS, PURPOSES, EPOCHS, st.lists(st.integers(0, 2**40), min_size=1, max_size=50), st.integers(1, 9), st.data())
def test_a_samples_numbers_depend_on_no_other_sample(
    seed: int, purpose: str, epoch: int, samples: list[int], draws: int, data: st.DataObject
) -> None:
    together = seeding.bits(seed, purpose, epoch, samples, draws)
    position = data.draw(st.integers(0, len(samples) - 1))
    alone = seeding.bits(seed, purpose, epoch, samples[position : position + 1], draws)
    assert (alone[0] == together[position]).all()
    assert (seeding.bits(seed, purpose, epoch, samples[::-1], draws) == together[::-1]).all()


@given(SEEDS, EPOCHS, st.integers(1, 6))
def test_more_draws_leave_the_first_ones_as_they_are(seed: int, epoch: int, draws: int) -> None:
    few = seeding.uniform(seed, "crop", epoch, range(20), draws)
    many = seeding.uniform(seed, "crop", epoch, range(20), draws + 3)
    assert (many[:, :draws] == few).all()


@given(SEEDS, EPOCHS)
def test_another_seed_purpose_epoch_or_sample_gives_other_numbers(seed: int, epoch: int) -> None:
    streams = [
        seeding.bits(seed, "crop", epoch, range(8), 4),
        seeding.bits(seed + 1, "crop", epoch, range(8), 4),
        seeding.bits(seed, "flip", epoch, range(8), 4),
        seeding.bits(seed, "crop", epoch + 1, range(8), 4),
        seeding.bits(seed, "crop", epoch, range(8, 16), 4),
    ]
    numbers = np.concatenate([stream.ravel() for stream in streams])
    assert len(np.unique(numbers)) == len(numbers)


def test_the_numbers_of_today_are_those_of_yesterday() -> None:
    """Golden values: a change here changes every result that was ever made."""
    assert seeding.bits(0, "crop", 0, [0, 1], 2).tolist() == GOLDEN_BITS
    assert seeding.number(0, "sampler", 3) == GOLDEN_NUMBER
    assert seeding.number(np.int64(0), "sampler", np.int32(3)) == GOLDEN_NUMBER
    assert seeding.permutation(7, "order", 2, 8).tolist() == GOLDEN_ORDER


def test_uniform_numbers_are_uniform_in_every_direction() -> None:
    u = seeding.uniform(3, "crop", 1, range(20_000), 5)
    assert u.min() >= 0
    assert u.max() < 1
    error = 1 / math.sqrt(12 * len(u))  # standard deviation of the mean
    assert np.abs(u.mean(0) - 0.5).max() < 4.5 * error
    assert np.abs(u.var(0) - 1 / 12).max() < 0.002
    correlation = np.corrcoef(u.T) - np.eye(5)
    assert np.abs(correlation).max() < 4.5 / math.sqrt(len(u))
    neighbours = np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]
    assert abs(neighbours) < 4.5 / math.sqrt(len(u))
    counts = np.bincount((u[:, 0] * 100).astype(int), minlength=100)
    assert ((counts - 200) ** 2 / 200).sum() < 160  # chi square, 99 degrees: 1 in 10,000


def test_normal_numbers_are_normal() -> None:
    z = seeding.normal(3, "pca", 1, range(20_000), 3)
    assert np.isfinite(z).all()
    assert np.abs(z.mean(0)).max() < 4.5 / math.sqrt(len(z))
    assert np.abs(z.std(0) - 1).max() < 0.03
    assert np.abs((z < 1).mean(0) - 0.8413).max() < 0.012
    assert np.abs(np.corrcoef(z.T) - np.eye(3)).max() < 4.5 / math.sqrt(len(z))


@given(SEEDS, EPOCHS, st.integers(0, 300))
def test_a_permutation_holds_everything_once(seed: int, epoch: int, size: int) -> None:
    order = seeding.permutation(seed, "order", epoch, size)
    assert sorted(order.tolist()) == list(range(size))


def test_every_place_of_a_permutation_is_equally_likely() -> None:
    first = [seeding.permutation(0, "order", epoch, 5)[0] for epoch in range(5000)]
    counts = np.bincount(first, minlength=5)
    assert ((counts - 1000) ** 2 / 1000).sum() < 25  # chi square, 4 degrees


@given(SEEDS, PURPOSES, st.lists(EPOCHS, max_size=3))
def test_a_number_for_a_library_fits_every_seed(seed: int, purpose: str, counters: list[int]) -> None:
    number = seeding.number(seed, purpose, *counters)
    assert 0 <= number < 2**63
    assert number == seeding.number(seed, purpose, *counters)
    assert number != seeding.number(seed, purpose, *counters, 0)


@pytest.mark.parametrize("samples", [[], np.zeros(0, dtype=np.int64)])
def test_no_samples_give_no_numbers(samples: list[int]) -> None:
    assert seeding.uniform(0, "crop", 0, samples, 3).shape == (0, 3)
