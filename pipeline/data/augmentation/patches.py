"""What is hidden or put beside: blanked boxes, erased rectangles, and clutter (striped shapes, striped borders).

Places and colours are drawn on the host; the device paints them over normalised images (B, C, H, W).
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.augmentation import filters
from pipeline.data.augmentation.strengths import Array, Numbers

if TYPE_CHECKING:
    from torch import Tensor

_ERASED_ASPECT = 1 / 0.3  # Random erasing (Zhong 2017), section 4: height over width from 0.3 to 1 / 0.3
_OUTSIDE = -16.0  # sides away: where a shape is that is not there
_SHAPE_NUMBERS = 7
_BORDER_NUMBERS = 4


class Stripes(NamedTuple):
    """Bands of two colours across each image."""

    x: "Tensor"  # B: cycles a pixel along x
    y: "Tensor"  # B
    phase: "Tensor"  # B
    colours: "Tensor"  # B, 2, C, normalised


class Shapes(NamedTuple):
    """One shape an image: an ellipse, or a rectangle."""

    centre: "Tensor"  # B, 2: x and y, pixels
    turn: "Tensor"  # B, 2: cosine and sine of the long axis
    half: "Tensor"  # B, 2: half of the extents along and across it, pixels
    round: "Tensor"  # B, bool: an ellipse
    stripes: Stripes


class Clutter(NamedTuple):
    """What each image gets on top, in this order."""

    shapes: tuple[Shapes, ...]  # as many as any image of the set may have
    border: "Tensor | None"  # B: its width in pixels
    border_stripes: Stripes | None


class Erased(NamedTuple):
    """Rectangles filled with noise: uniform over the range of pixels."""

    boxes: "Tensor"  # B, K, 4
    keys: "Tensor"  # B, int32
    scale: "Tensor"  # 1, C: from [0, 1] to the network's inputs
    shift: "Tensor"  # 1, C


# --- on the host ------------------------------------------------------------------------------------------------------


def cutout(numbers: Numbers, side: int) -> NDArray[np.int64]:
    """Cutout (DeVries & Taylor 2017): (B, 4) top, bottom, left, right; centres uniform over the image."""
    length = numbers.strength("cutout_size").astype(np.int64)
    centre = np.floor(numbers.uniform("cutout", 2) * side).astype(np.int64)
    start = centre - (length // 2)[:, None]  # B, 2
    return np.stack([start[:, 0], start[:, 0] + length, start[:, 1], start[:, 1] + length], axis=1)


def erased(numbers: Numbers, side: int) -> NDArray[np.int64]:
    """Random erasing (Zhong 2017): (B, 4) top, bottom, left, right; wholly inside the image."""
    area = numbers.part("erasing", "erasing") * side**2
    u = numbers.uniform("erasing box", 3)
    aspect = _ERASED_ASPECT ** (2 * u[:, 0] - 1)
    lengths = np.minimum(np.rint(np.sqrt(area[:, None] * np.stack([aspect, 1 / aspect], axis=1))), side)
    start = np.floor(u[:, 1:] * (side - lengths + 1))
    ends = start + lengths
    return np.stack([start[:, 0], ends[:, 0], start[:, 1], ends[:, 1]], axis=1).astype(np.int64)


def clutter(numbers: Numbers, side: int, scale: Array, shift: Array) -> Clutter:
    """Shapes and border of each image. scale, shift: (C,), from colours in [0, 1] to the network's inputs."""
    import torch

    most = int(numbers.variants.largest("distractors"))
    shapes = tuple(_shape(numbers, number, side, scale, shift) for number in range(most))
    if not numbers.on("border"):
        return Clutter(shapes, None, None)
    width = np.rint(numbers.part("border", "border") * side)
    u = numbers.uniform("border stripes", _BORDER_NUMBERS + 2 * len(scale))
    stripes = _stripes(u[:, :_BORDER_NUMBERS], u[:, _BORDER_NUMBERS:], side, scale, shift)
    return Clutter(shapes, torch.from_numpy(width).float(), stripes)


