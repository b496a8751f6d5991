"""All randomness: numbers as a pure function of (seed, purpose, epoch, sample, draw).

Nothing here keeps a state, so a number does not depend on the batch size, the device, the worker, or what was drawn
before it; a resumed run draws what the uninterrupted one would have drawn. The mixing function is written out, because
NumPy and torch promise the streams of their generators only within a version.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): a bijection in which every input bit flips half the output."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _key(seed: int, purpose: str, *counters: int) -> int:
    """64 bits that name a stream: unrelated for any two different arguments."""
    text = repr((int(seed), purpose, *map(int, counters))).encode()  # NumPy's integers have another repr
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def bits(seed: int, purpose: str, epoch: int, samples: Sequence[int] | NDArray[Any], draws: int) -> NDArray[np.uint64]:
    """Uniform 64-bit integers, shape (len(samples), draws)."""
    key = np.uint64(_key(seed, purpose, epoch))
    rows = _mix(np.asarray(samples, dtype=np.uint64) * _GOLDEN + key)
    columns = _mix(np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN)
    return _mix(rows[:, None] + columns[None, :])


def uniform(
    seed: int, purpose: str, epoch: int, samples: Sequence[int] | NDArray[Any], draws: int
) -> NDArray[np.float64]:
    """Numbers in [0, 1), shape (len(samples), draws); 53 random bits each."""
    return (bits(seed, purpose, epoch, samples, draws) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(
    seed: int, purpose: str, epoch: int, samples: Sequence[int] | NDArray[Any], draws: int
) -> NDArray[np.float64]:
    """Standard normal numbers, shape (len(samples), draws): Box & Muller 1958, the cosine branch."""
    u = uniform(seed, purpose, epoch, samples, 2 * draws)
    radius = np.sqrt(-2.0 * np.log1p(-u[:, :draws]))  # 1 - u lies in (0, 1]: never log(0)
    return radius * np.cos(2.0 * np.pi * u[:, draws:])


def permutation(seed: int, purpose: str, epoch: int, size: int) -> NDArray[np.int64]:
    """A random order of range(size), shape (size,)."""
    return np.argsort(bits(seed, purpose, epoch, np.arange(size), 1)[:, 0], kind="stable")


def number(seed: int, purpose: str, *counters: int) -> int:
    """One integer in [0, 2**63) for a library that wants a seed of its own (torch, Optuna's samplers)."""
    return _key(seed, purpose, *counters) >> 1
