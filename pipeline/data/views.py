"""Test-time augmentation: which pictures of an image a model is asked about, its probabilities then being averaged.

A view is the image moved by whole pixels and perhaps mirrored, at its own size, so a model takes it as it takes any
image; of one that crops, it is the crop that moves. What comes in beyond an image's edge repeats the edge. Every set
begins with the image itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class View(NamedTuple):
    """What the model sees: from up (-1) to down (1), from left (-1) to right (1), as it is or mirrored."""

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
    """A set of views, by its name in `VIEWS`, and by how many pixels they are moved."""

    name: str = "none"
    pixels: int = 1

    @property
    def count(self) -> int:
        """How many views an image has."""
        return len(VIEWS[self.name])

    def of(self, images: NDArray[np.uint8], seen: int | None = None) -> Iterator[NDArray[np.uint8]]:
        """The views of square images (B, H, H, C), each of the same shape, one view at a time.

        seen: side of the images' centre that the model takes, starting at (H - seen) // 2; None: H. Where it is less
        than H, ten_crop moves it into the corners of the image, as AlexNet took 224 of 256 pixels, whatever `pixels`
        is; a mirrored view is the mirror of what is seen, also where no pixel is in the middle.
        """
        side = images.shape[1]
        spare = side - (side if seen is None else seen)
        before, after = spare // 2, spare - spare // 2  # of the centre
        corners = self.name == "ten_crop" and spare > 0
        moves = (-before, 0, after) if corners else (-self.pixels, 0, self.pixels)
        # The mirror of the whole image would show the centre's mirror `after - before` pixels aside.
        aside = after - before
        views = VIEWS[self.name]
        places = [(moves[view.down + 1], moves[view.right + 1] - aside * view.mirrored) for view in views]
        margin = max(abs(offset) for place in places for offset in place)
        padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge") if margin else images
        for view, (top, left) in zip(views, places, strict=True):
            moved = padded[:, margin + top :, margin + left :][:, :side, :side]
            yield np.ascontiguousarray(moved[:, :, ::-1] if view.mirrored else moved)


PLAIN = Averaged()
