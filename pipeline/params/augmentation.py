"""The section `augment`: how strong each transform is, for all images, for a class, for one image."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from models.catalogue import setting
from pipeline.errors import Mistake
from pipeline.params import fields
from pipeline.params.fields import Section

_BEFORE_SEARCH = "it is used before the search starts"
_SIZE = "it sets the size of the network's inputs"

MIXING = ("mixup", "cutmix")  # of two images
# Keys that hold for the whole set: everything else may be set by class and by image.
WHOLE_SET = (
    "normalization", "crop_size", "erasing_fill", "automatic", "automatic_operations", *MIXING,
    "per_class", "per_image", "copies",
)  # fmt: skip
# What moves a pixel out of its place, or covers it: of an image of one pixel nothing would be left.
COVERING = (
    "crop_padding", "resized_crop", "translation", "perspective", "elastic", "distractors", "border", "cutout_size",
    "erasing",
)  # fmt: skip
DETAILS = ("resized_crop_aspect", "distractor_size", "automatic_magnitude")  # of another key's transform


class Augment(Section):
    """A strength a transform: 0 or false leaves the image as it is, bit for bit."""

    normalization: Literal["channel", "none"] = setting("how pixels are scaled", unsearchable=_BEFORE_SEARCH)
    # where pixels go: one map and one resampling
    crop_size: int | None = setting(
        "side of what the network sees; null: the stored image", ge=1, le=4096, unsearchable=_SIZE
    )
    crop_padding: int = setting("pixels of padding before a random crop", ge=0, le=512, search=(0, 4))
    resized_crop: float = setting("crop from all down to 1 - this of the area, resized", ge=0, lt=1, search=(0.0, 0.92))
    resized_crop_aspect: float = setting(
        "its width over height: from 1 / (1 + this) to 1 + this", ge=0, le=9, search=(0.0, 0.5)
    )
    horizontal_flip: bool = setting("mirror every second image at random")
    alternating_flip: bool = setting("mirror every image in every second epoch")
    vertical_flip: bool = setting("upside down, every second image at random")
    rotation_degrees: float = setting("rotate by up to this either way", ge=0, le=180, search=(0.0, 30.0))
    scale: float = setting("enlarge or reduce by a factor of up to 1 + this", ge=0, le=9, search=(0.0, 0.5))
    shear_degrees: float = setting("lean by up to this either way", ge=0, le=60, search=(0.0, 20.0))
    translation: float = setting("move by up to this share of the side", ge=0, le=1, search=(0.0, 0.3))
    perspective: float = setting("move each corner by up to this share of the side", ge=0, lt=0.25, search=(0.0, 0.2))
    elastic: float = setting("standard deviation of the bending, share of the side", ge=0, le=0.2, search=(0.0, 0.06))
    # what colours become: one matrix
    brightness: float = setting("add up to this share of the range either way", ge=0, le=1, search=(0.0, 0.5))
    contrast: float = setting("scale about mid-grey by up to 1 +- this", ge=0, le=1, search=(0.0, 0.5))
    saturation: float = setting("scale about each pixel's grey by up to 1 +- this", ge=0, le=1, search=(0.0, 0.5))
    hue_degrees: float = setting("turn colours by up to this either way", ge=0, le=180, search=(0.0, 60.0))
    pca_shift: float = setting("standard deviation of AlexNet's colour shift", ge=0, le=10, search=(0.0, 0.3))
    # what pixels become
    blur: float = setting("largest standard deviation of a Gaussian blur, pixels", ge=0, le=16, search=(0.0, 2.0))
    noise: float = setting("largest standard deviation of noise, share of the range", ge=0, le=1, search=(0.0, 0.2))
    # what is hidden or put beside
    distractors: int = setting("random shapes put over the image", ge=0, le=64, search=(0, 8))
    distractor_size: float = setting("their largest extent, share of the side", gt=0, le=1, search=(0.1, 0.4))
    border: float = setting("widest textured border, share of the side", ge=0, le=0.5, search=(0.0, 0.25))
    cutout_size: int = setting("side of the square that is blanked", ge=0, le=4096, search=(0, 16))
    erasing: float = setting("largest share of the area that a rectangle erases", ge=0, le=1, search=(0.0, 0.5))
    erasing_fill: Literal["mean", "noise"] = setting("what an erased rectangle holds")
    # transforms chosen for each image
    automatic: Literal["none", "trivial", "rand"] = setting("TrivialAugment, or RandAugment")
    automatic_operations: int = setting("rand: operations an image", ge=1, le=8, search=(1, 3))
    automatic_magnitude: float = setting(
        "share of each operation's greatest strength: rand's, or trivial's largest", ge=0, le=1, search=(0.1, 1.0)
    )
    # two images, and their targets, mixed
    mixup: float = setting("alpha of MixUp's Beta(alpha, alpha)", ge=0, le=100, search=(0.0, 1.0))
    cutmix: float = setting("alpha of CutMix's Beta(alpha, alpha)", ge=0, le=100, search=(0.0, 1.0))
    # what else holds
    per_class: dict[Any, Any] = setting("other strengths for a class, by its name", unsearchable=_BEFORE_SEARCH)
    per_image: dict[Any, Any] = setting("other strengths for an image, by its path", unsearchable=_BEFORE_SEARCH)
    copies: int = setting(
        "augmented copies of each training image, made once for all epochs", ge=0, le=1000, unsearchable=_BEFORE_SEARCH
    )

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if _both_flips(values):
            yield "alternating_flip", "mirrors instead of horizontal_flip, not on top; set one of the two to false"
        for section in ("per_class", "per_image"):
            for name, changes in values.get(section, {}).items():
                if not isinstance(name, str):  # YAML's 6 and true are no names
                    yield f"{section}.{name}", "a name is text; put it in quotes"
                for key, text in cls._wrong_in(changes, values):
                    yield ".".join((section, str(name), *key)), text

    @classmethod
    def _wrong_in(cls, changes: Any, values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
        """What is wrong in one entry of per_class or per_image."""
        may = [key for key in cls.model_fields if key not in WHOLE_SET]
        if not isinstance(changes, Mapping):
            yield (), f"{fields.show(changes)} is not allowed; must be a mapping of augment's keys"
            return
        for key, value in changes.items():
            if key in WHOLE_SET:
                yield (str(key),), "holds for the whole set; set it in augment itself"
            elif key not in may:
                yield (str(key),), f"unknown key{fields.nearest(key, may)}"
            elif not fields.accepts(cls.model_fields[key], value):
                must = fields.describe(cls.model_fields[key])
                yield (str(key),), f"{fields.show(value)} is not allowed; must be {must}"
        if _both_flips({**values, **changes}) and not _both_flips(values):
            yield (), "makes both horizontal_flip and alternating_flip true; set one of the two to false"

    def seen(self, image_size: int) -> int:
        """The side of what the network sees of stored images of that side.

        Raises Mistake where they are smaller, and where they are of one pixel, such as points of the plane, of which a
        transform would leave nothing.
        """
        if image_size == 1 and (lost := list(self._covering())):
            raise Mistake(
                *(f"params.yaml: augment.{key}: would blank images of one pixel; set it to {off}" for key, off in lost)
            )
        if self.crop_size is not None and self.crop_size > image_size:
            raise Mistake(
                f"params.yaml: augment.crop_size: {self.crop_size} is more than the images' {image_size} pixels;"
                " lower it, or raise data.image_size"
            )
        return self.crop_size or image_size

    def _covering(self) -> Iterator[tuple[str, str]]:
        """Where what leaves nothing of one pixel is on, also for a class or an image; and its value for off."""
        yield from ((key, "0") for key in COVERING if getattr(self, key) > 0)
        if self.automatic != "none":
            yield "automatic", "none"
        for section in ("per_class", "per_image"):
            for name, changes in getattr(self, section).items():
                yield from ((f"{section}.{name}.{key}", "0") for key in COVERING if changes.get(key, 0) > 0)

    def off(self) -> "Augment":
        """These settings with every transform off, and nothing of a class's or an image's own."""
        strengths = [key for key in type(self).model_fields if key not in (*WHOLE_SET, *DETAILS)]
        nothing = {key: type(getattr(self, key))(0) for key in (*strengths, *MIXING, "copies")}
        return self.model_copy(
            update={**nothing, "crop_size": None, "automatic": "none", "per_class": {}, "per_image": {}}
        )

    def with_changes(self, changes: Mapping[str, Any]) -> "Augment":
        """These settings as an entry of per_class or per_image changes them; it was validated with the section."""
        return self.model_copy(update=dict(changes))


def _both_flips(values: Mapping[str, Any]) -> bool:
    return values.get("horizontal_flip") is True and values.get("alternating_flip") is True
