"""What colours become: one matrix an image, from pixels in [0, 255] to [0, 1], later to the network's inputs."""

from collections.abc import Callable

import numpy as np

from pipeline.data.augmentation.statistics import Statistics
from pipeline.data.augmentation.strengths import Array, Numbers

# Red, green, blue to brightness and two axes of colour (NTSC's YIQ); the first row is ITU-R BT.601's luma.
YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
YIQ[1:] -= YIQ[1:].sum(1, keepdims=True) / 3  # grey has no colour, to the last digit
_RGB = np.linalg.inv(YIQ)
LUMA = YIQ[0]


def contrast(numbers: Numbers, statistics: Statistics) -> Array:
    """Scaled about mid-grey."""
    channels = len(statistics.mean)
    factor = 1 + numbers.amount("contrast", "contrast")
    return affine(factor[:, :, None] * np.eye(channels), 0.5 * (1 - factor).repeat(channels, 1))


def brightness(numbers: Numbers, statistics: Statistics) -> Array:
    """Added to all channels."""
    channels = len(statistics.mean)
    return affine(np.eye(channels)[None], numbers.amount("brightness", "brightness").repeat(channels, 1))


def saturation(numbers: Numbers, statistics: Statistics) -> Array:
    """Scaled about each pixel's luma."""
    factor = 1 + numbers.amount("saturation", "saturation")[:, :, None]
    grey = np.ones((3, 1)) * LUMA
    return affine(factor * np.eye(3) + (1 - factor) * grey, np.zeros((1, 3)))


def hue(numbers: Numbers, statistics: Statistics) -> Array:
    """Chroma turned in the plane of I and Q; luma and grey stay."""
    turn = numbers.amount("hue_degrees", "hue", unit=np.pi / 180)[:, 0]
    turned = np.zeros((len(turn), 3, 3))
    turned[:, 0, 0] = 1
    turned[:, 1, 1] = turned[:, 2, 2] = np.cos(turn)
    turned[:, 2, 1] = np.sin(turn)
    turned[:, 1, 2] = -turned[:, 2, 1]
    return affine(_RGB @ turned @ YIQ, np.zeros((1, 3)))


def pca_shift(numbers: Numbers, statistics: Statistics) -> Array:
    """AlexNet (Krizhevsky 2012), section 4.1: add [p1 p2 p3][a1 l1, a2 l2, a3 l3]^T, a ~ N(0, strength)."""
    alpha = numbers.strength("pca_shift")[:, None] * numbers.normal("pca", 3)
    weights = (alpha * np.array(statistics.eigenvalues))[:, None, :]
    shift = (np.array(statistics.eigenvectors) * weights).sum(2)  # no BLAS: its bits depend on the batch's size
    return affine(np.eye(3)[None], shift)


COLOURS: dict[str, Callable[[Numbers, Statistics], Array]] = {
    "contrast": contrast,
    "brightness": brightness,
    "saturation": saturation,
    "hue_degrees": hue,
    "pca_shift": pca_shift,
}
MIXING = ("saturation", "hue_degrees")  # a channel's result depends on other channels
_COLOUR_ONLY = (*MIXING, "pca_shift")


def composed(numbers: Numbers, statistics: Statistics, maps: Array) -> Array:
    """`maps` (B, C+1, C+1), from pixels to [0, 1], followed by each sample's transforms."""
    channels = len(statistics.mean)
    for key, transform in COLOURS.items():
        if numbers.on(key) and (channels == 3 or key not in _COLOUR_ONLY):
            on = numbers.strength(key)[:, None, None] > 0
            maps = np.where(on, transform(numbers, statistics) @ maps, maps)
    return maps


def affine(matrix: Array, shift: Array) -> Array:
    """Homogeneous (B, C+1, C+1) maps from (B, C, C) and (B, C)."""
    count, channels = max(len(matrix), len(shift)), shift.shape[1]
    maps = np.zeros((count, channels + 1, channels + 1))
    maps[:, :channels, :channels] = matrix
    maps[:, :channels, channels] = shift
    maps[:, channels, channels] = 1
    return maps
