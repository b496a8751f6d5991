"""What a network must know of the images and the answers."""

from typing import NamedTuple


class Shape(NamedTuple):
    """Images are (N, channels, image_size, image_size); answers are (N, outputs) scores, or numbers."""

    channels: int
    image_size: int
    outputs: int


class ImageTooSmallError(ValueError):
    """The images are smaller than the network's strides allow; the message names the smallest size that works."""


def require_size(shape: Shape, halvings: int, what: str, remedy: str = "use fewer stages or larger images") -> None:
    """Raise ImageTooSmallError unless the image can be halved `halvings` times."""
    require_pixels(shape, 2**halvings, f"{what} halves the image {halvings} times and", remedy)


def require_pixels(shape: Shape, smallest: int, what: str, remedy: str) -> None:
    """Raise ImageTooSmallError unless the image has `smallest` pixels a side."""
    if shape.image_size < smallest:
        raise ImageTooSmallError(
            f"{what} needs at least {smallest}x{smallest} pixels, not {shape.image_size}x{shape.image_size}; {remedy}"
        )
