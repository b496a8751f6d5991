"""Pictures made of images: sheets with captions, thumbnails; as PNG bytes, equal for equal input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import drawing
from pipeline.data.text import shown
from pipeline.drawing import INK, PAPER
from pipeline.plane import AXES, HUES, are_points, plane

if TYPE_CHECKING:
    from PIL import Image

OUTLINE = _WRONG = (201, 52, 43)
_FAINT_INK = (106, 115, 128)
_FRAME = AXES  # keeps white images apart from the paper
_GAP = 4
_MARGIN = 16
_FONT_SIZE = 13
_SMALL_FONT_SIZE = 11
_LINE_HEIGHT = 20
_CAPTION_WIDTH = 180  # of the column of captions, at most
_TARGET_SIDE = 48  # small images are enlarged to about this
_LARGEST_TILE = 64  # of a sheet with many in a row
_PLANE_SIDE = 480  # of the plane in which points are shown together
_PLANE_TILE = 180  # of each of several
_POINT_SIDE = 64  # of the plane in which one is shown alone
_LARGEST_SIDE = 160  # larger ones are reduced to this: a sheet of photographs must fit into memory, and into a report


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Positions of at most `most` of `count` things, evenly over all of them, ascending: what a sheet shows of many."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def contact_sheet(rows: Sequence[tuple[str, NDArray[np.uint8]]], columns: int | None = None) -> bytes:
    """A PNG with one row (or more, when `columns` says where to break) a caption.

    rows: captions, each with its images (n, H, W, C) of uint8, C 1 or 3; n may be 0. Small images are enlarged by a
    whole factor, every pixel a square; large ones are reduced. Images with two channels are points of the plane, shown
    together in one picture, a colour for each caption.
    """
    from PIL import Image, ImageDraw

    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    if are_points(rows[0][1]):
        return _scatter(rows)
    font = drawing.font(_FONT_SIZE)
    height, width = rows[0][1].shape[1:3]
    factor = max(1.0, _TARGET_SIDE // max(height, width)) * min(1.0, _LARGEST_SIDE / max(height, width))
    height, width = max(1, round(height * factor)), max(1, round(width * factor))  # as drawn
    cell_height, cell_width = height + _GAP, width + _GAP
    columns = columns or max(1, *(len(images) for _, images in rows))
    captions = [drawing.fitted(shown(caption), font, _CAPTION_WIDTH) for caption, _ in rows]
    text_width = max(int(np.ceil(font.getlength(caption))) for caption in captions)
    lines = [max(1, -(-len(images) // columns)) for _, images in rows]  # rows of images under each caption
    heights = [max(count * cell_height, _LINE_HEIGHT) for count in lines]
    left = _MARGIN + text_width + 12
    sheet = Image.new(
        "RGB",
        (left + columns * cell_width - _GAP + _MARGIN, 2 * _MARGIN + sum(heights) + 2 * _GAP * (len(rows) - 1)),
        PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for caption, (_, images), room in zip(captions, rows, heights, strict=True):
        middle = top + min(cell_height - _GAP, room) / 2
        draw.text((left - 12, middle), caption, fill=INK, font=font, anchor="rm")
        for place, pixels in enumerate(images):
            x = left + place % columns * cell_width
            y = top + place // columns * cell_height
            draw.rectangle((x - 1, y - 1, x + width, y + height), outline=_FRAME)
            sheet.paste(_resized(pixels, width, height), (x, y))
        top += room + 2 * _GAP
    return drawing.png(sheet)


def _scatter(rows: Sequence[tuple[str, NDArray[np.uint8]]]) -> bytes:
    """The plane with the points (n, 1, 1, 2) of all rows, each in a colour of its own; the captions beside it."""
    from PIL import Image, ImageDraw

    font = drawing.font(_FONT_SIZE)
    captions = [drawing.fitted(shown(caption), font, _CAPTION_WIDTH) for caption, _ in rows]
    width = max(int(np.ceil(font.getlength(caption))) for caption in captions)
    height = max(_PLANE_SIDE, len(rows) * _LINE_HEIGHT)
    sheet = Image.new("RGB", (_PLANE_SIDE + width + 3 * _MARGIN + 16, height + 2 * _MARGIN), PAPER)
    sheet.paste(plane([images for _, images in rows], _PLANE_SIDE), (_MARGIN, _MARGIN))
    draw = ImageDraw.Draw(sheet)
    for row, caption in enumerate(captions):
        x, y = _PLANE_SIDE + 2 * _MARGIN, _MARGIN + row * _LINE_HEIGHT + _LINE_HEIGHT // 2
        draw.ellipse((x, y - 4, x + 8, y + 4), fill=HUES[row % len(HUES)])
        draw.text((x + 16, y), caption, fill=INK, font=font, anchor="lm")
    return drawing.png(sheet)


@dataclass(frozen=True, eq=False)
class Cell:
    """Images (n, H, W, C) of uint8, side by side, and what stands below them. Of points of the plane, one picture."""

    caption: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None  # n: the colours of points; None: one for all
    ink: tuple[int, int, int] | None = None  # of its frame and caption; None: faint ones

    def tiles(self, side: int) -> "list[Image.Image]":
        """The pictures, of `side` pixels a side."""
        if not are_points(self.images):
            return [_resized(pixels, side, side) for pixels in self.images]
        labels = np.zeros(len(self.images), dtype=np.int64) if self.labels is None else self.labels
        groups = [self.images[labels == label] for label in range(int(labels.max(initial=0)) + 1)]
        return [plane(groups, side, radius=1.5)]


def grid_sheet(
    headings: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]], target_side: int = _TARGET_SIDE
) -> bytes:
    """A PNG of captioned rows; the headings stand above the columns of cells, of which a row may have fewer.

    Smaller images are enlarged to about `target_side`.
    """
    from PIL import Image, ImageDraw

    font, small = drawing.font(_FONT_SIZE), drawing.font(_SMALL_FONT_SIZE)
    first = rows[0][1][0].images
    side = max(first.shape[1:3])
    side = side * (target_side // side) if side <= target_side else min(side, _LARGEST_TILE)
    if are_points(first):
        side = _PLANE_TILE
    tile, line = side + _GAP, _SMALL_FONT_SIZE + 5
    across = 1 if are_points(first) else max(len(cell.images) for _, cells in rows for cell in cells)
    pictured = across * tile - _GAP
    widest = max(small.getlength(cell.caption) for _, cells in rows for cell in cells)
    width, height = max(pictured, int(np.ceil(widest))), side + line  # of a cell
    left = _MARGIN + max(int(np.ceil(font.getlength(caption))) for caption, _ in rows) + 2 * _GAP + 6
    top = _MARGIN + _LINE_HEIGHT
    sheet = Image.new(
        "RGB",
        (left + len(headings) * (width + _MARGIN), top + len(rows) * (height + 2 * _GAP) + _MARGIN - 2 * _GAP),
        PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        middle = left + column * (width + _MARGIN) + width / 2
        draw.text((middle, _MARGIN), heading, fill=INK, font=font, anchor="mm")
    for number, (caption, cells) in enumerate(rows):
        y = top + number * (height + 2 * _GAP)
        draw.text((left - 2 * _GAP - 2, y + side / 2), caption, fill=INK, font=font, anchor="rm")
        for column, cell in enumerate(cells):
            x = left + column * (width + _MARGIN)
            draw.text(
                (x + width / 2, y + side + line / 2), cell.caption, fill=cell.ink or _FAINT_INK, font=small, anchor="mm"
            )
            for place, picture in enumerate(cell.tiles(side)):
                at, rim = x + (width - pictured) // 2 + place * tile, 1 if cell.ink is None else 2
                frame = (at - rim, y - rim, at + side + rim - 1, y + side + rim - 1)
                draw.rectangle(frame, outline=cell.ink or _FRAME, width=rim)
                sheet.paste(picture, (at, y))
    return drawing.png(sheet)


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
    font = drawing.font(12)
    width = max(gap + columns * (side + gap), 300)
    height = gap + rows * (side + 2 * line + gap + 4) if wrong else 60
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    if not wrong:
        draw.text((gap, 20), "No image was classified wrongly.", fill=INK, font=font)
    for number, mistake in enumerate(wrong):
        row, column = divmod(number, columns)
        x, y = gap + column * (side + gap), gap + row * (side + 2 * line + gap + 4)
        tile = _within(mistake.image, side)
        sheet.paste(tile, (x + (side - tile.width) // 2, y + (side - tile.height) // 2))
        for verb, number_of_class, probability, colour, below in (
            ("said", mistake.predicted, mistake.probability_predicted, _WRONG, 4),
            ("is", mistake.actual, mistake.probability_actual, INK, 4 + line),
        ):
            share = f" ({percent(probability)})"
            text = drawing.fitted(f"{verb} {names[number_of_class]}", font, side - font.getlength(share)) + share
            draw.text((x, y + side + below), text, fill=colour, font=font)
    return drawing.png(sheet)


@dataclass(frozen=True, eq=False)
class Exhibit:
    """Some images side by side, (n, H, W, C) uint8, over lines of text."""

    images: NDArray[np.uint8]
    lines: tuple[str, ...]


def exhibition(sections: Sequence[tuple[str, Sequence[Exhibit]]], *, columns: int = 4) -> bytes:
    """A PNG of exhibits under the titles of their sections; all of one section have equally many images."""
    from PIL import Image, ImageDraw

    side, gap, line, font, title_font = 112, 14, 16, drawing.font(11), drawing.font(15)
    cell = 2 * side + _GAP  # two images, or one and room for its name
    rows = [-(-len(exhibits) // columns) for _, exhibits in sections]
    tall = [side + line * max((len(one.lines) for one in exhibits), default=0) + gap for _, exhibits in sections]
    heights = [_LINE_HEIGHT + gap + count * height for count, height in zip(rows, tall, strict=True)]
    sheet = Image.new("RGB", (gap + columns * (cell + gap), gap + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = gap
    for (title, exhibits), height, whole in zip(sections, tall, heights, strict=True):
        draw.text((gap, top), title, fill=INK, font=title_font)
        for number, exhibit in enumerate(exhibits):
            row, column = divmod(number, columns)
            x, y = gap + column * (cell + gap), top + _LINE_HEIGHT + gap // 2 + row * height
            for place, pixels in enumerate(exhibit.images):
                tile = _within(pixels, side)
                left = x + place * (side + _GAP)
                draw.rectangle((left - 1, y - 1, left + tile.width, y + tile.height), outline=_FRAME)
                sheet.paste(tile, (left, y))
            for place, text in enumerate(exhibit.lines):
                draw.text(
                    (x, y + side + 2 + place * line), drawing.fitted(shown(text), font, cell), fill=INK, font=font
                )
        top += whole
    return drawing.png(sheet)


def small_png(image: NDArray[np.uint8], largest: int = 128) -> bytes:
    """One (H, W, C) uint8 image as a PNG of its own size, or smaller where a side is above `largest` pixels."""
    from PIL import Image

    picture = _picture(image)
    picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    return drawing.png(picture)


def percent(share: float) -> str:
    """A probability as a whole percentage that says 100 only where it is 1, and 0 only where it is 0."""
    whole = round(100 * share)
    if whole == 100 and share < 1:
        return ">99 %"
    return "<1 %" if whole == 0 and share > 0 else f"{whole} %"


def _picture(pixels: NDArray[np.uint8]) -> "Image.Image":
    """(H, W, C) uint8, C 1 or 3; of C 2, a point of the plane, the plane with the point in it."""
    from PIL import Image

    if are_points(pixels):
        return _alone(pixels, _POINT_SIDE)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))


def _alone(point: NDArray[np.uint8], side: int) -> "Image.Image":
    """The plane with one point (1, 1, 2) in it."""
    return plane([point[None]], side, radius=side / 20, hues=(_WRONG,))


def _resized(pixels: NDArray[np.uint8], width: int, height: int) -> "Image.Image":
    """Enlarged so that every pixel is a square, or reduced smoothly."""
    from PIL import Image

    if are_points(pixels):
        return _alone(pixels, width)
    picture = _picture(pixels)
    enlarged = width >= picture.width
    return picture.resize((width, height), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)


def _within(pixels: NDArray[np.uint8], side: int) -> "Image.Image":
    """As large as fits into a square: by a whole factor, so that pixels stay pixels, or reduced."""
    height, width = pixels.shape[:2]
    factor: float = side // max(height, width) or side / max(height, width)
    return _resized(pixels, max(1, round(width * factor)), max(1, round(height * factor)))
