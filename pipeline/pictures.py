"""Pictures made of images: sheets with captions, thumbnails; as PNG bytes, equal for equal input."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.text import shown

if TYPE_CHECKING:
    from PIL import Image, ImageDraw
    from PIL.ImageFont import FreeTypeFont

_PAPER = (255, 255, 255)
_INK = (40, 44, 52)
_WRONG = (201, 52, 43)
_FRAME = (214, 218, 224)  # keeps white images apart from the paper
_GAP = 4
_MARGIN = 16
_FONT_SIZE = 13
_LINE_HEIGHT = 20
_CAPTION_WIDTH = 180  # of the column of captions, at most
_TARGET_SIDE = 48  # small images are enlarged to about this
_PLANE_SIDE = 480  # of the plane in which points are shown together
_POINT_SIDE = 64  # of the plane in which one is shown alone
# Okabe & Ito 2008, Color Universal Design: told apart also by the colour-blind; two greys more
_HUES = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66),
    (0, 0, 0), (110, 110, 110), (180, 180, 180),
)  # fmt: skip
_LARGEST_SIDE = 160  # larger ones are reduced to this: a sheet of photographs must fit into memory, and into a report


def contact_sheet(rows: Sequence[tuple[str, NDArray[np.uint8]]], columns: int | None = None) -> bytes:
    """A PNG with one row (or more, when `columns` says where to break) a caption.

    rows: captions, each with its images (n, H, W, C) of uint8, C 1 or 3; n may be 0. Small images are enlarged by a
    whole factor, every pixel a square; large ones are reduced. Images with two channels are points of the plane, shown
    together in one picture, a colour for each caption.
    """
    from PIL import Image, ImageDraw

    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    if rows[0][1].shape[3] == 2:
        return _scatter(rows)
    font = _font()
    height, width = rows[0][1].shape[1:3]
    factor = max(1.0, _TARGET_SIDE // max(height, width)) * min(1.0, _LARGEST_SIDE / max(height, width))
    height, width = max(1, round(height * factor)), max(1, round(width * factor))  # as drawn
    cell_height, cell_width = height + _GAP, width + _GAP
    columns = columns or max(1, *(len(images) for _, images in rows))
    captions = [_fitted(shown(caption), font, _CAPTION_WIDTH) for caption, _ in rows]
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
            draw.rectangle((x - 1, y - 1, x + width, y + height), outline=_FRAME)
            sheet.paste(_resized(pixels, width, height), (x, y))
        top += room + 2 * _GAP
    return _png(sheet)


def _scatter(rows: Sequence[tuple[str, NDArray[np.uint8]]]) -> bytes:
    """Points (n, 1, 1, 2), x to the right and y up, in a square with its axes; the captions beside it."""
    from PIL import Image, ImageDraw

    side, fine = _PLANE_SIDE, 3  # drawn three times as large and reduced, which makes discs round
    plane = Image.new("RGB", (side * fine, side * fine), _PAPER)
    draw = ImageDraw.Draw(plane)
    middle, end = side * fine // 2, side * fine - 1
    draw.line((middle, 0, middle, end), fill=_FRAME, width=fine)
    draw.line((0, middle, end, middle), fill=_FRAME, width=fine)
    draw.rectangle((0, 0, end, end), outline=_FRAME, width=fine)
    number = max(len(images) for _, images in rows)
    for place in range(number):  # in turn, so that no row hides another
        for row, (_, images) in enumerate(rows):
            if place < len(images):
                _disc(draw, images[place], _HUES[row % len(_HUES)], side * fine, radius=3 * fine)
    font = _font()
    captions = [_fitted(shown(caption), font, _CAPTION_WIDTH) for caption, _ in rows]
    width = max(int(np.ceil(font.getlength(caption))) for caption in captions)
    height = max(side, len(rows) * _LINE_HEIGHT)
    sheet = Image.new("RGB", (side + width + 3 * _MARGIN + 16, height + 2 * _MARGIN), _PAPER)
    sheet.paste(plane.resize((side, side), Image.Resampling.BOX), (_MARGIN, _MARGIN))
    draw = ImageDraw.Draw(sheet)
    for row, caption in enumerate(captions):
        x, y = side + 2 * _MARGIN, _MARGIN + row * _LINE_HEIGHT + _LINE_HEIGHT // 2
        draw.ellipse((x, y - 4, x + 8, y + 4), fill=_HUES[row % len(_HUES)])
        draw.text((x + 16, y), caption, fill=_INK, font=font, anchor="lm")
    return _png(sheet)


def _disc(
    draw: "ImageDraw.ImageDraw", point: NDArray[np.uint8], colour: tuple[int, int, int], side: int, radius: int
) -> None:
    """A point (1, 1, 2) where it lies in a square of `side` pixels."""
    x, y = (0.03 + 0.94 * float(value) / 255 for value in point.reshape(2))  # a rim, so that discs are whole
    centre_x, centre_y = x * side, (1 - y) * side
    draw.ellipse((centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius), fill=colour)


@dataclass(frozen=True, eq=False)
class Mistaken:
    """One wrongly classified image, (H, W, C) uint8, and what was said of it."""

    image: NDArray[np.uint8]
    path: str
    actual: int  # position in the classes
    predicted: int
    probability_actual: float
    probability_predicted: float


def mistakes(wrong: Sequence[Mistaken], names: Sequence[str], *, columns: int = 6) -> bytes:
    """A sheet of wrongly classified images, each above what it was taken for and what it is.

    names: of the classes, as the font can show them (figures.labels).
    """
    from PIL import Image, ImageDraw

    side, gap, line = 128, 14, 17  # 128: small images usually are a power of two wide
    columns = max(1, min(columns, len(wrong)))
    rows = -(-len(wrong) // columns)
    font = _font(12)
    width = max(gap + columns * (side + gap), 300)
    height = gap + rows * (side + 2 * line + gap + 4) if wrong else 60
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if not wrong:
        draw.text((gap, 20), "No image was classified wrongly.", fill=_INK, font=font)
    for number, mistake in enumerate(wrong):
        row, column = divmod(number, columns)
        x, y = gap + column * (side + gap), gap + row * (side + 2 * line + gap + 4)
        tile = _within(mistake.image, side)
        sheet.paste(tile, (x + (side - tile.width) // 2, y + (side - tile.height) // 2))
        for verb, number_of_class, probability, colour, below in (
            ("said", mistake.predicted, mistake.probability_predicted, _WRONG, 4),
            ("is", mistake.actual, mistake.probability_actual, _INK, 4 + line),
        ):
            share = f" ({percent(probability)})"
            text = _fitted(f"{verb} {names[number_of_class]}", font, side - font.getlength(share)) + share
            draw.text((x, y + side + below), text, fill=colour, font=font)
    return _png(sheet)


def small_png(image: NDArray[np.uint8], largest: int = 128) -> bytes:
    """One (H, W, C) uint8 image as a PNG of its own size, or smaller where a side is above `largest` pixels."""
    from PIL import Image

    picture = _picture(image)
    picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    return _png(picture)


def percent(share: float) -> str:
    """A probability as a whole percentage that says 100 only where it is 1, and 0 only where it is 0."""
    whole = round(100 * share)
    if whole == 100 and share < 1:
        return ">99 %"
    return "<1 %" if whole == 0 and share > 0 else f"{whole} %"


def _picture(pixels: NDArray[np.uint8]) -> "Image.Image":
    """(H, W, C) uint8, C 1 or 3; of C 2, a point of the plane, the plane with the point in it."""
    from PIL import Image, ImageDraw

    if pixels.shape[2] == 2:
        plane = Image.new("RGB", (_POINT_SIDE, _POINT_SIDE), _PAPER)
        draw = ImageDraw.Draw(plane)
        draw.line((_POINT_SIDE // 2, 0, _POINT_SIDE // 2, _POINT_SIDE), fill=_FRAME)
        draw.line((0, _POINT_SIDE // 2, _POINT_SIDE, _POINT_SIDE // 2), fill=_FRAME)
        draw.rectangle((0, 0, _POINT_SIDE - 1, _POINT_SIDE - 1), outline=_FRAME)
        _disc(draw, pixels, _WRONG, _POINT_SIDE, radius=3)
        return plane
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))


def _resized(pixels: NDArray[np.uint8], width: int, height: int) -> "Image.Image":
    """Enlarged so that every pixel is a square, or reduced smoothly."""
    from PIL import Image

    picture = _picture(pixels)
    enlarged = width >= picture.width
    return picture.resize((width, height), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)


def _within(pixels: NDArray[np.uint8], side: int) -> "Image.Image":
    """As large as fits into a square: by a whole factor, so that pixels stay pixels, or reduced."""
    height, width = (_POINT_SIDE, _POINT_SIDE) if pixels.shape[2] == 2 else pixels.shape[:2]
    factor: float = side // max(height, width) or side / max(height, width)
    return _resized(pixels, max(1, round(width * factor)), max(1, round(height * factor)))


def _png(picture: "Image.Image") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


@cache
def _font(size: int = _FONT_SIZE) -> "FreeTypeFont":
    """DejaVu Sans, which matplotlib carries: the same everywhere, and it has most of the world's letters."""
    from PIL import ImageFont

    spec = find_spec("matplotlib")  # located without the import, which costs a second
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("matplotlib is not installed", name="matplotlib")
    file = Path(spec.submodule_search_locations[0]) / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def _fitted(text: str, font: "FreeTypeFont", width: float) -> str:
    """A text, cut with an ellipsis where it is too long for its place."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
