"""What sources in official formats share: where their files lie, and pixels that have no file of their own."""

from collections.abc import Callable
from pathlib import Path

from pipeline import paths
from pipeline.data.raw.base import Decoded
from pipeline.data.text import shown


def home(path: Path | None, kind: str) -> tuple[Path, str]:
    """Where a source's files lie, and what messages call that: data.path, or data/raw/KIND where that is null."""
    if path is None:
        return paths.raw(kind), f"{paths.RAW}/{kind}"
    return path, f"data.path: {shown(str(path))}"


def raw_decoder(
    shape: tuple[int, int, int], axes: tuple[int, int, int], size: int, channels: int
) -> Callable[[bytes], Decoded]:
    """From pixel bytes, an array of `shape` in C order, to (size, size, channels).

    axes: of that array, which are height, width and channels.
    """
    import numpy as np

    from pipeline.data.images import Unreadable, fitted

    def decode(content: bytes) -> Decoded:
        if len(content) != shape[0] * shape[1] * shape[2]:
            raise Unreadable(f"{len(content)} bytes, not {' x '.join(map(str, shape))}")
        pixels = np.frombuffer(content, dtype=np.uint8).reshape(shape).transpose(axes)
        height, width, _ = pixels.shape
        return Decoded(fitted(pixels, size, channels), height, width)

    return decode


def numbered(split: str, index: int) -> str:
    """The name of an image without a file of its own: stable, and sorted as the images lie."""
    return f"{split}/{index:05d}"
