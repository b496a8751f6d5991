"""The network as it is before its first step: initialised from the seed, or started from saved weights."""

from pathlib import Path

import torch
from torch import nn

from models.build import build_network
from models.initial import UnfitWeightsError, start_from_file
from models.networks.shape import ImageTooSmallError, Shape
from pipeline import paths, seeding
from pipeline.errors import Mistake
from pipeline.params import Params


def initialised_network(params: Params, shape: Shape) -> nn.Module:
    """The network before its first step: a function of the seed. Raises Mistake where it does not fit the images."""
    torch.manual_seed(seeding.number(params.seed, "initialisation"))
    try:
        network = build_network(params.model.name, params.model.settings, shape, params.dropout)
    except ImageTooSmallError as error:
        raise Mistake(f"params.yaml: model.{params.model.name}: {error} (data.image_size, augment.crop_size)") from None
    size, devices = params.train.batch_size, params.train.devices
    normalizes = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    if size is not None and size < 2 * devices and normalizes:
        raise Mistake(
            f"params.yaml: train.batch_size: {size} is one image a device, and {params.model.name}'s batch"
            " normalization needs two; raise it, or use linear or mlp"
        )
    return network


def initial_weights(params: Params) -> list[Path]:
    """The file that `params` make a training read beyond its data: of weights to start from, if any."""
    return [] if params.model.init_from.weights is None else [paths.INITIAL]


def started(network: nn.Module, params: Params, file: Path) -> list[nn.Module]:
    """Have a network start from the weights in `file`, where `params` name some.

    Returns the modules to keep in evaluation mode. Raises Mistake where the weights are not there, or do not fit.
    """
    wanted = params.model.init_from
    if wanted.weights is None:
        return []
    try:
        return start_from_file(network, file, wanted.up_to, wanted.frozen)
    except FileNotFoundError:
        raise Mistake(f"{file}: not found; `dvc repro source` brings model.init_from.weights there") from None
    except UnfitWeightsError as error:
        raise Mistake(f"params.yaml: model.init_from: {wanted.weights}: {error}") from None
