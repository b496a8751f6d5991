"""Data losses: scores (N, C) and labels (N,) to one loss an image (N,); the objective takes their mean."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models import catalogue

Loss = Callable[[Tensor, Tensor], Tensor]


class Mixture(NamedTuple):
    """The targets of images that are each mixed of two (MixUp, CutMix)."""

    labels: Tensor  # N
    partner_labels: Tensor  # N
    shares: Tensor  # N, in [0, 1]: the weight of `labels`


Targets = Tensor | Mixture


def data_loss(loss: Loss, scores: Tensor, targets: Targets, class_weights: Tensor | None = None) -> Tensor:
    """One loss an image (N,), for mixed images too: share L(s, a) + (1 - share) L(s, b) (Zhang 2018; Yun 2019).

    It serves whatever the loss is. For softmax it is H(p, q) = -sum p log q with p the mixed targets, smoothed or not,
    since H is linear in p; for the hinge, whose value for a label that is only probable nobody defines, it is the
    expectation over the two labels.

    class_weights: what the loss against each label is multiplied by (C,); None: 1.
    """

    def against(labels: Tensor) -> Tensor:
        return loss(scores, labels) if class_weights is None else class_weights[labels] * loss(scores, labels)

    if not isinstance(targets, Mixture):
        return against(targets)
    own, other = against(targets.labels), against(targets.partner_labels)
    return targets.shares * own + (1 - targets.shares) * other


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Of each class, N / (C n_c) with n_c its images among N labels (N,), so that all classes weigh the same: (C,).

    C counts the classes that have images, whereby the mean over all images is 1; a class that has none weighs 0.
    That is scikit-learn's "balanced", after King & Zeng 2001 (Logistic Regression in Rare Events Data).
    """
    counts = torch.bincount(labels, minlength=classes)
    weights = len(labels) / ((counts > 0).sum() * counts.clamp(min=1))
    return torch.where(counts > 0, weights, 0.0)


def dominant(targets: Targets) -> Tensor:
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


LOSSES: dict[str, Callable[[Any], Loss]] = {"softmax": softmax, "svm": svm}
