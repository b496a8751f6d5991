"""Boxes around what an image shows, in the pixels that are stored of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.raw.base import Box


def placed(
    boxes: Sequence[Box | None], sizes: NDArray[np.int32], size: int
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Boxes (left, top, right, bottom) moved along as `images.fitted` moves pixels: (N, 4), clipped to the square.

    sizes: (N, 2) height and width of the upright images; 0 for one that could not be read, whose box is 0.
    Also tells, by its place, why an image has no box that can be used.
    """
    problems = {row: "without a box, while others have one" for row, box in enumerate(boxes) if box is None}
    given = np.array([box or (0.0, 0.0, 1.0, 1.0) for box in boxes], dtype=np.float64).reshape(-1, 4)
    height, width = sizes[:, 0].astype(np.float64), sizes[:, 1].astype(np.float64)
    side = np.minimum(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    corner = np.stack([left, top, left, top], axis=1)
    with np.errstate(invalid="ignore", over="ignore"):  # hostile numbers become NaN or infinite, and are told below
        moved = np.clip((given - corner) * (size / np.maximum(side, 1))[:, None], 0, size).astype(np.float32)
        is_real = (given[:, 2] > given[:, 0]) & (given[:, 3] > given[:, 1]) & np.isfinite(given).all(1)
        meets = (given[:, 0] < width) & (given[:, 1] < height) & (given[:, 2] > 0) & (given[:, 3] > 0)
    is_kept = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
    was_read = side > 0
    for row in np.flatnonzero(was_read & ~(is_real & meets & is_kept)).tolist():
        text = ", ".join(f"{value:g}" for value in given[row].tolist())
        if not is_real[row]:
            why = f"box {text}: right must exceed left, and bottom top"
        elif not meets[row]:
            why = f"box {text}: outside the image of {sizes[row, 1]} x {sizes[row, 0]} pixels"
        else:
            why = f"box {text}: outside the centre square that is kept of {sizes[row, 1]} x {sizes[row, 0]} pixels"
        problems.setdefault(row, why)
    return np.where(was_read[:, None], moved, np.float32(0)), problems
