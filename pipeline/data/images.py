"""From the content of an image file to pixels: any size and mode in, (size, size, channels) uint8 out.

JPEG files without a rotation go through simplejpeg, five times as fast as PIL and pixel for pixel the same; all else
through PIL.
"""

import io
import warnings
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.raw.base import Decoded

if TYPE_CHECKING:
    from PIL import Image

# More pixels than this are taken for a decompression bomb (PIL's own threshold for a warning; here an error).
MOST_PIXELS = 1024 * 1024 * 1024 // 4 // 3
_WHITE = (255, 255, 255, 255)
# PIL's modules for formats that pixels alone are read from: none that calls other programs (EPS) or holds documents.
_PLUGINS = ("Jpeg", "Mpo", "Png", "Gif", "Bmp", "Tiff", "WebP", "Ppm", "Jpeg2K", "Avif", "Ico")
_FORMATS = frozenset({"JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "ICO"})


class Unreadable(Exception):
    """This content is no image that can be read, and why."""


def decode(content: bytes, size: int, channels: int) -> Decoded:
    """The image in `content`, upright, flattened on white, its first frame if it moves: (size, size, channels).

    The shorter side is brought to `size` (antialiased bicubic) and the centre square kept; an image of that size
    already keeps every bit. Raises Unreadable, with the reason, for what is truncated, no image, or too large.
    """
    if not content:
        raise Unreadable("empty file")
    plain = _plain_jpeg(content) if content[:2] == b"\xff\xd8" else None
    pixels = _by_pil(content) if plain is None else plain
    height, width, _ = pixels.shape
    return Decoded(
        fitted(pixels, size, channels), height, width, plain is not None and plain.shape == (size, size, channels)
    )


def fitted(pixels: NDArray[np.uint8], size: int, channels: int) -> NDArray[np.uint8]:
    """(H, W, C) brought to (size, size, channels), C and channels 1 or 3."""
    height, width, depth = pixels.shape
    if depth == 3 and channels == 1:
        from PIL import Image

        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]  # ITU-R 601-2
    if (height, width) != (size, size):
        from PIL import Image

        # The centre square alone is resampled: as resizing the whole and cropping, but a panorama needs no memory.
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        if side != size:
            image = Image.fromarray(square[:, :, 0] if square.shape[2] == 1 else square)
            square = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).reshape(size, size, -1)
        pixels = square
    return np.broadcast_to(pixels, (size, size, channels)) if pixels.shape[2] != channels else pixels


def _plain_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    """The pixels (H, W, 1 or 3) of a JPEG that needs no more than decoding; None for one that PIL should look at."""
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        _refuse_bomb(width, height)
        if colours not in ("YCbCr", "Gray") or (_may_be_rotated(content) and _orientation(content) != 1):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, "GRAY" if colours == "Gray" else "RGB", fastdct=False, fastupsample=False, strict=True
        )
    except ValueError as error:
        if "premature end" in str(error).lower():  # PIL fills the rest with grey when an end marker follows
            raise Unreadable(f"truncated ({error})") from None
        return None
    return pixels


def _may_be_rotated(content: bytes) -> bool:
    return b"Exif\0\0" in content or b"tiff:Orientation" in content


def _orientation(content: bytes) -> int:
    """EXIF's orientation, 1 for upright; 0 when PIL cannot tell, so that PIL is asked for the pixels as well."""
    from PIL import ExifTags, Image

    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata raises anything
        return 0


@cache
def _formats() -> tuple[str, ...]:
    """The allowed formats that this PIL was built with; it knows those alone whose modules are imported."""
    from PIL import Image

    for name in _PLUGINS:
        import_module(f"PIL.{name}ImagePlugin")
    return tuple(sorted(_FORMATS & Image.OPEN.keys()))


def _by_pil(content: bytes) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    formats = _formats()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; size is checked below, before any pixel is decoded
            with Image.open(io.BytesIO(content), formats=formats) as image:
                _refuse_bomb(*image.size)
                image.load()
                return _eight_bits(ImageOps.exif_transpose(image))
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("not an image, or of a kind that is not supported") from None
    except Exception as error:  # a decoder fed damaged bytes raises anything: struct.error, SyntaxError, IndexError...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(f"truncated ({reason})" if "truncat" in reason.lower() else reason) from None


def _eight_bits(image: "Image.Image") -> NDArray[np.uint8]:
    """Any mode as (H, W, 1 or 3)."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if values.dtype != np.uint16 and (image.mode == "F" or values.min() < 0 or values.max() > 65_535):
            raise Unreadable(f"pixels of mode {image.mode} have no agreed range; save it with 8 or 16 bits a channel")
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)[:, :, None]  # 65535 = 255 * 257
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return np.asarray(image).reshape(image.height, image.width, -1)


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise Unreadable(f"{width} x {height} pixels, more than {MOST_PIXELS}: taken for a decompression bomb")
