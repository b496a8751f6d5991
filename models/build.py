"""From a description to the object: networks by name, and the trained model as two files that cannot run code."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models import catalogue
from models.catalogue import Settings
from models.losses import LOSSES, Targets
from models.networks.shape import Shape
from models.tasks import TASKS, Centre

WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.yaml"


class ModelFileError(ValueError):
    """A model folder that cannot be loaded; the message names the file and what is wrong with it."""


class Description(Settings):
    """All that is needed to rebuild a trained model: the content of model.yaml."""

    network: str
    network_settings: dict[str, Any]
    dropout: float
    loss: str
    loss_settings: dict[str, Any]
    classes: list[str]  # none where numbers are learned
    targets: list[str] = Field(default_factory=list)  # the names of those numbers
    image_size: int  # side of the pictures that the model takes
    crop_size: int | None = None  # side of their centre, which the network sees; None: all of them
    channels: int
    mean: list[float]  # of each channel, pixels in [0, 1]
    std: list[float]

    @model_validator(mode="after")
    def _is_consistent(self) -> "Description":
        if self.network not in catalogue.NETWORKS:
            raise ValueError(f"network: {self.network!r} is not one of {', '.join(catalogue.NETWORKS)}")
        if self.loss not in catalogue.LOSSES:
            raise ValueError(f"loss: {self.loss!r} is not one of {', '.join(catalogue.LOSSES)}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std must have {self.channels} numbers, one a channel")
        if self.crop_size is not None and not 1 <= self.crop_size <= self.image_size:
            raise ValueError(f"crop_size: {self.crop_size} must lie between 1 and image_size, {self.image_size}")
        return self

    @property
    def shape(self) -> Shape:
        outputs = TASKS[self.task].outputs(len(self.classes), len(self.targets))
        return Shape(self.channels, self.crop_size or self.image_size, outputs)

    @property
    def task(self) -> catalogue.Task:
        return catalogue.LOSSES[self.loss].task


def build_network(name: str, settings: Settings, shape: Shape, dropout: float) -> nn.Module:
    """The network of models/networks/NAME.py, initialised from torch's generator.

    Found by name rather than in a table, so that adding a network changes no file an existing result depends on.
    Raises ImageTooSmallError.
    """
    network: Callable[[Settings, Shape, float], nn.Module] = importlib.import_module(f"models.networks.{name}").Network
    return network(settings, shape, dropout)


class Predictor(nn.Module):
    """A trained model that takes raw pictures, uint8 images (N, H, W, C), and says what its task asks for:

    classification and binary: probabilities (N, classes); regression: the numbers (N, targets); localisation:
    probabilities, then the box's left, top, right and bottom in pixels of the picture (N, classes + 4).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, description: Description) -> None:
        super().__init__()
        self.network = network
        self.task = description.task
        self.classes = tuple(description.classes)
        self.targets = tuple(description.targets)
        self.image_shape = (description.image_size, description.image_size, description.channels)  # H, W, C
        self.seen = description.shape.image_size  # side of the centre that the network sees
        self.loss = LOSSES[description.loss](catalogue.LOSSES[description.loss](**description.loss_settings))
        self.register_buffer("mean", torch.tensor(description.mean) * 255)
        self.register_buffer("std", torch.tensor(description.std) * 255)

    @property
    def _centre(self) -> Centre:
        return Centre((self.image_shape[0] - self.seen) // 2, self.seen)

    def scores(self, images: Tensor) -> Tensor:
        """The network's raw outputs, such as scores (N, classes) before the softmax."""
        start = self._centre.start
        centre = images[:, start : start + self.seen, start : start + self.seen]
        normalised = (centre.float() - self.mean) / self.std  # N, H, W, C
        return self.network(normalised.permute(0, 3, 1, 2))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        return TASKS[self.task].answers(self.scores(images), self._centre)

    def loss_per_image(self, images: Tensor, targets: Targets) -> Tensor:
        """The data loss that the model was trained with, without the penalty: (N,)."""
        return self.loss(self.scores(images), targets)


def save_model(folder: Path, network: nn.Module, description: Description) -> None:
    """Write weights.safetensors and model.yaml; equal models give equal bytes."""
    from ruamel.yaml import YAML

    # No metadata: several keys are written in random order. Contiguous: memory formats are not stored.
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    with open(folder / DESCRIPTION, "w", encoding="utf-8") as stream:
        unsaid = {"targets"} if not description.targets else set()
        writer.dump(description.model_dump(exclude=unsaid), stream)


def load_model(folder: Path) -> Predictor:
    """The model of a folder, on the CPU, in evaluation mode. Raises ModelFileError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    for name in (WEIGHTS, DESCRIPTION):
        if not (folder / name).is_file():
            raise ModelFileError(f"{folder / name}: not found; train a model first (`dvc repro train`)")
    try:
        raw = YAML(typ="safe", pure=True).load((folder / DESCRIPTION).read_text(encoding="utf-8"))
        description = Description.model_validate(raw)
        settings = catalogue.NETWORKS[description.network](**description.network_settings)
        network = build_network(description.network, settings, description.shape, description.dropout)
        predictor = Predictor(network, description)
    except (YAMLError, ValidationError, ValueError) as error:
        raise ModelFileError(f"{folder / DESCRIPTION}: not a model's description: {error}") from error
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:  # safetensors raises its own type, torch RuntimeError: both mean the same here
        raise ModelFileError(f"{folder / WEIGHTS}: does not fit {DESCRIPTION}: {error}") from error
    return predictor.eval()
