"""Where pixels come from: one 3x3 matrix an image, and exact copying where it moves by whole pixels.

A matrix takes an output pixel (x, y, 1) to a point of the stored image, pixel centres at whole numbers. Composed in
the order of the table: the stored image is warped about its centre, then cropped, then mirrored.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.data.augmentation.strengths import Array, Numbers


class Frame(NamedTuple):
    """Sides in pixels of the stored images, and of what the network sees of them."""

    stored: int
    seen: int


Transform = Callable[[Numbers, Frame], Array]
_IDENTITY = np.eye(3)


# --- of the stored image, about its centre ----------------------------------------------------------------------------


def perspective(numbers: Numbers, frame: Frame) -> Array:
    """The map by which the four corners come from up to the strength's share of the side beside them."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    moves = numbers.amount("perspective", "perspective", 8).reshape(-1, 4, 2)
    side = frame.stored
    to_square = np.array([[1 / side, 0, 0.5 / side], [0, 1 / side, 0.5 / side], [0, 0, 1]])  # of a pixel's centre
    to_pixels = np.array([[side, 0, -0.5], [0, side, -0.5], [0, 0, 1]])
    return cast(Array, to_pixels @ _square_to(corners + moves) @ to_square)


def _square_to(corners: Array) -> Array:
    """Homographies (B, 3, 3) from the unit square to quadrilaterals (B, 4, 2): Heckbert 1989, section 2.2.3."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners.transpose(1, 2, 0)
    dx1, dx2, sx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, sy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    divisor = dx1 * dy2 - dx2 * dy1
    g, h = (sx * dy2 - dx2 * sy) / divisor, (dx1 * sy - sx * dy1) / divisor
    rows = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0], [y1 - y0 + g * y1, y3 - y0 + h * y3, y0], [g, h, np.ones_like(g)]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


def scale(numbers: Numbers, frame: Frame) -> Array:
    """Reduced to 1 / (1 + strength) or enlarged by up to 1 + strength, either as likely."""
    factor = (1 + numbers.strength("scale")) ** numbers.direction("scale")[:, 0]
    return _about_centre(frame, 1 / factor, 0 * factor, 0 * factor, 1 / factor)


def shear(numbers: Numbers, frame: Frame) -> Array:
    """Sideways, then upright: areas stay what they are."""
    lean = np.tan(numbers.amount("shear_degrees", "shear", 2, np.pi / 180))
    x, y = lean.T
    return _about_centre(frame, 1 + x * y, x, y, np.ones_like(x))


def rotation(numbers: Numbers, frame: Frame) -> Array:
    """About the centre."""
    turn = numbers.amount("rotation_degrees", "rotation", unit=np.pi / 180)[:, 0]
    cos, sin = np.cos(turn), np.sin(turn)
    return _about_centre(frame, cos, -sin, sin, cos)


def translation(numbers: Numbers, frame: Frame) -> Array:
    """To fractions of a pixel, both ways on their own."""
    return _shift(numbers.amount("translation", "translation", 2, frame.stored))


# --- from what the network sees to the stored image -------------------------------------------------------------------


def resized_crop(numbers: Numbers, frame: Frame) -> Array:
    """A box of a random share of the area and a random aspect, to the size seen (Szegedy 2014, Going deeper).

    A side that would be longer than the image's is cut to it.
    """
    u = numbers.uniform("resized crop", 4)
    area = 1 - numbers.strength("resized_crop") * u[:, 0]
    aspect = (1 + numbers.strength("resized_crop_aspect")) ** (2 * u[:, 1] - 1)
    sides = np.minimum(np.sqrt(area[:, None] * np.stack([aspect, 1 / aspect], axis=1)), 1.0) * frame.stored  # B, 2
    factor = sides / frame.seen
    start = u[:, 2:] * (frame.stored - sides)
    matrices = _shift(start + 0.5 * factor - 0.5)
    matrices[:, 0, 0], matrices[:, 1, 1] = factor.T
    return matrices


def crop(numbers: Numbers, frame: Frame) -> Array:
    """A window at a whole-pixel offset; after a resized crop, which is of the seen size already, the padding alone."""
    padding = numbers.strength("crop_padding")[:, None]
    room = float(frame.stored - frame.seen) * (numbers.strength("resized_crop") == 0)[:, None]
    offsets = numbers.uniform("crop", 2) * (room + 2 * padding + 1)
    return _shift(np.floor(offsets) - padding)


def centre_crop(count: int, frame: Frame) -> Array:
    """What evaluation sees: (count, 3, 3)."""
    return _shift(np.full((count, 2), float((frame.stored - frame.seen) // 2)))


def horizontal_flip(numbers: Numbers, frame: Frame) -> Array:
    """Each time with one half's chance."""
    return _mirror(numbers.uniform("flip", 1)[:, 0] < 0.5, frame, axis=0)


def alternating_flip(numbers: Numbers, frame: Frame) -> Array:
    """In every second epoch; a coin of each image's own decides which of them (Jordan 2024, 94 % on CIFAR-10)."""
    return _mirror(numbers.coin("alternating flip") == (numbers.epoch % 2 == 0), frame, axis=0)