def _shape(numbers: Numbers, number: int, side: int, scale: Array, shift: Array) -> Shapes:
    import torch

    count = _SHAPE_NUMBERS + _BORDER_NUMBERS + 2 * len(scale)
    u = numbers.uniform(f"distractor {number}", count)
    there = number < numbers.strength("distractors")
    angle = np.pi * u[:, 2]
    half = 0.5 * side * numbers.strength("distractor_size")[:, None] * (0.4 + 0.6 * u[:, 3:5])
    centre = np.where(there[:, None], u[:, :2] * side, _OUTSIDE * side)
    return Shapes(
        centre=torch.from_numpy(centre).float(),
        turn=torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], axis=1)).float(),
        half=torch.from_numpy(np.maximum(half, 0.5)).float(),
        round=torch.from_numpy(u[:, 5] < 0.5),
        stripes=_stripes(u[:, _SHAPE_NUMBERS:][:, :_BORDER_NUMBERS], u[:, -2 * len(scale) :], side, scale, shift),
    )


def _stripes(u: Array, colours: Array, side: int, scale: Array, shift: Array) -> Stripes:
    """Bands of two pixels to a quarter of the side; u: (B, 4), colours: (B, 2 C), both in [0, 1)."""
    import torch

    period = 2 * np.maximum(2.0, 2 * (side / 8) ** u[:, 0])
    angle = np.pi * u[:, 1]
    pair = colours.reshape(len(u), 2, -1) * scale + shift
    parts = np.cos(angle) / period, np.sin(angle) / period, u[:, 2], pair
    return Stripes(*(torch.from_numpy(part).float() for part in parts))


# --- on the device ----------------------------------------------------------------------------------------------------


def painted(pixels: "Tensor", added: Clutter) -> "Tensor":
    """Images (B, C, H, W) under their clutter."""
    import torch

    line = torch.arange(pixels.shape[-1], device=pixels.device, dtype=torch.float32)
    x, y = line[None, None, :], line[None, :, None]
    for shape in added.shapes:
        dx, dy = x - shape.centre[:, 0, None, None], y - shape.centre[:, 1, None, None]
        cos, sin = shape.turn[:, 0, None, None], shape.turn[:, 1, None, None]
        along = (dx * cos + dy * sin) / shape.half[:, 0, None, None]
        across = (dy * cos - dx * sin) / shape.half[:, 1, None, None]
        inside = torch.where(
            shape.round[:, None, None], along * along + across * across, torch.maximum(along.abs(), across.abs())
        )
        pixels = torch.where((inside <= 1)[:, None], _striped(x, y, shape.stripes), pixels)
    if added.border is not None and added.border_stripes is not None:
        nearest = torch.minimum(line, pixels.shape[-1] - 1 - line)  # pixels between here and the nearer edge
        at_edge = torch.minimum(nearest[None, None, :], nearest[None, :, None]) < added.border[:, None, None]
        pixels = torch.where(at_edge[:, None], _striped(x, y, added.border_stripes), pixels)
    return pixels


def _striped(x: "Tensor", y: "Tensor", stripes: Stripes) -> "Tensor":
    """(B, C, H, W)."""
    import torch

    at = x * stripes.x[:, None, None] + y * stripes.y[:, None, None] + stripes.phase[:, None, None]
    first = (at - at.floor() < 0.5)[:, None]
    return torch.where(first, stripes.colours[:, 0, :, None, None], stripes.colours[:, 1, :, None, None])


def inside(boxes: "Tensor", side: int) -> "Tensor":
    """Which pixels lie in any of an image's boxes (B, K, 4) top, bottom, left, right: (B, side, side)."""
    import torch

    line = torch.arange(side, device=boxes.device)
    top, bottom, left, right = (boxes[:, :, edge, None] for edge in range(4))  # B, K, 1
    rows, columns = (line >= top) & (line < bottom), (line >= left) & (line < right)  # B, K, side
    return (rows[:, :, :, None] & columns[:, :, None, :]).any(1)


def filled_with_noise(pixels: "Tensor", erasing: Erased) -> "Tensor":
    """Images (B, C, H, W) with each pixel of the rectangles a random colour."""
    import torch

    noise = filters.uniform(erasing.keys, tuple(pixels.shape[1:]))
    noise = noise.mul_(erasing.scale[:, :, None, None]).add_(erasing.shift[:, :, None, None])
    return torch.where(inside(erasing.boxes, pixels.shape[-1])[:, None], noise, pixels)
