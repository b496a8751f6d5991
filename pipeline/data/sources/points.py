"""Points of the plane to play with: what depth, width and activation of a small network do to its decision regions.

An image is one pixel of two channels (x, y) in [-1, 1]; a stored byte b stands for (2 b - 255) / 255. Noise is normal,
and moves points only: a label stays, also where the noise takes its point among others.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.raw.exact import BELL_UNIT, bells, cos_sin
from pipeline.data.raw.made import Answer, Made


class Images(Made):
    """Classes are named 0, 1, ... and have equally many points, within one."""

    def __init__(self, path: Path | None = None, **settings: Any) -> None:
        self._figure: str = settings["figure"]
        self._noise: float = settings["noise"]
        super().__init__(path, (1, 1, 2), settings)
        self.classes = tuple(map(str, range(settings["classes"])))

    def answers(self, indices: NDArray[np.int64]) -> Iterator[Answer]:
        return (Answer(self.classes[label]) for label in (indices % len(self.classes)).tolist())

    def render(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        noise = bells(self.seed, "points/noise", indices, 2) * (self._noise / BELL_UNIT)
        points = self._points(indices, (indices % len(self.classes)).astype(np.float64)) + noise
        return np.clip(np.floor(points * 127.5 + 128), 0, 255).astype(np.uint8).reshape(-1, 1, 1, 2)

    def _points(self, indices: NDArray[np.int64], label: NDArray[np.float64]) -> NDArray[np.float64]:
        """Without noise: (B, 2)."""
        count = len(self.classes)
        u, v = self.draws(self._figure, indices, 2).T
        if self._figure == "clusters":  # one point a class
            return 0.55 * _towards(1 / 8 + label / count)
        if self._figure == "ring":  # about one another, the innermost a small disc
            radius: NDArray[np.float64] = np.where(label == 0, 0.2 * np.sqrt(v), 0.8 * label / (count - 1))
            return radius[:, None] * _towards(u)
        if self._figure == "xor":  # four squares, opposite ones of a class
            right = np.where(indices // count % 2 == 0, 1.0, -1.0)
            up = np.where(label == 0, right, -right)
            x, y = right * (0.1 + 0.7 * u), up * (0.1 + 0.7 * v)
            return np.stack([x, y], axis=1)
        away: NDArray[np.float64] = 0.08 + 0.8 * u  # spiral: one arm a class
        return away[:, None] * _towards(label / count + 0.8 * u)


def _towards(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack(cos_sin(turns), axis=1)
