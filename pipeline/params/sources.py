"""What can be named at data.source: one class a kind, with its settings.

A kind is added by writing its class here, its line in the table below, and pipeline/data/sources/NAME.py.
"""

from typing import ClassVar, Literal

from models.catalogue import Settings


class Source(Settings):
    """Where images come from.

    path: whether `data.path` must be set, may be (null: the place that the source itself knows), or has no meaning.
    image_size, channels: what `null` stands for in params.yaml.
    """

    path: ClassVar[Literal["needed", "optional", "unused"]] = "needed"
    own_image_size: ClassVar[int] = 32
    own_channels: ClassVar[int] = 3

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


SOURCES: dict[str, type[Source]] = {"digits": Digits, "folder": Folder}
