"""An image in 292 bytes: enough to find its copies and to see that it is blank, without opening it again.

All sums are over whole numbers, so that an image's descriptor does not depend on the block, machine or library it is
computed with.
"""

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

SIDE = 16  # of the grey thumbnail, in cells
_COLOUR_SIDE = 4  # of the two colour thumbnails
_THUMBNAIL = SIDE * SIDE
_COLOUR = 2 * _COLOUR_SIDE**2
LENGTH = _THUMBNAIL + _COLOUR + 4
_GREY = (77, 150, 29)  # of 256: red, green, blue in brightness (ITU-R BT.601)
_BLOCK_BYTES = 4 << 20  # of pixels worked on at a time: the widened copies stay in the cache


class Descriptors(NamedTuple):
    """Rows of descriptors as what they hold, for N images."""

    thumbnails: NDArray[np.uint8]  # N, SIDE, SIDE: mean brightness of each cell
    colours: NDArray[np.uint8]  # N, 4, 4, 2: half of blue minus green and of red minus green, 128 for none
    brightness: NDArray[np.uint8]  # N: mean
    contrast: NDArray[np.float64]  # N: standard deviation of brightness, in steps of 0.5
    lowest: NDArray[np.uint8]  # N: the darkest pixel
    highest: NDArray[np.uint8]  # N: the brightest pixel


def describe(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One descriptor an image: (B, H, W, C) to (B, LENGTH); any size, any number of channels."""
    step = max(1, _BLOCK_BYTES // max(1, int(np.prod(pixels.shape[1:]))))
    result = np.empty((len(pixels), LENGTH), dtype=np.uint8)
    for start in range(0, len(pixels), step):
        _describe(pixels[start : start + step], result[start : start + step])
    return result


def unpack(descriptors: NDArray[np.uint8]) -> Descriptors:
    """Views of rows that `describe` made: (N, LENGTH)."""
    colour_end = _THUMBNAIL + _COLOUR
    brightness, contrast, lowest, highest = descriptors[:, colour_end:].T
    return Descriptors(
        descriptors[:, :_THUMBNAIL].reshape(-1, SIDE, SIDE),
        descriptors[:, _THUMBNAIL:colour_end].reshape(-1, _COLOUR_SIDE, _COLOUR_SIDE, 2),
        brightness,
        contrast / 2.0,
        lowest,
        highest,
    )


def _describe(pixels: NDArray[np.uint8], result: NDArray[np.uint8]) -> None:
    count, height, width, channels = pixels.shape
    size = height * width  # what the sum over a cell is divided by: cells are measured in 1/SIDE of a pixel
    cells = _sums(pixels)
    colour_end = _THUMBNAIL + _COLOUR
    result[:, :_THUMBNAIL] = _divided(_brightness(cells), size).reshape(count, -1)
    if channels == 3:
        step = SIDE // _COLOUR_SIDE
        larger = cells.reshape(count, _COLOUR_SIDE, step, _COLOUR_SIDE, step, 3).sum((2, 4))
        red, green, blue = np.moveaxis(_divided(larger, size * step**2), -1, 0)
        halves = np.stack([(blue - green + 256) // 2, (red - green + 256) // 2], axis=-1)
        result[:, _THUMBNAIL:colour_end] = halves.reshape(count, -1)
    else:
        result[:, _THUMBNAIL:colour_end] = 128
    grey = _brightness(pixels).reshape(count, -1)
    wide = grey.astype(np.float64)  # exact below 2**53, and quicker than whole numbers
    total, squares = wide.sum(1), np.einsum("bi,bi->b", wide, wide)
    result[:, colour_end] = _divided(total.astype(np.int64), size)
    result[:, colour_end + 1] = np.rint(2 * np.sqrt(np.maximum(squares / size - (total / size) ** 2, 0.0)))
    result[:, colour_end + 2] = grey.min(1)
    result[:, colour_end + 3] = grey.max(1)


def _brightness(values: NDArray[Any]) -> NDArray[Any]:
    """(..., C) to (...), in the same type, rounded down."""
    channels = values.shape[-1]
    if channels == 1:
        return values[..., 0]
    wide = values.astype(np.uint16, copy=False) if values.dtype == np.uint8 else values  # 255 * 256 just fits
    if channels != 3:
        return cast(NDArray[Any], (wide.sum(-1, dtype=np.int64) // channels).astype(values.dtype))
    result: NDArray[Any] = wide[..., 0] * _GREY[0]
    result += wide[..., 1] * _GREY[1]
    result += wide[..., 2] * _GREY[2]
    return (result // 256).astype(values.dtype)


def _divided(sums: NDArray[np.int64], by: int) -> NDArray[np.int64]:
    """Rounded to the nearest."""
    return (2 * sums + by) // (2 * by)


def _sums(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Sums over SIDE x SIDE cells of (B, H, W, C), in 1/SIDE**2 of a pixel: (B, SIDE, SIDE, C)."""
    count, height, width, channels = pixels.shape
    rows = pixels.reshape(count, height, width * channels)
    if height % SIDE == 0:  # whole pixels a cell: the usual sizes
        parts = rows.reshape(count, SIDE, height // SIDE, -1)
        total = parts[:, :, 0].astype(np.uint32)
        for i in range(1, height // SIDE):  # in turn, along whole lines: several times as quick as one sum
            total += parts[:, :, i]
        high = total.astype(np.float64) * SIDE
    else:
        high = np.matmul(_overlaps(height), rows.astype(np.float64))
    # Whole numbers in floating point, for BLAS: no sum exceeds 255 * H * W, far below 2**53.
    columns = high.reshape(count * SIDE, width, channels).transpose(0, 2, 1).reshape(-1, width)
    sums = (columns @ _overlaps(width).T).reshape(count, SIDE, channels, SIDE)
    return cast(NDArray[np.int64], sums.transpose(0, 1, 3, 2).astype(np.int64))


def _overlaps(length: int) -> NDArray[np.float64]:
    """How much of each pixel lies in each cell, in 1/SIDE of a pixel: (SIDE, length), every row's sum is `length`."""
    cells, pixels = np.arange(SIDE)[:, None] * length, np.arange(length)[None, :] * SIDE
    inside = np.minimum(cells + length, pixels + SIDE) - np.maximum(cells, pixels)
    return cast(NDArray[np.float64], np.maximum(0, inside).astype(np.float64))
