"""Hard cases for a linear classifier: no hyperplane tells their two classes apart.

An image is a vector x of numbers about zero. In two dimensions it is one pixel of two channels (x, y); n * n
dimensions are n x n grey pixels. A stored byte b stands for x = (2 b - 255) / 255 * RANGE, so that 127.5 is zero.
A label is what the stored bytes say, in whole numbers: no rounding can make it wrong.
"""

from collections.abc import Iterator
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.raw.exact import cos_sin, directions
from pipeline.data.raw.made import Answer, Made

CLASSES = {"parity": ("even", "odd"), "ring": ("rest", "ring"), "modes": ("modes", "rest")}
RANGE = {"parity": 1.0, "ring": 3.0, "modes": 3.0}  # the largest absolute value of a pixel

_UNITS = 255  # a pixel at RANGE, in the whole numbers 2 b - 255
_MODE_DISTANCE, _MODE_RADIUS = 153, 51  # in those units: 1.8 from zero, 0.6 about each centre
_EMPTY = 0.05  # about the edges of the ring, so that a good classifier can be wholly right


class Images(Made):
    """Half of the images is meant for each class."""

    def __init__(self, path: Path | None = None, **settings: Any) -> None:
        self._case: str = settings["case"]
        self._dimensions: int = settings["dimensions"]
        side = isqrt(self._dimensions)
        super().__init__(path, (1, 1, 2) if self._dimensions == 2 else (side, side, 1), settings)
        self.classes = CLASSES[self._case]

    def render(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        pixels = self._parity(indices) if self._case == "parity" else _bytes(self._vectors(indices))
        return pixels.reshape(-1, *self.shape)

    def answers(self, indices: NDArray[np.int64]) -> Iterator[Answer]:
        units = 2 * self.render(indices).reshape(len(indices), -1).astype(np.int64) - _UNITS  # B, D
        if self._case == "parity":
            names = np.where((units > 0).sum(axis=1) % 2 == 1, "odd", "even")
        elif self._case == "ring":
            ninefold = 9 * (units * units).sum(axis=1)  # (255 ||x||)^2
            names = np.where((ninefold >= _UNITS**2) & (ninefold <= 4 * _UNITS**2), "ring", "rest")
        else:
            away = [units - centre for centre in self._centres().astype(np.int64)]
            near = [(difference * difference).sum(axis=1) <= _MODE_RADIUS**2 for difference in away]
            names = np.where(near[0] | near[1] | near[2], "modes", "rest")
        return (Answer(label) for label in names.tolist())

    def _parity(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Signs at random, magnitudes from 1/8 to 1."""
        draws = np.floor(self.draws("parity", indices, 2 * self._dimensions).reshape(len(indices), -1, 2) * (2, 112))
        return np.where(draws[:, :, 0] == 1, 144 + draws[:, :, 1], draws[:, :, 1]).astype(np.uint8)

    def _vectors(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Points of ring or modes, in units: (B, D)."""
        coin, which, along = self.draws(self._case, indices, 3).T
        meant = coin < 0.5  # for the ring, or for a mode
        towards = directions(self.seed, f"hard_cases/{self._case}/direction", indices, self._dimensions)
        if self._case == "ring":
            inside = which < 0.3  # the hole has less room than what is outside
            first = np.where(meant, 1.0, np.where(inside, 0.0, 2.0)) + np.where(meant | ~inside, _EMPTY, 0.0)
            last = np.where(meant, 2.0, np.where(inside, 1.0, 3.0)) - _EMPTY
            centre, away = np.zeros(1), (first + along * (last - first)) * (_UNITS / 3)
        else:
            centre = self._centres()[np.floor(3 * which).astype(np.int64)] * meant[:, None]
            away = np.where(meant, 0.9 * _MODE_RADIUS, _UNITS - 1.0) * np.sqrt(along)
        points: NDArray[np.float64] = centre + away[:, None] * towards
        return points

    def _centres(self) -> NDArray[np.float64]:
        """Three points at equal angles about zero, in units: (3, D). The plane is (x, y) or two patterns of pixels."""
        cosine, sine = cos_sin(np.array([0.25, 0.25 + 1 / 3, 0.25 + 2 / 3]))
        if self._dimensions == 2:
            plane = np.eye(2)
        else:
            half = np.sign(2 * np.arange(self.shape[0]) - (self.shape[0] - 1))  # -1 ... 1
            plane = np.stack([np.tile(half, self.shape[0]), np.repeat(half, self.shape[0])])  # right-left, below-above
            plane = plane / np.sqrt(np.maximum((plane * plane).sum(axis=1), 1))[:, None]
        whole: NDArray[np.float64] = np.floor(
            _MODE_DISTANCE * (cosine[:, None] * plane[0] + sine[:, None] * plane[1]) + 0.5
        )
        return whole


def _bytes(units: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The nearest stored byte of each number, in units."""
    return np.clip(np.floor(units / 2 + 128), 0, 255).astype(np.uint8)
