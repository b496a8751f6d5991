"""Data losses: scores (N, C) and labels (N,) to one loss an image (N,); the objective takes their mean."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models import catalogue

Loss = Callable[[Tensor, Tensor], Tensor]


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
