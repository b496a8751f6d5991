"""The networks and their settings; the code of each is models/networks/NAME.py."""

from typing import ClassVar, NamedTuple

from models.catalogue.examples import variants
from models.catalogue.settings import Settings, setting


class Network(Settings):
    """A network; what it needs of a training is said here, for all that must not import torch."""

    memorises: ClassVar[bool] = False  # keeps the training images in one pass: no augmentation, loss, or optimizer

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


class Linear(Network):
    """f(x, W) = Wx + b on the normalised pixels: each row of W is a template of one class."""

    @classmethod
    def small(cls) -> Small:
        return Small(cls(), image_size=8)


class Mlp(Network):
    """Fully connected layers with ReLU between them."""

    width: int = setting("units in each hidden layer", ge=1, le=65_536, search=(32, 1024, "log"))
    depth: int = setting("hidden layers", ge=1, le=64, search=(1, 4))

    @classmethod
    def small(cls) -> Small:
        return Small(cls(width=12, depth=2), image_size=8)


class Convnet(Network):
    """Stages of 3x3 convolution, batch normalization and ReLU; each stage halves the image and doubles the width."""

    width: int = setting("channels of the first stage", ge=1, le=1024, search=(8, 64, "log"))
    stages: int = setting("stages; the image is halved between them", ge=1, le=6, search=(1, 4))
    first_depth: int = setting("convolutions in the first stage, the costliest", ge=1, le=16, search=(1, 3))
    depth: int = setting("convolutions in each further stage", ge=1, le=16, search=(1, 3))

    @classmethod
    def small(cls) -> Small:
        return Small(cls(width=4, stages=2, first_depth=1, depth=1), image_size=8)


class Resnet(Network):
    """A small residual network: pre-activation basic blocks (He 2016, Identity Mappings), for small images."""

    width: int = setting("channels of the first stage", ge=1, le=1024, search=(8, 64, "log"))
    stages: int = setting("stages; the image is halved between them", ge=1, le=6, search=(1, 4))
    depth: int = setting("residual blocks in each stage", ge=1, le=64, search=(1, 3))

    @classmethod
    def small(cls) -> Small:
        return Small(cls(width=4, stages=2, depth=1), image_size=8)


NETWORKS: dict[str, type[Network]] = {"linear": Linear, "mlp": Mlp, "convnet": Convnet, "resnet": Resnet}
