"""What each task asks of a network: how many numbers, what they say of an image, and how good that is.

Which task it is follows from the loss (`catalogue.LOSSES[name].task`); the data must have what the task needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from models import catalogue
from models.losses import Located, Mixture, Targets, dominant

HALF_OF_UNION = 0.5  # a box overlaps the true one enough from here on (ILSVRC; Russakovsky 2015, section 4.2)
_BELOW_HALF = 0.49999997  # the float32 before 0.5


class Centre(NamedTuple):
    """What the network sees of a picture: the square from `start` to `start + side` either way, in its pixels."""

    start: int
    side: int


@dataclass(frozen=True)
class Task:
    """The torch side of a task; its figure's name is in `catalogue.FIGURES`."""

    outputs: Callable[[int, int], int]  # how many, from the number of classes and of a target's numbers
    total: Callable[[Tensor, Targets], Tensor]  # the figure, summed over a batch, from outputs and targets
    example: Callable[[int, int, int], Tensor | Located]  # targets of so many images, drawn, to time a step with
    answers: Callable[[Tensor, Centre], Tensor]  # what is said of pictures (N, any), in numbers that a user can read


# --- the figure, summed over a batch ----------------------------------------------------------------------------------


def _named_rightly(scores: Tensor, targets: Targets) -> Tensor:
    """Images whose highest score is the label's, of a mixed image the dominant one's."""
    assert not isinstance(targets, Located)
    return (scores.argmax(1) == dominant(targets)).sum()


def _signed_rightly(scores: Tensor, targets: Targets) -> Tensor:
    """Images whose score (N, 1) is on the label's side; 0 is positive."""
    assert not isinstance(targets, Located)
    return ((scores[:, 0] >= 0).long() == dominant(targets)).sum()


def _absolute_errors(numbers: Tensor, targets: Targets) -> Tensor:
    """Each image's mean |number - target| over the target's numbers; of a mixed image, against the mixed target."""
    assert not isinstance(targets, Located)
    if isinstance(targets, Mixture):
        shares = targets.shares[:, None]
        targets = shares * targets.labels + (1 - shares) * targets.partner_labels
    return (numbers.float() - targets).abs().mean(1).sum()


def _found(outputs: Tensor, targets: Targets) -> Tensor:
    """Images whose class is right and whose box overlaps the true one by half of their union."""
    assert isinstance(targets, Located)
    right = outputs[:, :-4].argmax(1) == targets.labels
    return (right & (overlap(outputs[:, -4:].float(), targets.boxes) >= HALF_OF_UNION)).sum()


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (N, 4) left, top, right, bottom, one by one: (N,), 0 where neither has an area.

    A box whose right is not beyond its left, or bottom beyond its top, has no area.
    """
    corner = torch.maximum(boxes[:, :2], others[:, :2])
    shared = _area(torch.cat([corner, torch.minimum(boxes[:, 2:], others[:, 2:])], dim=1))
    union = _area(boxes) + _area(others) - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(union))


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


# --- targets of noise -------------------------------------------------------------------------------------------------


def _some_labels(images: int, classes: int, numbers: int) -> Tensor:
    return torch.randint(classes, (images,))


def _some_numbers(images: int, classes: int, numbers: int) -> Tensor:
    return torch.rand(images, numbers)


def _some_located(images: int, classes: int, numbers: int) -> Located:
    return Located(_some_labels(images, classes, numbers), torch.rand(images, 4))


# --- what is said of an image -----------------------------------------------------------------------------------------


def _probabilities(scores: Tensor, centre: Centre) -> Tensor:
    return scores.softmax(1)


def _two_probabilities(scores: Tensor, centre: Centre) -> Tensor:
    """Of the two classes, (N, 2): the logistic function of the score, a monotone picture of it.

    A hinge's scores are no log-odds, so these are not calibrated; their larger one follows the rule of the sign, and is
    the second where the score is 0.
    """
    negative = torch.sigmoid(-scores)  # N, 1
    return torch.cat([torch.where(scores >= 0, negative.clamp(max=_BELOW_HALF), negative), torch.sigmoid(scores)], 1)


def _numbers(numbers: Tensor, centre: Centre) -> Tensor:
    return numbers


def _probabilities_and_box(outputs: Tensor, centre: Centre) -> Tensor:
    """Probabilities of the classes, then left, top, right, bottom in pixels of the picture: (N, C + 4)."""
    return torch.cat([outputs[:, :-4].softmax(1), outputs[:, -4:] * centre.side + centre.start], dim=1)


TASKS: dict[catalogue.Task, Task] = {
    "classification": Task(lambda classes, numbers: classes, _named_rightly, _some_labels, _probabilities),
    "binary": Task(lambda classes, numbers: 1, _signed_rightly, _some_labels, _two_probabilities),
    "regression": Task(lambda classes, numbers: numbers, _absolute_errors, _some_numbers, _numbers),
    "localisation": Task(lambda classes, numbers: classes + 4, _found, _some_located, _probabilities_and_box),
}
