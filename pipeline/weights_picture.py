"""What the first layer of a trained network looks for: a linear classifier's templates, or a convolution's filters.

Its weights are as many as the pixels of an image, or of a piece of one, and are drawn as one: PNG bytes, equal for
equal weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from models.networks.shape import Shape
from pipeline import drawing
from pipeline.data.text import shown

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

_SHOWN = 0.995  # share of the weights that lie within the scale: a few large ones would make all others grey
_ZERO = 127.5
_MOST = 512  # units in a picture: of more, the first ones
_GAP = 4
_FONT_SIZE, _LINE_HEIGHT = 12, 18
_NARROWEST = 320  # pixels, for the legend


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """Weights (units, H, W, C), C 1 or 3; a template is captioned with its class, a filter with nothing."""

    kind: Literal["templates", "filters"]
    weights: NDArray[np.float32]
    captions: Sequence[str]


def first_layer(network: "nn.Module", shape: Shape, names: Sequence[str]) -> FirstLayer | None:
    """The layer of `network` that sees the images, if its weights can be drawn.

    They can where it is a convolution, or the only layer; not where images are points, nor in what memorises.
    names: of the classes, or of the numbers that the network answers with.
    """
    from torch import nn

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    if not layers or shape.image_size == 1:
        return None
    weight = layers[0].weight.detach().cpu().float()
    if isinstance(layers[0], nn.Conv2d):
        return FirstLayer("filters", weight.permute(0, 2, 3, 1).numpy(), [""] * len(weight))
    if len(layers) > 1:
        return None
    images = weight.view(-1, shape.channels, shape.image_size, shape.image_size)
    return FirstLayer("templates", images.permute(0, 2, 3, 1).numpy(), _captions(names, len(images)))


def _captions(names: Sequence[str], outputs: int) -> list[str]:
    """What each output speaks for: two classes may share one, whose sign tells them apart; others have a number."""
    if outputs == 1 and len(names) == 2:
        return [f"{names[1]}, not {names[0]}"]
    return [names[output] if output < len(names) else str(output) for output in range(outputs)]


def draw(layer: FirstLayer, *, dark: bool = False) -> bytes:
    """All units on one scale, a template above its class's name, and a sentence that gives the scale."""
    from PIL import Image, ImageDraw

    limit = scale(layer.weights)
    units = min(len(layer.weights), _MOST)
    side, most = _tile(layer.kind, units)
    columns = -(-units // -(-units // most))  # the rows are of equal length, or nearly
    tiles = [_enlarged(pixels(weights, limit), side) for weights in layer.weights[:units]]
    paper, ink, frame = drawing.PAPER, drawing.INK, drawing.FAINT
    if dark:
        paper, ink, frame = drawing.DARK_PAPER, drawing.DARK_INK, drawing.DARK_FAINT
    font = drawing.font(_FONT_SIZE)
    width, height = side + _GAP, tiles[0].height + _GAP + (_LINE_HEIGHT if layer.kind == "templates" else 0)
    across, down = max(columns * width - _GAP, _NARROWEST), -(-units // columns) * height
    legend = drawing.wrapped(_legend(layer, limit), font, across)
    sheet = Image.new("RGB", (across + 2 * _GAP, down + 3 * _GAP + len(legend) * _LINE_HEIGHT), paper)
    paint = ImageDraw.Draw(sheet)
    for unit, tile in enumerate(tiles):
        x, y = _GAP + unit % columns * width, _GAP + unit // columns * height
        left = x + (side - tile.width) // 2
        paint.rectangle((left - 1, y - 1, left + tile.width, y + tile.height), outline=frame)
        sheet.paste(tile, (left, y))
        caption = drawing.fitted(shown(layer.captions[unit]), font, side)
        paint.text((x + side / 2, y + tile.height + _LINE_HEIGHT / 2), caption, ink, font, "mm")
    for line, text in enumerate(legend):
        paint.text((_GAP, down + 2 * _GAP + line * _LINE_HEIGHT), text, ink, font)
    return drawing.png(sheet)


def _tile(kind: str, units: int) -> tuple[int, int]:
    """Side of a tile in pixels, and how many stand in a row at most: about as wide as the report's page."""
    if kind == "filters":
        return 56, 16
    if units <= 10:
        return 160, 5
    return 96, 10 if units <= 200 else 20


def _enlarged(image: NDArray[np.uint8], side: int) -> "Image.Image":
    """(H, W, C), by a whole factor, so that a weight stays a square; or reduced, where it is larger than a tile."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
    factor = side // max(picture.size) or side / max(picture.size)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS)


def scale(weights: NDArray[np.float32]) -> float:
    """The weight that is drawn white; its negative is black. 1 where all are zero."""
    sizes = np.abs(weights)
    return float(np.quantile(sizes, _SHOWN)) or float(sizes.max()) or 1.0


def pixels(weights: NDArray[np.float32], limit: float) -> NDArray[np.uint8]:
    """Weights as uint8: -limit or less is 0, zero is 128, limit or more is 255."""
    shades: NDArray[np.uint8] = np.rint(_ZERO + _ZERO * np.clip(weights / limit, -1, 1)).astype(np.uint8)
    return shades


def _legend(layer: FirstLayer, limit: float) -> str:
    count = len(layer.weights)
    some = f"The first {_MOST} of {count:,} {layer.kind}. " if count > _MOST else ""
    colours = ", in red, green and blue each" if layer.weights.shape[-1] == 3 else ""
    beyond = float((np.abs(layer.weights) > limit).mean())
    cut = f"; {100 * beyond:.1f} % of weights lie beyond" if beyond > 0 else ""
    return (
        f"{some}Middle grey is a weight of zero, lighter one above, darker one below{colours}."
        f" One scale for all: black is -{limit:.2g}, white +{limit:.2g}{cut}."
    )
