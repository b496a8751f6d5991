"""The networks and their settings; the code of each is models/networks/NAME.py."""

from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple

from models.catalogue.examples import variants
from models.catalogue.settings import Settings, setting

Activation = Literal["relu", "leaky_relu", "gelu", "tanh", "sigmoid"]
Form = Literal["imagenet", "small"]


class Network(Settings):
    """A network; what it needs of a training is said here, for all that must not import torch."""

    # Keeps the training images in one pass, raw pixels in [0, 255]: no normalisation, augmentation, loss or optimizer.
    memorises: ClassVar[bool] = False
    drops_out: ClassVar[bool] = True  # whether there are hidden activations that dropout may set to zero
    own_dropout: ClassVar[float] = 0.0  # what `regularization.dropout: null` means: what its paper has

    def disagreements(self) -> Iterator[tuple[str, str]]:
        """(key, what is wrong and its remedy) for each rule that is broken between these keys."""
        yield from ()

    @classmethod
    def small(cls) -> "Small":
        """The least instance that has every part of the network: the conformance suite builds, trains and checks it."""
        raise NotImplementedError(
            f"{cls.__module__}.{cls.__name__}: give it a `small()` with its least settings and a fitting image size,"
            " so that the conformance suite and `retrace gradcheck` can build it"
        )

    @classmethod
    def small_variants(cls) -> list["SmallVariant"]:
        """`small()`, and with each other choice among names; to be overridden where a choice needs other images."""
        settings, size = cls.small()
        others = [SmallVariant(choice, other, size) for choice, other in variants(settings)]
        return [SmallVariant("", settings, size), *others]


class Small(NamedTuple):
    """A network for tests."""

    settings: Network
    image_size: int


class SmallVariant(NamedTuple):
    """A network for gradient checks, and in what it differs from `small()`: "activation=tanh"."""

    choice: str
    settings: Network
    image_size: int


class Neighbours(Network):
    """Majority vote of the k nearest training images; k = 1 is the nearest neighbour."""

    memorises: ClassVar[bool] = True
    drops_out: ClassVar[bool] = False
    k: int = setting("neighbours that vote", ge=1, le=10_000, search=(1, 50, "log"))
    distance: Literal["l1", "l2"] = setting("sum |a - b|, or the root of sum (a - b)^2")

    @classmethod
    def small(cls) -> Small:
        return Small(cls(k=3, distance="l2"), image_size=8)


class Linear(Network):
    """f(x, W) = Wx + b on the normalised pixels: each row of W is a template of one class."""

    drops_out: ClassVar[bool] = False

    @classmethod
    def small(cls) -> Small:
        return Small(cls(), image_size=8)


class Mlp(Network):
    """Fully connected layers with an activation after each."""

    width: int = setting("units in each hidden layer", ge=1, le=65_536, search=(32, 1024, "log"))
    depth: int = setting("hidden layers", ge=1, le=64, search=(1, 4))
    activation: Activation = setting("after each hidden layer")

    @classmethod
    def small(cls) -> Small:
        return Small(cls(width=12, depth=2, activation="relu"), image_size=8)


class Convnet(Network):
    """Stages of 3x3 convolution, normalization and activation; each stage halves the image and doubles the width."""

    width: int = setting("channels of the first stage", ge=1, le=1024, search=(8, 64, "log"))
    stages: int = setting("stages; the image is halved between them", ge=1, le=6, search=(1, 4))
    first_depth: int = setting("convolutions in the first stage, the costliest", ge=1, le=16, search=(1, 3))
    depth: int = setting("convolutions in each further stage", ge=1, le=16, search=(1, 3))
    activation: Activation = setting("after each convolution")
    normalization: Literal["batch", "local_response", "none"] = setting("of each convolution's maps")
    pooling: Literal["max", "average"] = setting("how the image is halved")
    pool_size: int = setting("side of pooling's window, whose stride is 2", ge=2, le=5)

    @classmethod
    def small(cls) -> Small:
        settings = cls(
            width=4, stages=2, first_depth=1, depth=1, activation="relu", normalization="batch", pooling="max",
            pool_size=2,
        )  # fmt: skip
        return Small(settings, image_size=8)

    @classmethod
    def small_variants(cls) -> list[SmallVariant]:
        settings, size = cls.small()
        overlapping = settings.model_copy(update={"pool_size": 3})
        return [*super().small_variants(), SmallVariant("pool_size=3", overlapping, size)]