def vertical_flip(numbers: Numbers, frame: Frame) -> Array:
    """Each time with one half's chance."""
    return _mirror(numbers.uniform("vertical flip", 1)[:, 0] < 0.5, frame, axis=1)


WARPS: dict[str, Transform] = {
    "perspective": perspective,
    "scale": scale,
    "shear_degrees": shear,
    "rotation_degrees": rotation,
    "translation": translation,
}
WINDOWS: dict[str, Transform] = {
    "resized_crop": resized_crop,
    "crop_padding": crop,
    "horizontal_flip": horizontal_flip,
    "alternating_flip": alternating_flip,
    "vertical_flip": vertical_flip,
}
FRACTIONAL = (*WARPS, "resized_crop")  # what puts pixels between pixels
TURNING = ("perspective", "shear_degrees", "rotation_degrees")  # after which rows are no longer rows


def maps(numbers: Numbers, frame: Frame) -> Array:
    """Each sample's map from what the network sees to the stored image, (B, 3, 3): the identity where nothing is on."""
    return _composed(WARPS | WINDOWS, numbers, frame)


def warps(numbers: Numbers, frame: Frame) -> Array:
    """The part of it within the stored image."""
    return _composed(WARPS, numbers, frame)


def _composed(table: dict[str, Transform], numbers: Numbers, frame: Frame) -> Array:
    matrices = _IDENTITY
    for key, transform in table.items():
        always = key == "crop_padding" and frame.seen < frame.stored
        if numbers.on(key) or always:
            with_it = transform(numbers, frame) if matrices is _IDENTITY else matrices @ transform(numbers, frame)
            if not always and not numbers.everywhere(key):
                with_it = np.where(numbers.strength(key)[:, None, None] > 0, with_it, matrices)
            matrices = with_it
    return matrices if matrices is not _IDENTITY else np.tile(_IDENTITY, (len(numbers), 1, 1))


# --- whole pixels -----------------------------------------------------------------------------------------------------


def are_whole(matrices: Array) -> NDArray[np.bool_]:
    """Which maps (B, 3, 3) only shift by whole pixels and mirror, so that pixels can be copied: (B,)."""
    linear, offsets = np.abs(matrices[:, :, :2]), matrices[:, :2, 2]
    straight: NDArray[np.bool_] = (linear == _IDENTITY[:, :2]).reshape(len(matrices), -1).all(1)
    if not straight.any():
        return straight
    return cast(NDArray[np.bool_], straight & (offsets == np.floor(offsets)).all(1))


def copied(images: NDArray[np.uint8], matrices: Array, seen: int) -> NDArray[np.uint8]:
    """Images (B, H, W, C) moved by whole pixels as `matrices` say, (B, seen, seen, C): exact, whole rows at a time."""
    count, size, _, channels = images.shape
    mirrored = matrices[:, (0, 1), (0, 1)] < 0  # B, 2
    offsets = matrices[:, :2, 2] - np.where(mirrored, seen - 1, 0)
    left, top = np.clip(offsets, -seen, size).astype(np.int64).T
    padding = max(0, -left.min(), -top.min(), left.max() + seen - size, top.max() + seen - size)
    if padding > 0:
        padded = np.zeros((count, size + 2 * padding, (size + 2 * padding), channels), dtype=np.uint8)
        padded[:, padding:-padding, padding:-padding] = images
        images = padded
    if padding > 0 or seen < size:
        windows = sliding_window_view(images.reshape(*images.shape[:2], -1), (seen, seen * channels), (1, 2))
        images = windows[np.arange(count), top + padding, (left + padding) * channels]
    rows = images.reshape(count, seen, seen * channels)
    if mirrored[:, 0].any():
        backwards = np.arange(seen * channels).reshape(seen, channels)[::-1].reshape(-1)
        rows[mirrored[:, 0]] = np.take(rows[mirrored[:, 0]], backwards, axis=2)
    if mirrored[:, 1].any():
        rows[mirrored[:, 1]] = rows[mirrored[:, 1], ::-1]
    return rows.reshape(count, seen, seen, channels)


def _about_centre(frame: Frame, xx: Array, xy: Array, yx: Array, yy: Array) -> Array:
    """Linear maps [[xx, xy], [yx, yy]] (each (B,)) about the stored image's centre: (B, 3, 3)."""
    centre = (frame.stored - 1) / 2
    matrices = np.zeros((len(xx), 3, 3))
    matrices[:, 0] = np.stack([xx, xy, centre - centre * xx - centre * xy], axis=1)
    matrices[:, 1] = np.stack([yx, yy, centre - centre * yx - centre * yy], axis=1)
    matrices[:, 2, 2] = 1
    return matrices


def _shift(offsets: Array) -> Array:
    """Shifts by (B, 2) pixels: (B, 3, 3)."""
    matrices = np.tile(np.eye(3), (len(offsets), 1, 1))
    matrices[:, :2, 2] = offsets
    return matrices


def _mirror(chosen: NDArray[np.bool_], frame: Frame, axis: int) -> Array:
    """The chosen (B,) images mirrored along x (axis 0) or y (1), as the network sees them: (B, 3, 3)."""
    matrices = np.tile(np.eye(3), (len(chosen), 1, 1))
    matrices[chosen, axis, axis], matrices[chosen, axis, 2] = -1.0, frame.seen - 1.0
    return matrices
