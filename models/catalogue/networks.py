"""The networks and their settings; the code of each is models/networks/NAME.py."""

from typing import ClassVar, Literal

from models.catalogue.settings import Settings, setting


class Network(Settings):
    """A network; what it needs of a training is said here, for all that must not import torch."""

    # Keeps the training images in one pass, raw pixels in [0, 255]: no normalisation, augmentation, loss or optimizer.
    memorises: ClassVar[bool] = False


class Neighbours(Network):
    """Majority vote of the k nearest training images; k = 1 is the nearest neighbour."""

    memorises: ClassVar[bool] = True
    k: int = setting("neighbours that vote", ge=1, le=10_000, search=(1, 50, "log"))
    distance: Literal["l1", "l2"] = setting("sum |a - b|, or the root of sum (a - b)^2")


class Linear(Network):
    """f(x, W) = Wx + b on the normalised pixels: each row of W is a template of one class."""


class Mlp(Network):
    """Fully connected layers with ReLU between them."""

    width: int = setting("units in each hidden layer", ge=1, le=65_536, search=(32, 1024, "log"))
    depth: int = setting("hidden layers", ge=1, le=64, search=(1, 4))


class Convnet(Network):
    """Stages of 3x3 convolution, batch normalization and ReLU; each stage halves the image and doubles the width."""

    width: int = setting("channels of the first stage", ge=1, le=1024, search=(8, 64, "log"))
    stages: int = setting("stages; the image is halved between them", ge=1, le=6, search=(1, 4))
    first_depth: int = setting("convolutions in the first stage, the costliest", ge=1, le=16, search=(1, 3))
    depth: int = setting("convolutions in each further stage", ge=1, le=16, search=(1, 3))


class Resnet(Network):
    """A small residual network: pre-activation basic blocks (He 2016, Identity Mappings), for small images."""

    width: int = setting("channels of the first stage", ge=1, le=1024, search=(8, 64, "log"))
    stages: int = setting("stages; the image is halved between them", ge=1, le=6, search=(1, 4))
    depth: int = setting("residual blocks in each stage", ge=1, le=64, search=(1, 3))


NETWORKS: dict[str, type[Network]] = {
    "neighbours": Neighbours,
    "linear": Linear,
    "mlp": Mlp,
    "convnet": Convnet,
    "resnet": Resnet,
}
