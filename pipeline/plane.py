"""Points of the plane as a picture: an image of one pixel with two channels is one, x to the right and y up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import Rows
from pipeline.drawing import FAINT, PAPER

if TYPE_CHECKING:
    from PIL import Image

# Okabe & Ito 2008, Color Universal Design: told apart also by the colour-blind; two greys more
HUES = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66),
    (0, 0, 0), (110, 110, 110), (180, 180, 180),
)  # fmt: skip
AXES = FAINT
_RIM = 0.03  # of the side, so that discs at the edge are whole
_FINE = 3  # drawn so many times as large and reduced, which makes discs round


def are_points(images: Rows) -> bool:
    """Whether images (..., C) are points of the plane."""
    return bool(images.shape[-1] == 2)


def plane(
    groups: Sequence[NDArray[np.uint8]],
    side: int,
    radius: float = 3.0,
    hues: Sequence[tuple[int, int, int]] = HUES,
) -> "Image.Image":
    """A square of `side` pixels with its axes, and in it each group's points, (n, 1, 1, 2), in the group's colour.

    radius: of the discs, in pixels. Groups are drawn in turn, point by point, so that none hides another.
    """
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (side * _FINE, side * _FINE), PAPER)
    draw = ImageDraw.Draw(picture)
    middle, end = side * _FINE // 2, side * _FINE - 1
    draw.line((middle, 0, middle, end), fill=AXES, width=_FINE)
    draw.line((0, middle, end, middle), fill=AXES, width=_FINE)
    draw.rectangle((0, 0, end, end), outline=AXES, width=_FINE)
    reach = radius * _FINE
    for place in range(max((len(points) for points in groups), default=0)):
        for group, points in enumerate(groups):
            if place < len(points):
                x, y = (_RIM + (1 - 2 * _RIM) * float(value) / 255 for value in points[place].reshape(2))
                across, down = x * side * _FINE, (1 - y) * side * _FINE
                disc = (across - reach, down - reach, across + reach, down + reach)
                draw.ellipse(disc, fill=hues[group % len(hues)])
    return picture.resize((side, side), Image.Resampling.BOX)
