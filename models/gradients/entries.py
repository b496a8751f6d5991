"""What there is to check: every network, loss and penalty of the catalogue, small, as a function to a number."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models import catalogue
from models.build import build_network
from models.catalogue.examples import example, neutral, variants
from models.gradients.check import Function
from models.losses import LOSSES, Located, Loss, data_loss
from models.networks.shape import Shape
from models.regularizers import penalized, penalty

IMAGES = 4
_CLASSES = 5
_NUMBERS = 3  # of a regression's target
_DROPOUT = 0.3


class Answers(NamedTuple):
    """What the network should have said of each image, and how many numbers it says."""

    targets: Any  # as the losses of the task take them
    outputs: int


def _labels(images: int, generator: torch.Generator) -> Answers:
    return Answers(torch.randint(_CLASSES, (images,), generator=generator), _CLASSES)


def _two_labels(images: int, generator: torch.Generator) -> Answers:
    return Answers(torch.arange(images) % 2, 1)


def _numbers(images: int, generator: torch.Generator) -> Answers:
    return Answers(torch.randn(images, _NUMBERS, generator=generator, dtype=torch.float64), _NUMBERS)


def _located(images: int, generator: torch.Generator) -> Answers:
    boxes = torch.rand(images, 4, generator=generator, dtype=torch.float64)
    return Answers(Located(_labels(images, generator).targets, boxes), _CLASSES + 4)


ANSWERS: dict[str, Callable[[int, torch.Generator], Answers]] = {
    "classification": _labels,
    "binary": _two_labels,
    "regression": _numbers,
    "localisation": _located,
}


def answers(task: str, images: int, generator: torch.Generator) -> Answers:
    """Targets for a task's losses. Raises NotImplementedError for a task that has none yet."""
    if task not in ANSWERS:
        raise NotImplementedError(f"{__name__}.ANSWERS: no targets for the task {task!r}; add how to draw some")
    return ANSWERS[task](images, generator)


# --- losses -----------------------------------------------------------------------------------------------------------


def losses(name: str) -> Iterator[Function]:
    """A loss by the scores, once for every choice among names that its settings have."""
    first = example(catalogue.LOSSES[name])
    for choice, settings in [("", first), *variants(first)]:
        generator = torch.Generator().manual_seed(0)
        wanted = answers(settings.task, IMAGES, generator)
        scores = 2 * torch.randn(IMAGES, wanted.outputs, generator=generator, dtype=torch.float64)
        yield Function(_title(name, choice), _mean_loss(LOSSES[name](settings), wanted.targets), {"scores": scores})


def _mean_loss(loss: Loss, targets: Any) -> Callable[[Mapping[str, Tensor]], Tensor]:
    return lambda tensors: data_loss(loss, tensors["scores"], targets).mean()


def _title(name: str, *parts: str) -> str:
    return " ".join([name, *(part for part in parts if part)])


# --- penalties --------------------------------------------------------------------------------------------------------


def penalties() -> Iterator[Function]:
    """Each key of `regularization` that adds a term to the objective, alone, and all of them together."""
    on = example(catalogue.Regularization)
    off = neutral(catalogue.Regularization)
    chosen = {name: off.model_copy(update={name: getattr(on, name)}) for name in catalogue.Regularization.model_fields}
    together = {_title("all together", choice): settings for choice, settings in [("", on), *variants(on)]}
    for name, settings in {**chosen, **together}.items():
        network = generic(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5)))
        weights = [weight.detach() for weight in penalized(network, settings)]
        if penalty(weights, settings) is not None:
            at = {f"W{number}": weight for number, weight in enumerate(weights, 1)}
            yield Function(f"regularization: {name}", _penalty(settings), at)


def _penalty(settings: catalogue.Regularization) -> Callable[[Mapping[str, Tensor]], Tensor]:
    def value(tensors: Mapping[str, Tensor]) -> Tensor:
        term = penalty(list(tensors.values()), settings)
        assert term is not None
        return term

    return value


# --- networks ---------------------------------------------------------------------------------------------------------


def networks(name: str, loss: str = "softmax") -> Iterator[Function]:
    """A network by its parameters and by the images, under a loss: evaluating, and training where that is not the same.

    Batch normalization in training is a function of the whole batch, and is checked as such; dropout drops the same
    activations at every evaluation.
    """
    settings = example(catalogue.LOSSES[loss])
    for variant in catalogue.NETWORKS[name].small_variants():
        generator = torch.Generator().manual_seed(0)
        wanted = answers(settings.task, IMAGES, generator)
        shape = Shape(channels=3, image_size=variant.image_size, outputs=wanted.outputs)
        with _seeded():
            network = generic(build_network(name, variant.settings, shape, _DROPOUT))
            images = torch.randn(IMAGES, 3, shape.image_size, shape.image_size, dtype=torch.float64)
            network.train()(images + 0.5)  # moves the batch statistics, which evaluation then uses
        at = {parameter: tensor.detach() for parameter, tensor in network.named_parameters()} | {"images": images}
        evaluating = _objective(network.eval(), LOSSES[loss](settings), wanted.targets)
        training = _objective(by_the_batch(network), LOSSES[loss](settings), wanted.targets)
        under = "" if loss == "softmax" else f"under {loss}"
        yield Function(_title(name, variant.choice, under), evaluating, at)
        if training(at) != evaluating(at):
            yield Function(_title(name, variant.choice, under, "(training)"), training, at)


def by_the_batch(network: nn.Module) -> nn.Module:
    """A copy in training mode that keeps no running statistics: they are no part of the function."""
    return torch.func.replace_all_batch_norm_modules_(copy.deepcopy(network)).train()


def _objective(network: nn.Module, loss: Loss, targets: Any) -> Callable[[Mapping[str, Tensor]], Tensor]:
    def value(tensors: Mapping[str, Tensor]) -> Tensor:
        parameters = dict(tensors)
        images = parameters.pop("images")
        with _seeded():
            scores = torch.func.functional_call(network, parameters, (images,))
        return data_loss(loss, scores, targets).mean()

    return value


@contextmanager
def _seeded() -> Iterator[None]:
    """The same random numbers whenever it is entered, and outside as if none had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def generic(network: nn.Module) -> nn.Module:
    """In float64, at a point that is nothing special: weights from N(0, 2 / fan-in) (He 2015), all else moved a little.

    Where weights, scales or biases are zero at first, gradients would be zero too, or stand at kinks.
    """
    generator = torch.Generator().manual_seed(1)
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim > 1:
                parameter.copy_(noise * (2 / parameter[0].numel()) ** 0.5)
            else:
                parameter.add_(0.1 * noise)
    return network
