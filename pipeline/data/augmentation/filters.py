"""What pixels become: a Gaussian blur of each image's own width, and noise that the device makes from a key."""

from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.augmentation.strengths import Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Noise(NamedTuple):
    """Of each image."""

    deviation: "Tensor"  # B, of pixels in [0, 255]
    keys: "Tensor"  # B, int32


def blur_weights(deviations: Array, largest: float) -> Array:
    """Gaussian weights (B, 2 r + 1), cut at three times the `largest` deviation, in pixels, that any image may have.

    r does not depend on the batch. A deviation of 0 gives weight 1 to the pixel itself and 0 to all others.
    """
    radius = max(1, int(np.ceil(3 * largest)))
    steps = np.arange(-radius, radius + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.exp(-0.5 * (steps / deviations[:, None]) ** 2)
    weights = np.where(deviations[:, None] > 0, weights, steps == 0)
    return weights / weights.sum(1, keepdims=True)  # type: ignore[no-any-return]


def blurred(pixels: "Tensor", weights: "Tensor") -> "Tensor":
    """Images (B, C, H, W) filtered along both axes; beyond the edge, the edge's pixel goes on."""
    from torch.nn import functional

    radius = weights.shape[1] // 2
    taps = weights.T[:, :, None, None, None]  # 2 r + 1, B, 1, 1, 1
    for axis, padding in ((3, (radius, radius, 0, 0)), (2, (0, 0, radius, radius))):
        length = pixels.shape[axis]
        padded = functional.pad(pixels, padding, mode="replicate")
        pixels = pixels * taps[radius]
        for step in range(1, radius + 1):
            pair = padded.narrow(axis, radius - step, length) + padded.narrow(axis, radius + step, length)
            pixels.add_(pair.mul_(taps[radius + step]))
    return pixels


def noisy(pixels: "Tensor", noise: Noise) -> "Tensor":
    """Images (B, C, H, W) with a normal number of its own added to each value."""
    drawn = normal(noise.keys, tuple(pixels.shape[1:]))
    return drawn.mul_(noise.deviation[:, None, None, None]).add_(pixels)


# --- numbers on the device --------------------------------------------------------------------------------------------


def hashed(keys: "Tensor", shape: tuple[int, ...]) -> "Tensor":
    """32 random bits for every place of `shape` of each image, (B, *shape) int32: a function of key and place alone.

    The finaliser is lowbias32 (Wellons 2018, Prospecting for hash functions); integers wrap, so all devices agree.
    """
    import torch

    places = torch.arange(int(np.prod(shape)), dtype=torch.int32, device=keys.device).view(shape)
    x = places * _signed(0x9E3779B9) + keys.view(-1, *[1] * len(shape))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = x.bitwise_xor_((x >> shift).bitwise_and_((1 << 32 - shift) - 1)).mul_(_signed(factor))
    return x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))


def uniform(keys: "Tensor", shape: tuple[int, ...]) -> "Tensor":
    """Numbers in [0, 1) of 24 bits, (B, *shape) float32."""
    return (hashed(keys, shape) & 0xFFFFFF).float().mul_(2.0**-24)


def normal(keys: "Tensor", shape: tuple[int, ...]) -> "Tensor":
    """Standard normal numbers, (B, *shape) float32: quantiles from a table, since logarithms differ between devices."""
    import torch

    rows = hashed(keys, shape).bitwise_and_(0xFFFF)
    return _quantiles(keys.device).index_select(0, rows.view(-1)).view(rows.shape).to(torch.float32)


@cache
def _quantiles(device: "torch.device") -> "Tensor":
    import torch

    return torch.from_numpy(quantiles()).to(device)


@cache
def quantiles() -> NDArray[np.float32]:
    """Of the normal distribution, in the middle of 2**16 equal shares."""
    places = ((np.arange(2**16) + 0.5) / 2**16).tolist()
    return np.array([NormalDist().inv_cdf(place) for place in places], dtype=np.float32)


def _signed(number: int) -> int:
    """32 bits as torch's int32 has them."""
    return number - (1 << 32) if number >= 1 << 31 else number
