"""What can be named at data.source: one class a kind, with its settings.

A kind is added by writing its class here, its line in the table below, and pipeline/data/sources/NAME.py.
"""

from collections.abc import Iterator
from math import isqrt
from typing import ClassVar, Literal

from models.catalogue import Settings, setting
from pipeline.data.text import names_in

_BEFORE_SEARCH = "it is used before the search starts"


class Source(Settings):
    """Where images come from.

    path: whether `data.path` must be set, may be (null: the place that the source itself knows), or has no meaning.
    place: what `data.path` must name, in words.
    image_size, channels: what `null` stands for in params.yaml.
    pictures: whether images are that. Else they are vectors of numbers, stored as pixels, which no conversion may
    change; equal ones are chance, and no mistake.
    """

    path: ClassVar[Literal["needed", "optional", "unused"]] = "needed"
    place: ClassVar[str] = "the folder that holds the images"
    own_image_size: ClassVar[int] = 32
    own_channels: ClassVar[int] = 3
    pictures: ClassVar[bool] = True

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


class Archive(Source):
    """Class folders in a .zip, .tar, .tar.gz, .tar.xz or .tar.zst, read without unpacking it to disk."""

    place: ClassVar[str] = "the archive that holds the images"


def _column(what: str) -> str | None:
    return setting(what, min_length=1, unsearchable=_BEFORE_SEARCH)  # type: ignore[no-any-return]


class Table(Source):
    """CSV, TSV or Parquet: a row an image, with its path and a label (and a box), or with targets to predict."""

    place: ClassVar[str] = "the table, or the folder or archive that holds table and images"

    file: str | None = _column("the table below data.path; null: data.path itself")
    folder: str | None = _column("where the rows' paths begin, below data.path; null: where the table lies")
    image: str = setting("column of paths", min_length=1, unsearchable=_BEFORE_SEARCH)
    label: str | None = _column("column of classes; null where there are targets")
    targets: str | None = _column("columns of numbers to predict, with commas between; null where there are labels")
    box: str | None = _column("columns left, top, right, bottom in pixels, with commas between; null: none")
    group: str | None = _column("column of what no split may cut: patient, scene; null: none")
    split: str | None = _column("column that says train, val or test; null: none")

    def disagreements(self) -> Iterator[tuple[str, str]]:
        if self.label is None and self.targets is None:
            yield "label", "null, and so is targets; name the column of classes here, or columns of numbers there"
        if self.label is not None and self.targets is not None:
            yield "targets", "a row has a label or targets, not both; set label or targets to null"
        if self.box is not None and self.label is None:
            yield "box", "a box is of a labelled object; name the column of classes at label, or set box to null"
        for key, text in (("targets", self.targets), ("box", self.box)):
            names = names_in(text)
            if "" in names or len(set(names)) != len(names):
                yield key, f"{text!r} names a column twice, or none; write names with commas between"
        if self.box is not None and len(names_in(self.box)) != 4:
            yield "box", f"{self.box!r} names {len(names_in(self.box))} columns; write four: left, top, right, bottom"


class Cifar10(Source):
    """CIFAR-10's official binary version, downloaded where data.path is null."""

    path: ClassVar[Literal["needed", "optional", "unused"]] = "optional"


class Cifar100(Source):
    """CIFAR-100's official binary version, downloaded where data.path is null."""

    path: ClassVar[Literal["needed", "optional", "unused"]] = "optional"
    labels: Literal["fine", "coarse"] = setting("100 classes, or the 20 kinds of them", unsearchable=_BEFORE_SEARCH)


class Idx(Source):
    """The MNIST family: four IDX files, downloaded where data.path is null."""

    path: ClassVar[Literal["needed", "optional", "unused"]] = "optional"
    own_image_size: ClassVar[int] = 28
    own_channels: ClassVar[int] = 1
    dataset: Literal["mnist", "fashion_mnist", "kmnist", "other"] = setting(
        "which of them: its home and its class names", unsearchable=_BEFORE_SEARCH
    )
    transposed: bool = setting("pixels lie column by column, as EMNIST's", unsearchable=_BEFORE_SEARCH)


class Imagenet(Source):
    """ImageNet ILSVRC-2012: the official training tar of tars, validation tar and devkit."""

    path: ClassVar[Literal["needed", "optional", "unused"]] = "optional"
    own_image_size: ClassVar[int] = 256


class Huggingface(Source):
    """A data set of the Hugging Face hub, or a local folder that `save_to_disk` wrote or that holds Parquet files."""

    path: ClassVar[Literal["needed", "optional", "unused"]] = "optional"
    dataset: str | None = setting("name on the hub, where data.path is null", unsearchable=_BEFORE_SEARCH)
    configuration: str | None = setting("which of its configurations", unsearchable=_BEFORE_SEARCH)
    revision: str | None = setting("commit, tag or branch on the hub", unsearchable=_BEFORE_SEARCH)
    image_column: str = setting("column of images", min_length=1, unsearchable=_BEFORE_SEARCH)
    label_column: str = setting("column of labels", min_length=1, unsearchable=_BEFORE_SEARCH)
    train_split: str = setting("its split to train on", min_length=1, unsearchable=_BEFORE_SEARCH)
    validation_split: str | None = setting("its split to choose on", unsearchable=_BEFORE_SEARCH)
    test_split: str | None = setting("its split to seal", unsearchable=_BEFORE_SEARCH)


class Made(Source):
    """A set that is made by code, from a seed of its own: another training seed leaves it as it is."""

    path: ClassVar[Literal["needed", "optional", "unused"]] = "unused"
    images: int = setting("how many", ge=3, le=1_000_000, unsearchable=_BEFORE_SEARCH)  # names have six digits
    seed: int = setting("of every random number of this set", ge=0, lt=2**63, unsearchable=_BEFORE_SEARCH)


class HardCases(Made):
    """Two classes that no hyperplane tells apart; in two dimensions an image is one pixel of two channels (x, y)."""

    pictures: ClassVar[bool] = False
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

    pictures: ClassVar[bool] = False
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
    "archive": Archive,
    "table": Table,
    "cifar10": Cifar10,
    "cifar100": Cifar100,
    "idx": Idx,
    "imagenet": Imagenet,
    "huggingface": Huggingface,
    "hard_cases": HardCases,
    "points": Points,
    "pose": Pose,
    "shapes": Shapes,
}
