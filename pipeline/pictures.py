"""Sheets of many small images with captions, as PNG bytes: equal input gives equal bytes."""

import io
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.text import shown

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

_PAPER = (255, 255, 255)
_INK = (40, 44, 52)
_FRAME = (214, 218, 224)  # keeps white images apart from the paper
_GAP = 4
_MARGIN = 16
_FONT_SIZE = 13
_LINE_HEIGHT = 20
_CAPTION_WIDTH = 180  # of the column of captions, at most
_TARGET_SIDE = 48  # small images are enlarged to about this


def contact_sheet(
    rows: Sequence[tuple[str, NDArray[np.uint8]]], scale: int | None = None, columns: int | None = None
) -> bytes:
    """A PNG with one row (or more, when `columns` says where to break) a caption.

    rows: captions, each with its images (n, H, W, C) of uint8, C 1 or 3; n may be 0.
    scale: pixels a side for each pixel, nearest neighbour; None: as many as make the image easy to see.
    """
    from PIL import Image, ImageDraw

    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    font = _font()
    height, width = rows[0][1].shape[1:3]
    scale = scale or max(1, _TARGET_SIDE // max(height, width))
    cell_height, cell_width = height * scale + _GAP, width * scale + _GAP
    columns = columns or max(1, *(len(images) for _, images in rows))
    captions = [_fitted(caption, font) for caption, _ in rows]
    text_width = max(int(np.ceil(font.getlength(caption))) for caption in captions)
    lines = [max(1, -(-len(images) // columns)) for _, images in rows]  # rows of images under each caption
    heights = [max(count * cell_height, _LINE_HEIGHT) for count in lines]
    left = _MARGIN + text_width + 12
    sheet = Image.new(
        "RGB",
        (left + columns * cell_width - _GAP + _MARGIN, 2 * _MARGIN + sum(heights) + 2 * _GAP * (len(rows) - 1)),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for caption, (_, images), room in zip(captions, rows, heights, strict=True):
        middle = top + min(cell_height - _GAP, room) / 2
        draw.text((left - 12, middle), caption, fill=_INK, font=font, anchor="rm")
        for place, pixels in enumerate(images):
            x = left + place % columns * cell_width
            y = top + place // columns * cell_height
            draw.rectangle((x - 1, y - 1, x + width * scale, y + height * scale), outline=_FRAME)
            sheet.paste(_enlarged(pixels, scale), (x, y))
        top += room + 2 * _GAP
    stream = io.BytesIO()
    sheet.save(stream, format="PNG", optimize=False, compress_level=6)
    return stream.getvalue()


def _enlarged(pixels: NDArray[np.uint8], scale: int) -> "Image.Image":
    """(H, W, C) uint8 as an image `scale` times as large, every pixel a square."""
    from PIL import Image

    colour = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return Image.fromarray(np.ascontiguousarray(colour.repeat(scale, axis=0).repeat(scale, axis=1)))


@cache
def _font() -> "FreeTypeFont":
    """DejaVu Sans, which matplotlib carries: the same everywhere, and it has most of the world's letters."""
    from PIL import ImageFont

    spec = find_spec("matplotlib")  # located without the import, which costs a second
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("matplotlib is not installed", name="matplotlib")
    file = Path(spec.submodule_search_locations[0]) / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(file, _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)


def _fitted(caption: str, font: "FreeTypeFont") -> str:
    """The caption on one line, cut with an ellipsis where it is too long for its column."""
    text = shown(caption)
    if font.getlength(text) <= _CAPTION_WIDTH:
        return text
    while text and font.getlength(f"{text}...") > _CAPTION_WIDTH:
        text = text[:-1]
    return f"{text.rstrip()}..."
