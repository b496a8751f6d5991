"""Data losses: a network's outputs and the targets to one loss an image (N,); the objective takes their mean.

Outputs are scores (N, C), one score (N, 1), numbers (N, T), or scores and a box (N, C + 4); targets are as
`Targets` has them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models import catalogue

Loss = Callable[[Tensor, Any], Tensor]


class Mixture(NamedTuple):
    """The targets of images that are each mixed of two (MixUp, CutMix)."""

    labels: Tensor  # N; of numbers N, T
    partner_labels: Tensor  # likewise
    shares: Tensor  # N, in [0, 1]: the weight of `labels`


class Located(NamedTuple):
    """The class and the place of the one object in each image."""

    labels: Tensor  # N
    boxes: Tensor  # N, 4: left, top, right, bottom as shares of the side that the network sees


Targets = Tensor | Mixture | Located  # a Tensor: labels (N,), or numbers (N, T)


def on(targets: Tensor | Located, device: torch.device | str) -> Tensor | Located:
    """Targets, moved to `device`."""
    if isinstance(targets, Located):
        return Located(targets.labels.to(device), targets.boxes.to(device))
    return targets.to(device)


def data_loss(loss: Loss, scores: Tensor, targets: Targets) -> Tensor:
    """One loss an image (N,), for mixed images too: share L(s, a) + (1 - share) L(s, b) (Zhang 2018; Yun 2019).

    It serves whatever the loss is. For softmax it is H(p, q) = -sum p log q with p the mixed targets, smoothed or not,
    since H is linear in p; for the hinge, whose value for a label that is only probable nobody defines, it is the
    expectation over the two labels.
    """
    if not isinstance(targets, Mixture):
        return loss(scores, targets)
    own, other = loss(scores, targets.labels), loss(scores, targets.partner_labels)
    return targets.shares * own + (1 - targets.shares) * other


def dominant(targets: Tensor | Mixture) -> Tensor:
    """The labels (N,) that answers are right by: of two the one of the larger share; of equal ones, the image's."""
    if not isinstance(targets, Mixture):
        return targets
    return torch.where(targets.shares >= 0.5, targets.labels, targets.partner_labels)


def softmax(settings: catalogue.Softmax) -> Loss:
    """-log softmax(s)_y, computed stably, against targets smoothed as in Szegedy 2016 (section 7)."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(scores, labels, reduction="none", label_smoothing=settings.label_smoothing)

    return loss


def svm(settings: catalogue.Svm) -> Loss:
    """sum over j != y of max(0, s_j - s_y + margin) (Weston & Watkins 1999)."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        right = scores.gather(1, labels[:, None])  # N, 1
        margins = torch.relu(scores - right + settings.margin)  # N, C
        return margins.sum(1) - settings.margin  # the term j = y is exactly the margin

    return loss


def binary_hinge(settings: catalogue.BinaryHinge) -> Loss:
    """max(0, 1 - t s), t = 2 label - 1."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return torch.relu(1 - (2 * labels - 1) * scores[:, 0])

    return loss


def l2(settings: catalogue.L2) -> Loss:
    """sum or mean over the target's numbers of (y - t)^2."""

    def loss(numbers: Tensor, targets: Tensor) -> Tensor:
        return _reduced((numbers - targets).square(), settings.reduction)

    return loss


def smooth_l1(settings: catalogue.SmoothL1) -> Loss:
    """sum or mean over the target's numbers of 0.5 d^2 where |d| < 1, |d| - 0.5 elsewhere (Girshick 2015, eq. 3)."""

    def loss(numbers: Tensor, targets: Tensor) -> Tensor:
        return _reduced(functional.smooth_l1_loss(numbers, targets, reduction="none"), settings.reduction)

    return loss


def localisation(settings: catalogue.Localisation) -> Loss:
    """-log softmax(s)_y + box_weight * sum of smooth L1 over the four numbers (Girshick 2015, eq. 1, one object)."""

    def loss(outputs: Tensor, targets: Located) -> Tensor:
        scores, boxes = outputs[:, :-4], outputs[:, -4:]
        named = functional.cross_entropy(scores, targets.labels, reduction="none")
        placed = functional.smooth_l1_loss(boxes, targets.boxes.to(boxes.dtype), reduction="none").sum(1)
        return named + settings.box_weight * placed

    return loss


def _reduced(values: Tensor, reduction: str) -> Tensor:
    """(N, T) to (N,)."""
    return values.sum(1) if reduction == "sum" else values.mean(1)


LOSSES: dict[str, Callable[[Any], Loss]] = {
    "softmax": softmax,
    "svm": svm,
    "binary_hinge": binary_hinge,
    "l2": l2,
    "smooth_l1": smooth_l1,
    "localisation": localisation,
}
