"""What a network must know of the images and the answers."""

from typing import NamedTuple


class Shape(NamedTuple):
    """Images are (N, channels, image_size, image_size); answers are (N, outputs) scores, or numbers."""

    channels: int
    image_size: int
    outputs: int


class ImageTooSmallError(ValueError):
    """The images are smaller than the network's strides allow; the message names the smallest size that works."""


def require_size(shape: Shape, halvings: int, what: str) -> None:
    """Raise ImageTooSmallError unless the image can be halved `halvings` times."""
    smallest = 2**halvings
    if shape.image_size < smallest:
        raise ImageTooSmallError(
            f"{what} halves the image {halvings} times and needs at least {smallest}x{smallest} pixels,"
            f" not {shape.image_size}x{shape.image_size}; use fewer stages or larger images"
        )
