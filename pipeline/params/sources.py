"""What can be named at data.source: one class a kind, with its settings.

A kind is added by writing its class here, its line in the table below, and pipeline/data/sources/NAME.py.
"""

from collections.abc import Iterator
from math import isqrt
from typing import ClassVar, Literal

from models.catalogue import Settings, setting

_BEFORE_SEARCH = "it is used before the search starts"


class Source(Settings):
    """Where images come from.

    path: whether `data.path` must be set, may be (null: the place that the source itself knows), or has no meaning.
    image_size, channels: what `null` stands for in params.yaml.
    converts: whether they may be something else. Of vectors that are stored as pixels, they may not.
    """

    path: ClassVar[Literal["needed", "optional", "unused"]] = "needed"
    own_image_size: ClassVar[int] = 32
    own_channels: ClassVar[int] = 3
    converts: ClassVar[bool] = True

    def disagreements(self) -> Iterator[tuple[str, str]]:
        """(key, what is wrong and its remedy) for each rule that is broken between these keys."""
        yield from ()

    @property
    def image_size(self) -> int:
        return self.own_image_size

    @property
    def channels(self) -> int:
        return self.own_channels


class Digits(Source):
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn carries."""

    path: ClassVar[Literal["needed", "optional", "unused"]] = "unused"
    own_image_size: ClassVar[int] = 8
    own_channels: ClassVar[int] = 1


class Folder(Source):
    """One sub-folder a class, or train/ [val/] test/ each with one sub-folder a class."""


class Made(Source):
    """A set that is made by code, from a seed of its own: another training seed leaves it as it is."""

    path: ClassVar[Literal["needed", "optional", "unused"]] = "unused"
    images: int = setting("how many", ge=3, le=1_000_000, unsearchable=_BEFORE_SEARCH)
    seed: int = setting("of every random number of this set", ge=0, lt=2**63, unsearchable=_BEFORE_SEARCH)


class HardCases(Made):
    """Two classes that no hyperplane tells apart; in two dimensions an image is one pixel of two channels (x, y)."""

    converts: ClassVar[bool] = False
    case: Literal["parity", "ring", "modes"] = setting("what tells the classes apart", unsearchable=_BEFORE_SEARCH)
    dimensions: int = setting("2, or n * n for n x n grey pixels", ge=1, le=1024, unsearchable=_BEFORE_SEARCH)

    def disagreements(self) -> Iterator[tuple[str, str]]:
        side = isqrt(self.dimensions)
        if self.dimensions != 2 and side * side != self.dimensions:
            yield "dimensions", f"{self.dimensions} pixels are no square; set it to 2, {side**2} or {(side + 1) ** 2}"

    @property
    def image_size(self) -> int:
        return 1 if self.dimensions == 2 else isqrt(self.dimensions)

    @property
    def channels(self) -> int:
        return 2 if self.dimensions == 2 else 1


class Points(Made):
    """Points of the plane; an image is one pixel of two channels (x, y)."""

    converts: ClassVar[bool] = False
    own_image_size: ClassVar[int] = 1
    own_channels: ClassVar[int] = 2
    figure: Literal["clusters", "ring", "xor", "spiral"] = setting("how they lie", unsearchable=_BEFORE_SEARCH)
    classes: int = setting("how many; xor has 2", ge=2, le=10, unsearchable=_BEFORE_SEARCH)
    noise: float = setting("standard deviation; points lie in [-1, 1]", ge=0, le=1, unsearchable=_BEFORE_SEARCH)

    def disagreements(self) -> Iterator[tuple[str, str]]:
        if self.figure == "xor" and self.classes != 2:
            yield "classes", f"xor has two classes, not {self.classes}; set it to 2, or use another figure"


class Rendered(Made):
    """Pictures in colour, `side` pixels a side."""

    side: int = setting("pixels a side as rendered", ge=8, le=512, unsearchable=_BEFORE_SEARCH)

    @property
    def image_size(self) -> int:
        return self.side


class Pose(Rendered):
    """A solid with coloured faces; the target is its rotation."""

    target: Literal["columns", "quaternion"] = setting("the rotation as numbers", unsearchable=_BEFORE_SEARCH)


def _dial(what: str) -> float:
    return setting(f"{what}; 0: none of it", ge=0, le=1, unsearchable=_BEFORE_SEARCH)  # type: ignore[no-any-return]


class Shapes(Rendered):
    """A class is a shape; a dial for each thing that changes the pixels but not the label."""

    viewpoint: float = _dial("place, size, rotation and perspective")
    illumination: float = _dial("brightness, its colour and a slope across the image")
    deformation: float = _dial("waves that bend the outline")
    occlusion: float = _dial("bars in front")
    clutter: float = _dial("pieces and stripes behind")
    intra_class: float = _dial("proportions, colour and texture")


SOURCES: dict[str, type[Source]] = {
    "digits": Digits,
    "folder": Folder,
    "hard_cases": HardCases,
    "points": Points,
    "pose": Pose,
    "shapes": Shapes,
}
