"""Data losses: a network's outputs and the targets to one loss an image (N,); the objective takes their mean.

Outputs are scores (N, C), one score (N, 1), numbers (N, T), or scores and a box (N, C + 4); targets are as
`Targets` has them.
"""

from collections.abc import Callable
from functools import partial
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
    """Of max(0, s_j - s_y + margin), j != y, the sum (Weston & Watkins 1999) or the worst (Crammer & Singer 2001)."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        violated = margins(scores, labels, settings.margin)
        return violated.sum(1) if settings.margins == "all" else violated.amax(1)

    return loss


def squared_hinge(settings: catalogue.SquaredHinge) -> Loss:
    """sum over j != y of max(0, s_j - s_y + margin)^2."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return margins(scores, labels, settings.margin).square().sum(1)

    return loss


def margins(scores: Tensor, labels: Tensor, margin: float) -> Tensor:
    """By how much each wrong score comes too near to the right one, max(0, s_j - s_y + margin): (N, C), 0 at j = y."""
    right = scores.gather(1, labels[:, None])  # N, 1
    return torch.relu(scores - right + margin).scatter(1, labels[:, None], 0.0)


def one_against_all(settings: catalogue.OneAgainstAll) -> Loss:
    """sum over j of max(0, 1 - t_j s_j), t_j = +1 for the right class and -1 for any other."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        signs = torch.full_like(scores, -1.0).scatter(1, labels[:, None], 1.0)  # N, C
        return torch.relu(1 - signs * scores).sum(1)

    return loss


def binary_hinge(settings: catalogue.BinaryHinge) -> Loss:
    """max(0, 1 - t s) of scores (N, 1) and labels (N,): t = +1 for 1, -1 for 0."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return torch.relu(1 - (2 * labels - 1) * scores.squeeze(1))

    return loss


# --- regression: scores (N, T) and targets (N, T), float --------------------------------------------------------------


def l1(settings: catalogue.L1) -> Loss:
    """|d|, d = score - target."""
    return _of_differences(functional.l1_loss, settings)


def l2(settings: catalogue.L2) -> Loss:
    """d^2; summed it is the sum of squared differences."""
    return _of_differences(functional.mse_loss, settings)


def smooth_l1(settings: catalogue.SmoothL1) -> Loss:
    """d^2 / 2 where |d| < 1, |d| - 1/2 beyond (Girshick 2015, Fast R-CNN, equation 3)."""
    return _of_differences(functional.smooth_l1_loss, settings)


def huber(settings: catalogue.Huber) -> Loss:
    """d^2 / 2 where |d| <= delta, delta (|d| - delta / 2) beyond (Huber 1964); delta 1 is smooth L1."""
    return _of_differences(partial(functional.huber_loss, delta=settings.delta), settings)


def _of_differences(by_number: Callable[..., Tensor], settings: catalogue.Regression) -> Loss:
    def loss(scores: Tensor, targets: Tensor) -> Tensor:
        each = by_number(scores, targets, reduction="none")  # N, T
        return each.sum(1) if settings.reduction == "sum" else each.mean(1)

    return loss


def localisation(settings: catalogue.Localisation) -> Loss:
    """-log softmax(s)_y + box_weight * sum of smooth L1 over the four numbers (Girshick 2015, eq. 1, one object)."""

    def loss(outputs: Tensor, targets: Located) -> Tensor:
        scores, boxes = outputs[:, :-4], outputs[:, -4:]
        named = functional.cross_entropy(scores, targets.labels, reduction="none")
        placed = functional.smooth_l1_loss(boxes, targets.boxes.to(boxes.dtype), reduction="none").sum(1)
        return named + settings.box_weight * placed

    return loss


LOSSES: dict[str, Callable[[Any], Loss]] = {
    "softmax": softmax,
    "svm": svm,
    "squared_hinge": squared_hinge,
    "one_against_all": one_against_all,
    "binary_hinge": binary_hinge,
    "l1": l1,
    "l2": l2,
    "smooth_l1": smooth_l1,
    "huber": huber,
    "localisation": localisation,
}