class Alexnet(Network):
    """AlexNet in both of its published forms, and each for small images."""

    own_dropout: ClassVar[float] = 0.5
    version: Literal["two_towers_2012", "one_tower_2014"] = setting("which of the two papers")
    form: Form = setting("imagenet: as published; small: its first convolution is 5x5 and keeps the image's size")
    width_factor: float = setting("widths as a multiple of the published", gt=0, le=16, search=(0.25, 2.0, "log"))

    @classmethod
    def small(cls) -> Small:
        return Small(cls(version="two_towers_2012", form="small", width_factor=1 / 16), image_size=15)

    @classmethod
    def small_variants(cls) -> list[SmallVariant]:
        settings, size = cls.small()
        return [
            SmallVariant("", settings, size),
            SmallVariant("version=one_tower_2014", settings.model_copy(update={"version": "one_tower_2014"}), size),
            SmallVariant("form=imagenet", settings.model_copy(update={"form": "imagenet", "width_factor": 1 / 8}), 63),
        ]


class Vgg(Network):
    """VGG (Simonyan & Zisserman 2015)."""

    own_dropout: ClassVar[float] = 0.5
    depth: Literal[11, 13, 16, 19] = setting("layers with weights")
    batch_norm: bool = setting("normalize after each convolution")
    form: Form = setting("imagenet: two hidden layers of 4,096; small: scores right from the averaged maps")
    width_factor: float = setting("widths as a multiple of the published", gt=0, le=16, search=(0.25, 2.0, "log"))

    @classmethod
    def small(cls) -> Small:
        return Small(cls(depth=11, batch_norm=False, form="small", width_factor=1 / 16), image_size=32)

    @classmethod
    def small_variants(cls) -> list[SmallVariant]:
        settings, size = cls.small()
        # At 32 pixels few numbers share a mean and the last maps bend so sharply that most of a step is at kinks.
        normalized = SmallVariant("batch_norm=true", settings.model_copy(update={"batch_norm": True}), 2 * size)
        published = SmallVariant("form=imagenet", settings.model_copy(update={"form": "imagenet"}), size)
        return [SmallVariant("", settings, size), normalized, published]


class Resnet(Network):
    """Residual networks (He 2016, Deep Residual Learning)."""

    depth: Literal[18, 20, 32, 34, 50, 56] = setting("layers with weights")
    form: Form = setting("imagenet: 7x7 convolution and pooling first; small: a 3x3 convolution")
    stochastic_depth: float = setting(
        "chance that the last block is left out in training, rising to it from the first", ge=0, lt=1, search=(0.0, 0.5)
    )
    width_factor: float = setting("widths as a multiple of the published", gt=0, le=16, search=(0.25, 2.0, "log"))

    def disagreements(self) -> Iterator[tuple[str, str]]:
        if self.form == "imagenet" and self.depth in (20, 32, 56):
            yield "form", f"imagenet is not published for depth {self.depth}; set it to small, or depth to 18, 34 or 50"

    @classmethod
    def small(cls) -> Small:
        return Small(cls(depth=20, form="small", stochastic_depth=0.0, width_factor=0.25), image_size=8)

    @classmethod
    def small_variants(cls) -> list[SmallVariant]:
        """Not of depth 50: so many normalizations of a few values carry any step across kinks; tests have its block."""
        settings, size = cls.small()
        published = {"form": "imagenet", "width_factor": 1 / 32}
        return [
            SmallVariant("", settings, size),
            SmallVariant("stochastic_depth=0.5", settings.model_copy(update={"stochastic_depth": 0.5}), size),
            SmallVariant("depth=18,form=imagenet", settings.model_copy(update={"depth": 18, **published}), 32),
        ]


class Preresnet(Network):
    """A residual network of any size: pre-activation basic blocks (He 2016, Identity Mappings), for small images."""

    width: int = setting("channels of the first stage", ge=1, le=1024, search=(8, 64, "log"))
    stages: int = setting("stages; the image is halved between them", ge=1, le=6, search=(1, 4))
    depth: int = setting("residual blocks in each stage", ge=1, le=64, search=(1, 3))

    @classmethod
    def small(cls) -> Small:
        return Small(cls(width=4, stages=2, depth=1), image_size=8)


NETWORKS: dict[str, type[Network]] = {
    "neighbours": Neighbours,
    "linear": Linear,
    "mlp": Mlp,
    "convnet": Convnet,
    "alexnet": Alexnet,
    "vgg": Vgg,
    "resnet": Resnet,
    "preresnet": Preresnet,
}
