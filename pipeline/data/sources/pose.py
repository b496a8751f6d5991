"""A solid with coloured faces, seen by a camera; what is to be predicted is its rotation.

The solid is a box with three different edges, of which two opposite corners are cut off: eight faces, each of its own
colour and none with a symmetry, so that even a face seen alone tells the rotation. Rotations R are uniform over all.
x points right, y up and z to the camera; R takes a point of the solid to where it is seen.

Two ways to say R in numbers: `columns`, its first two columns, six numbers without a jump anywhere (Zhou et al. 2019,
On the Continuity of Rotation Representations); `quaternion`, (w, x, y, z) of length 1 with w >= 0, which jumps where
w = 0, at half turns.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.raw.exact import cos_sin
from pipeline.data.raw.made import Answer, Made

TARGETS = {"columns": ("x_right", "x_up", "x_near", "y_right", "y_up", "y_near"), "quaternion": ("w", "x", "y", "z")}

_CUT = 3**-0.5
NORMALS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1], [_CUT] * 3, [-_CUT] * 3])
OFFSETS = np.array([0.64, 0.64, 0.48, 0.48, 0.34, 0.34, 0.58, 0.66])  # the solid is where NORMALS . p <= OFFSETS
_RED, _ORANGE, _GREEN, _CYAN = (235, 64, 52), (250, 160, 40), (70, 190, 80), (40, 170, 200)
_BLUE, _VIOLET, _WHITE, _PINK = (60, 90, 235), (150, 70, 190), (245, 245, 240), (255, 150, 190)
COLOURS = np.array([_RED, _ORANGE, _GREEN, _CYAN, _BLUE, _VIOLET, _WHITE, _PINK])
BACKGROUND = np.array([26, 28, 36])
CAMERA = 3.0  # its distance from the solid's middle
VIEW = 0.31  # half the picture's width at distance 1: nothing of the solid ever leaves it
_LIGHT = np.array([-0.4, 0.6, 0.7]) / (0.16 + 0.36 + 0.49) ** 0.5
_AMBIENT = 0.45
_SAMPLES = 3  # a pixel's side: nine rays a pixel


class Images(Made):
    """Rendered by casting rays; perspective, one lamp, light and dark by Lambert's law."""

    def __init__(self, path: Path | None = None, **settings: Any) -> None:
        side = settings["side"]
        super().__init__(path, (side, side, 3), settings)
        self._target: str = settings["target"]
        self.targets = TARGETS[self._target]

    def answers(self, indices: NDArray[np.int64]) -> Iterator[Answer]:
        quaternions = self._quaternions(indices)
        rows = quaternions if self._target == "quaternion" else matrices(quaternions)[:, :, :2].swapaxes(1, 2)
        return (Answer(target=tuple(row)) for row in rows.reshape(len(indices), -1).tolist())

    def render(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return rendered(matrices(self._quaternions(indices)), self.shape[0])

    def _quaternions(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Uniform over all rotations (Shoemake 1992), of the two that say the same the one with w >= 0: (B, 4)."""
        share, first, second = self.draws("rotation", indices, 3).T
        (cos1, sin1), (cos2, sin2) = cos_sin(first), cos_sin(second)
        one, two = np.sqrt(1 - share), np.sqrt(share)
        quaternions = np.stack([two * cos2, one * sin1, one * cos1, two * sin2], axis=1)
        return np.where(quaternions[:, :1] < 0, -quaternions, quaternions)


def matrices(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrices (B, 3, 3) of unit quaternions (w, x, y, z)."""
    w, x, y, z = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=1)


def rendered(rotations: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """Pictures (B, side, side, 3) of the solid turned by `rotations` (B, 3, 3).

    A ray from the camera is at CAMERA + t (u, v, -1). It crosses the plane of a face where 1/t is a linear function of
    u and v. It is in a convex solid from its last entry into a half-space to its first exit from one, so that neither
    a buffer of depths nor an order of faces is needed.
    """
    normals = sum(rotations[:, None, :, axis] * NORMALS[None, :, None, axis] for axis in range(3))  # B, F, 3
    room = OFFSETS - CAMERA * normals[:, :, 2]  # B, F: below zero where the camera sees the face
    room = np.where(np.abs(room) < 1e-9, 1e-9, room)
    front = room < 0
    line = ((2 * np.arange(side * _SAMPLES) + 1) / (side * _SAMPLES) - 1) * VIEW
    across, up, away = (normals[:, :, axis, None] / room[:, :, None] for axis in range(3))
    columns = (across * line - away).astype(np.float32)  # B, F, W
    rows = (up * -line).astype(np.float32)  # B, F, H: the first row is above
    shape = (len(rotations), side * _SAMPLES, side * _SAMPLES)
    enter, face = np.full(shape, np.inf, np.float32), np.full(shape, len(NORMALS), np.uint8)
    leave = np.full(shape, -np.inf, np.float32)
    for number in range(len(NORMALS)):
        nearness = rows[:, number, :, None] + columns[:, number, None, :]  # 1/t: B, H, W
        seen = front[:, number, None, None]
        last = (nearness < enter) & seen
        enter, face = np.where(last, nearness, enter), np.where(last, np.uint8(number), face)
        leave = np.where(seen, leave, np.maximum(leave, nearness))
    face = np.where((enter > 0) & (enter >= leave), face, np.uint8(len(NORMALS)))
    light = sum(normals[:, :, axis] * _LIGHT[axis] for axis in range(3))
    shade = _AMBIENT + (1 - _AMBIENT) * np.maximum(light, 0)
    colours = np.empty((len(rotations), len(NORMALS) + 1, 3), np.uint16)
    colours[:, :-1] = np.floor(COLOURS * shade[:, :, None] + 0.5)
    colours[:, -1] = BACKGROUND
    samples = colours[np.arange(len(rotations))[:, None, None], face]  # B, H, W, 3
    samples = samples.reshape(len(rotations), side, _SAMPLES, side, _SAMPLES, 3)
    total = samples.sum(axis=(2, 4), dtype=np.uint16)
    pixels: NDArray[np.uint8] = ((total + _SAMPLES**2 // 2) // _SAMPLES**2).astype(np.uint8)
    return pixels
