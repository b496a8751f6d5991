"""A class is a shape; six dials in [0, 1] change the pixels but not the label: the semantic gap, one cause at a time.

An image is a function of (seed, its number, the dials). A dial at 0 is the absence of its cause; turning it up lets the
same random numbers weigh more, so that the same image grows harder. With all at 0, every image of a class is the same.
Coordinates run from -1 to 1 across the image, x to the right and y up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.raw import outlines
from pipeline.data.raw.exact import cos_sin
from pipeline.data.raw.made import Answer, Made
from pipeline.data.raw.outlines import SHAPES, Numbers

DIALS = ("viewpoint", "illumination", "deformation", "occlusion", "clutter", "intra_class")

_FILL, _GROUND = (0.96, 0.74, 0.25), (0.13, 0.16, 0.24)  # colours where no dial changes them
_SIZE = 0.66  # of a shape's unit disc in the image
_SAMPLES = 2  # a pixel's side; between them the outline is a ramp one sample wide
_PIECES, _BARS = 6, 2  # of clutter; of occlusion


@dataclass(frozen=True)
class _Geometry:
    """From a point of the image to the shape's own coordinates, one entry an image.

    Waves bend the plane: x' = x + A(y), y' = y + B(x'); then s = matrix (p' - centre) / (1 + tilt . (p' - centre)),
    stretched. Each step can be undone, which is how an outline comes into the image.
    """

    waves: NDArray[np.float64]  # (2, 3, B): A and B, each amplitude, frequency, phase
    centre: NDArray[np.float64]  # (2, B)
    tilt: NDArray[np.float64]  # (2, B)
    matrix: NDArray[np.float64]  # (2, 2, B)
    stretch: NDArray[np.float64]  # (2, B)
    size: NDArray[np.float64]  # (B)

    def inward(self, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
        """x (W), y (H) of the image to coordinates of the shapes (B, H, W), in single precision."""
        wave_x, wave_y, centre, tilt, matrix, stretch = (
            values.astype(np.float32)[..., None, None]
            for values in (*self.waves, self.centre, self.tilt, self.matrix, self.stretch)
        )
        x, y = x.astype(np.float32), y.astype(np.float32)[:, None]
        x = x + wave_x[0] * _wave(wave_x[1] * y + wave_x[2])
        y = y + wave_y[0] * _wave(wave_y[1] * x + wave_y[2])
        x, y = x - centre[0], y - centre[1]
        nearness = 1 / (1 + tilt[0] * x + tilt[1] * y)
        right = (matrix[0, 0] * x + matrix[0, 1] * y) * (nearness / stretch[0])
        return right, (matrix[1, 0] * x + matrix[1, 1] * y) * (nearness / stretch[1])

    def outward(self, points: Numbers) -> tuple[Numbers, Numbers]:
        """Points (B, P, 2) of the shapes to x and y of the image (B, P)."""
        (wave_x, wave_y), centre, tilt, matrix, stretch = (
            values[..., None] for values in (self.waves, self.centre, self.tilt, self.matrix, self.stretch)
        )
        s, t = points[:, :, 0] * stretch[0], points[:, :, 1] * stretch[1]
        a, b = matrix[0, 0] - s * tilt[0], matrix[0, 1] - s * tilt[1]
        c, d = matrix[1, 0] - t * tilt[0], matrix[1, 1] - t * tilt[1]
        determinant = a * d - b * c
        x = (d * s - b * t) / determinant + centre[0]
        y = (a * t - c * s) / determinant + centre[1]
        y = y - wave_y[0] * _wave(wave_y[1] * x + wave_y[2])
        return x - wave_x[0] * _wave(wave_x[1] * y + wave_x[2]), y


class Images(Made):
    """Classes have equally many images, within one. `Found.box` is the whole shape's box, also where it is hidden."""

    classes = tuple(SHAPES)
    drawn_with = (outlines,)

    def __init__(self, path: Path | None = None, **settings: Any) -> None:
        self._side: int = settings["side"]
        super().__init__(path, (self._side, self._side, 3), settings)
        self._dials: dict[str, float] = {name: float(settings[name]) for name in DIALS}

    def answers(self, indices: NDArray[np.int64]) -> Iterator[Answer]:
        boxes = np.empty((len(indices), 4))
        proportion = self._within("proportion", indices, 1)[0] * self._dials["intra_class"]
        for name, members in self._members(indices):
            outline = SHAPES[name].outline(proportion[members])
            x, y = self._geometry(indices[members]).outward(outline)
            sides = np.stack([x.min(axis=1), -y.max(axis=1), x.max(axis=1), -y.min(axis=1)], axis=1)
            boxes[members] = np.clip((sides + 1) / 2, 0, 1) * self._side
        boxes = np.floor(boxes * 100 + 0.5) / 100
        for label, box in zip((indices % len(SHAPES)).tolist(), boxes.tolist(), strict=True):
            yield Answer(self.classes[label], box=(box[0], box[1], box[2], box[3]))

    def render(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        line = ((2 * np.arange(self._side) + 1) / self._side - 1).astype(np.float32)
        x, y = np.broadcast_arrays(line, -line[:, None])
        picture = self._ground(indices, x, y)
        self._draw_shapes(picture, indices)
        self._draw_bars(picture, indices, x, y)
        picture *= self._light(indices, x, y)
        pixels: NDArray[np.uint8] = np.floor(np.clip(picture, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
        return pixels.transpose(0, 2, 3, 1)

    # --- what each dial does ------------------------------------------------------------------------------------------

    def _geometry(self, indices: NDArray[np.int64]) -> _Geometry:
        turn, size, right, up, tilt_x, tilt_y = self._within("viewpoint", indices, 6) * self._dials["viewpoint"]
        size = _SIZE * (1 - 0.12 * np.abs(turn) + 0.38 * size)
        cosine, sine = cos_sin(turn / 2)
        waves = self.draws("deformation", indices, 6).T.reshape(2, 3, -1)
        waves = waves * np.array([0.5, 0.5, 1.0])[:, None] + np.array([0.5, 0.6, 0.0])[:, None]
        waves[:, 0] *= 0.14 * self._dials["deformation"]
        narrow = self._within("stretch", indices, 1)[0] * 0.22 * self._dials["intra_class"]
        return _Geometry(
            waves=waves,
            centre=np.stack([right, up]) * np.maximum(0.95 - size, 0),
            tilt=np.stack([tilt_x, tilt_y]) * 0.4,
            matrix=np.stack([np.stack([cosine, sine]), np.stack([-sine, cosine])]) / size,
            stretch=np.stack([1 + narrow, 1 - narrow]),
            size=size,
        )

    def _ground(self, indices: NDArray[np.int64], x: Numbers, y: Numbers) -> NDArray[np.float32]:
        """What is behind: a plain colour; with clutter stripes, and one piece after the other. (B, 3, H, W)"""
        dial = self._dials["clutter"]
        picture = np.empty((len(indices), 3, self._side, self._side), np.float32)
        picture[:] = _mixed(_GROUND, 0.5 * self.draws("ground", indices, 3), dial)
        if dial == 0:
            return picture
        right, up, phase = _each(self._within("stripes", indices, 3))
        picture += np.float32(0.12 * dial) * _wave(2 * right * x + 2 * up * y + phase)[:, None]
        for piece in range(_PIECES):
            place, look = self._within(f"piece {piece}", indices, 6), self.draws(f"piece {piece} colour", indices, 3)
            middle_x, middle_y, turn, long, wide = _each(place[:5])
            along, across = _turned(x - middle_x, y - middle_y, turn)
            # long and short boxes, and discs: every third
            depth = np.maximum(np.abs(along) - 0.35 - 0.2 * long, np.abs(across) - 0.12 - 0.06 * wide)
            if piece % 3 == 0:
                depth = np.sqrt(along * along + across * across) - 0.2 - 0.1 * wide
            self._lay(picture, _cover(depth, self._side / 2) * np.float32(min(max(_PIECES * dial - piece, 0), 1)), look)
        return picture

    def _draw_shapes(self, picture: NDArray[np.float32], indices: NDArray[np.int64]) -> None:
        dial = self._dials["intra_class"]
        geometry = self._geometry(indices)
        fine = self._side * _SAMPLES
        line = (2 * np.arange(fine) + 1) / fine - 1
        x, y = geometry.inward(line, -line)
        (proportion,) = _each(self._within("proportion", indices, 1) * dial)
        sharpness = (geometry.size * fine / 2).astype(np.float32)[:, None, None]
        cover = np.empty((len(indices), fine, fine), np.float32)
        for name, members in self._members(indices):
            depth = SHAPES[name].depth(x[members], y[members], proportion[members])
            cover[members] = _cover(depth, sharpness[members])
        rows = cover[:, 0::2] + cover[:, 1::2]
        cover = (rows[:, :, 0::2] + rows[:, :, 1::2]) * np.float32(0.25)
        look = self.draws("fill", indices, 3)
        bright = 0.45 + 0.55 * look / np.maximum(np.maximum(look[:, :1], look[:, 1:2]), look[:, 2:])
        fill = np.broadcast_to(_mixed(_FILL, bright, dial), picture.shape)
        if dial > 0:
            right, up, phase = _each(self._within("texture", indices, 3))
            weave = _wave(2 * right * x[:, ::2, ::2] + 2 * up * y[:, ::2, ::2] + phase)
            fill = fill * (1 + np.float32(0.3 * dial) * weave)[:, None]
        picture += (fill - picture) * cover[:, None]

    def _draw_bars(self, picture: NDArray[np.float32], indices: NDArray[np.int64], x: Numbers, y: Numbers) -> None:
        """Occlusion: bars across the shape, as wide as the dial says."""
        width = 0.19 * self._dials["occlusion"]
        if width == 0:
            return
        centre = self._geometry(indices).centre
        for bar in range(_BARS):
            turn, off, _ = self._within(f"bar {bar}", indices, 3)
            middle_x, middle_y, turn, off = _each(np.stack([*centre, turn, off]))
            _, across = _turned(x - middle_x, y - middle_y, turn)
            cover = _cover(np.abs(across - 0.35 * off) - np.float32(width), self._side / 2)
            look = 0.2 + 0.6 * self.draws(f"bar {bar} colour", indices, 3)
            self._lay(picture, cover * np.float32(min(1, width * self._side)), look)

    def _light(self, indices: NDArray[np.int64], x: Numbers, y: Numbers) -> NDArray[np.float32]:
        """Factors (B, 3, H, W)."""
        gain, right, up, *tint = self._within("illumination", indices, 6) * self._dials["illumination"]
        right, up = _each(np.stack([right, up]))
        slope = np.maximum(1 + 0.55 * (right * x + up * y), np.float32(0))[:, None]
        level = ((1 - 0.05 * np.abs(gain) + 0.5 * gain) * (1 + 0.22 * np.stack(tint))).astype(np.float32).T
        factors: NDArray[np.float32] = level[:, :, None, None] * slope
        return factors

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _within(self, purpose: str, indices: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        """Numbers in [-1, 1): (count, B)."""
        return 2 * self.draws(purpose, indices, count).T - 1

    def _members(self, indices: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.int64]]]:
        for label, name in enumerate(SHAPES):
            members = np.flatnonzero(indices % len(SHAPES) == label)
            if len(members):
                yield name, members

    @staticmethod
    def _lay(picture: NDArray[np.float32], cover: NDArray[np.float32], colour: NDArray[np.float64]) -> None:
        """Paint over (B, 3, H, W) where `cover` (B, H, W) says, in place."""
        picture += (colour.astype(np.float32)[:, :, None, None] - picture) * cover[:, None]


def _each(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Numbers (K, B) to be held against (B, H, W)."""
    return values.astype(np.float32)[:, :, None, None]


def _mixed(plain: tuple[float, ...], own: NDArray[np.float64], dial: float) -> NDArray[np.float32]:
    """Colours (B, 3, 1, 1) on the way from `plain` to each image's own (B, 3)."""
    mixed = np.array(plain) * (1 - dial) + own * dial
    return mixed.astype(np.float32)[:, :, None, None]


def _wave(turns: Numbers) -> Numbers:
    """As smooth as a sine and like one, from two parabolas: sines take four times as long."""
    part = turns - np.floor(turns + 0.5)
    return 8 * part * (1 - 2 * np.abs(part))


def _turned(x: Numbers, y: Numbers, half_turns: NDArray[np.float32]) -> tuple[Numbers, Numbers]:
    cosine, sine = cos_sin(half_turns / 2)
    return cosine * x + sine * y, cosine * y - sine * x


def _cover(depth: Numbers, sharpness: Any) -> Numbers:
    """From a depth to the share of a sample that is inside; sharpness: samples a unit of depth."""
    return np.clip(np.float32(0.5) - depth * sharpness, 0, 1)
