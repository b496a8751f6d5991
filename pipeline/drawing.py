"""What PIL's pictures share: the font, text that fits its place, PNG bytes that are equal for equal pixels."""

import io
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

PAPER, INK, FAINT = (255, 255, 255), (40, 44, 52), (214, 218, 224)
DARK_PAPER, DARK_INK, DARK_FAINT = (22, 27, 34), (230, 237, 243), (52, 60, 70)  # of the report on a dark page


def png(picture: "Image.Image") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


@cache
def font(size: int) -> "FreeTypeFont":
    """DejaVu Sans, which matplotlib carries: the same everywhere, and it has most of the world's letters."""
    from PIL import ImageFont

    spec = find_spec("matplotlib")  # located without the import, which costs a second
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("matplotlib is not installed", name="matplotlib")
    file = Path(spec.submodule_search_locations[0]) / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def fitted(text: str, font: "FreeTypeFont", width: float) -> str:
    """A text, cut with an ellipsis where it is too long for its place."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def wrapped(text: str, font: "FreeTypeFont", width: float) -> list[str]:
    """A text as lines, broken between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
