"""Arithmetic that gives the same bits on every machine, for sets that are made by code.

IEEE 754 rounds + - * / and the square root of two numbers in one way only; what it leaves open is sines, logarithms,
the order of a sum and fused operations: NumPy's differ with its version and the processor. So here a sine is a
polynomial, a normal number a sum of integers, and whoever renders pixels uses elementwise operations alone.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline import seeding

_WORDS = 3  # 64-bit draws a normal number: four 16-bit parts each
BELL_UNIT = 65536  # one standard deviation of `bells`

Floats = TypeVar("Floats", NDArray[np.float32], NDArray[np.float64])


def cos_sin(turns: Floats) -> tuple[Floats, Floats]:
    """Cosine and sine of an angle in whole turns, in the precision of `turns`: within 1e-13 where it is double."""
    quarter = np.floor(4 * turns + 0.5)
    angle = (turns - quarter / 4) * (2 * np.pi)  # -pi/4 to pi/4
    square = angle * angle
    sine = angle * _polynomial(square, (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800))
    cosine = _polynomial(
        square, (1.0, -1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800, 1 / 479001600, -1 / 87178291200)
    )
    side = quarter - 4 * np.floor(quarter / 4)  # 0, 1, 2, 3
    odd = (side == 1) | (side == 3)
    cosine, sine = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    return np.where((side == 1) | (side == 2), -cosine, cosine), np.where(side >= 2, -sine, sine)


def _polynomial(x: Floats, coefficients: Sequence[float]) -> Floats:
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def bells(seed: int, purpose: str, samples: Sequence[int] | NDArray[Any], draws: int) -> NDArray[np.int64]:
    """Whole numbers that are nearly normal, of mean 0 and deviation BELL_UNIT: (len(samples), draws).

    The sum of twelve uniform numbers has variance 1 (Irwin-Hall); it ends at six deviations.
    """
    words = seeding.bits(seed, purpose, 0, samples, _WORDS * draws).reshape(-1, draws, _WORDS)
    total = np.full(words.shape[:2], -12 * (BELL_UNIT // 2) + 6, dtype=np.int64)  # a part's mean is half of 65535
    for word in range(_WORDS):
        for shift in (0, 16, 32, 48):
            total += ((words[:, :, word] >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    return total


def directions(seed: int, purpose: str, samples: Sequence[int] | NDArray[Any], dimensions: int) -> NDArray[np.float64]:
    """Unit vectors, nearly uniform over the sphere: (len(samples), dimensions)."""
    vectors = bells(seed, purpose, samples, dimensions)
    squares = np.maximum((vectors * vectors).sum(axis=1), 1)  # of integers below 2**53: exact in any order
    length: NDArray[np.float64] = np.sqrt(squares.astype(np.float64))
    return np.divide(vectors, length[:, None], dtype=np.float64)
