"""The networks and their settings; the code of each is models/networks/NAME.py."""

from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple

from models.catalogue.settings import Settings, setting

Activation = Literal["relu", "leaky_relu", "gelu", "tanh", "sigmoid"]
Form = Literal["imagenet", "small"]


class Network(Settings):
    """A network; what it needs of a training is said here, for all that must not import torch."""

    memorises: ClassVar[bool] = False  # keeps the training images in one pass: no augmentation, loss, or optimizer
    own_dropout: ClassVar[float] = 0.0  # what `regularization.dropout: null` means: what its paper has

    def disagreements(self) -> Iterator[tuple[str, str]]:
        """(key, what is wrong and its remedy) for each rule that is broken between these keys."""
        yield from ()


class Small(NamedTuple):
    """A network for tests."""

    settings: Network
    image_size: int


class Linear(Network):
    """f(x, W) = Wx + b on the normalised pixels: each row of W is a template of one class."""


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


class Alexnet(Network):
    """AlexNet in both of its published forms, and each for small images."""

    own_dropout: ClassVar[float] = 0.5
    version: Literal["two_towers_2012", "one_tower_2014"] = setting("which of the two papers")
    form: Form = setting("imagenet: as published; small: its first convolution is 5x5 and keeps the image's size")
    width_factor: float = setting("widths as a multiple of the published", gt=0, le=16, search=(0.25, 2.0, "log"))


class Vgg(Network):
    """VGG (Simonyan & Zisserman 2015)."""

    own_dropout: ClassVar[float] = 0.5
    depth: Literal[11, 13, 16, 19] = setting("layers with weights")
    batch_norm: bool = setting("normalize after each convolution")
    form: Form = setting("imagenet: two hidden layers of 4,096; small: scores right from the averaged maps")
    width_factor: float = setting("widths as a multiple of the published", gt=0, le=16, search=(0.25, 2.0, "log"))


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


class Preresnet(Network):
    """A residual network of any size: pre-activation basic blocks (He 2016, Identity Mappings), for small images."""

    width: int = setting("channels of the first stage", ge=1, le=1024, search=(8, 64, "log"))
    stages: int = setting("stages; the image is halved between them", ge=1, le=6, search=(1, 4))
    depth: int = setting("residual blocks in each stage", ge=1, le=64, search=(1, 3))


NETWORKS: dict[str, type[Network]] = {
    "linear": Linear,
    "mlp": Mlp,
    "convnet": Convnet,
    "alexnet": Alexnet,
    "vgg": Vgg,
    "resnet": Resnet,
    "preresnet": Preresnet,
}
