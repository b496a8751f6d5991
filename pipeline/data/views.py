"""Test-time augmentation: which pictures of an image a model is asked about, its probabilities then being averaged.

Views are windows of whole pixels, mirrored or not, so each is an exact copy of pixels. Every set begins with the plain
view: the window in the middle. What goes beyond the image repeats its edge.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class View(NamedTuple):
    """One window: up (-1), in the middle (0) or down (1), left (-1) to right (1), as it is or mirrored."""

    down: int
    right: int
    mirrored: bool


_CENTRE = ((0, 0),)
_SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))
_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))

VIEWS: dict[str, tuple[View, ...]] = {
    "none": (View(0, 0, False),),
    "flip": (View(0, 0, False), View(0, 0, True)),
    # Never mirrored: for images like digits, which a mirror makes into something else.
    "shifts": tuple(View(*place, False) for place in _CENTRE + _SIDES),
    # AlexNet (Krizhevsky 2012), section 4.1: the four corners and the centre, and their mirror images.
    "ten_crop": tuple(View(*place, mirrored) for mirrored in (False, True) for place in _CENTRE + _CORNERS),
}


@dataclass(frozen=True)
class Averaged:
    """A set of views, by its name in `VIEWS`, and by how many pixels its windows are moved."""

    name: str = "none"
    pixels: int = 1

    @property
    def count(self) -> int:
        """How many views an image has."""
        return len(VIEWS[self.name])

    def of(self, images: NDArray[np.uint8], side: int | None = None) -> Iterator[NDArray[np.uint8]]:
        """The views (B, side, side, C) of square images (B, H, H, C), one view at a time.

        side: of what the model takes; None: H. Where it is less than H, ten_crop takes the corners of the image, as
        AlexNet took 224 of 256 pixels. Otherwise, and in shifts always, a window is moved by `pixels`.
        """
        height = images.shape[1]
        side = height if side is None else side
        views = VIEWS[self.name]
        crops = self.name == "ten_crop" and side < height
        margin = self.pixels if any(view.down or view.right for view in views) and not crops else 0
        padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge") if margin else images
        last = padded.shape[1] - side  # the largest place of a window's first row
        middle = last // 2
        places = (0, middle, last) if crops else (middle - margin, middle, middle + margin)
        for view in views:
            top, left = places[view.down + 1], places[view.right + 1]
            window = padded[:, top : top + side, left : left + side]
            yield np.ascontiguousarray(window[:, :, ::-1] if view.mirrored else window)


PLAIN = Averaged()
