"""Derivatives worked out by hand, as plain formulas: of the linear classifier, and of each layer by what it reads.

Layers' functions take the derivative of the loss by the layer's output (`back`) and give that by its input, filter or
bias: the chain rule, one layer at a time. Tests hold each against reverse mode.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# --- the linear classifier s = x W^T + b ------------------------------------------------------------------------------


def softmax_jacobian(scores: Tensor) -> Tensor:
    """d sigma_i / d s_j = sigma_i (delta_ij - sigma_j): scores (C,) to (C, C)."""
    sigma = scores.softmax(0)
    return sigma[:, None] * (torch.eye(len(sigma), dtype=sigma.dtype) - sigma[None, :])


def cross_entropy_by_probabilities(probabilities: Tensor, targets: Tensor) -> Tensor:
    """dL/d sigma_i = -t_i / sigma_i of L = -sum t log sigma, both (..., C)."""
    return -targets / probabilities


def dense_by_weights(inputs: Tensor, outputs: int) -> Tensor:
    """d y_i / d W_jk = x_k where i = j, else 0, of y = W x: inputs (K,) to (outputs, outputs, K)."""
    return torch.eye(outputs, dtype=inputs.dtype)[:, :, None] * inputs


def softmax_by_scores(scores: Tensor, labels: Tensor) -> Tensor:
    """dL_i/ds of the cross-entropy: sigma_j - [j = y_i]. Scores (N, C), labels (N,)."""
    gradient = scores.softmax(1)
    gradient[torch.arange(len(labels)), labels] -= 1
    return gradient


def svm_by_scores(scores: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """dL_i/ds of sum over j != y of max(0, s_j - s_y + margin): [margin violated], and for y less their count."""
    rows = torch.arange(len(labels))
    violated = (scores - scores[rows, labels][:, None] + margin > 0).to(scores.dtype)
    violated[rows, labels] = 0
    violated[rows, labels] = -violated.sum(1)
    return violated


def linear_classifier(
    by_scores: Callable[[Tensor, Tensor], Tensor], weights: Tensor, bias: Tensor, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the mean loss by W (C, D) and b (C,): dL/dW = sum over i of dL_i/ds x_i^T / N.

    by_scores: `softmax_by_scores` or `svm_by_scores`; inputs (N, D), labels (N,).
    """
    back = by_scores(inputs @ weights.T + bias, labels) / len(labels)  # N, C
    return back.T @ inputs, back.sum(0)


# --- layers -----------------------------------------------------------------------------------------------------------


def convolution_by_filters(images: Tensor, back: Tensor, size: int) -> Tensor:
    """dL/dw[o, c, p, q] = sum over n, i, j of back[n, o, i, j] x[n, c, i + p, j + q].

    Stride 1, no padding: images (N, C, H, W), back (N, O, H - size + 1, W - size + 1), to (O, C, size, size).
    """
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # N, C, i, j, p, q
    return torch.einsum("noij,ncijpq->ocpq", back, windows)


def convolution_by_bias(back: Tensor) -> Tensor:
    """dL/db[o] = sum over n, i, j of back[n, o, i, j]: (N, O, h, w) to (O,)."""
    return back.sum((0, 2, 3))


def convolution_by_images(filters: Tensor, back: Tensor) -> Tensor:
    """dL/dx[n, c, i + p, j + q] = sum of back[n, o, i, j] w[o, c, p, q]: filters laid where answers came from."""
    size = filters.shape[-1]
    height, width = back.shape[2] + size - 1, back.shape[3] + size - 1
    gradient = back.new_zeros(back.shape[0], filters.shape[1], height, width)
    for p in range(size):
        for q in range(size):
            spread = torch.einsum("noij,oc->ncij", back, filters[:, :, p, q])
            gradient[:, :, p : p + back.shape[2], q : q + back.shape[3]] += spread
    return gradient


def _windows(images: Tensor, size: int) -> Tensor:
    """Maps (N, C, H, W), sides multiples of `size`, as (N, C, h, w, size^2)."""
    return images.unfold(2, size, size).unfold(3, size, size).flatten(4)


def _from_windows(windows: Tensor, size: int) -> Tensor:
    n, channels, height, width, _ = windows.shape
    tiles = windows.reshape(n, channels, height, width, size, size).permute(0, 1, 2, 4, 3, 5)
    return tiles.reshape(n, channels, height * size, width * size)


def max_pooling(images: Tensor, back: Tensor, size: int) -> Tensor:
    """dL/dx: the window's largest pixel gets all of it, the others nothing. Windows side by side; maps (N, C, H, W)."""
    windows = _windows(images, size)
    winners = torch.nn.functional.one_hot(windows.argmax(4), size**2)
    return _from_windows(winners * back[..., None], size)


def average_pooling(images: Tensor, back: Tensor, size: int) -> Tensor:
    """dL/dx: every pixel of the window gets 1 / size^2 of it."""
    return _from_windows((back[..., None] / size**2).expand_as(_windows(images, size)), size)


def _gelu(z: Tensor) -> Tensor:
    """Phi(z) + z phi(z) of z Phi(z), Phi being the normal distribution and phi its density (Hendrycks 2016)."""
    density: Tensor = torch.exp(-z.square() / 2) / (2 * torch.pi) ** 0.5
    below: Tensor = (1 + torch.erf(z / 2**0.5)) / 2
    return below + z * density


def _sigmoid(z: Tensor) -> Tensor:
    sigma = z.sigmoid()
    return sigma * (1 - sigma)


# The derivative of each activation at z; at the corner of the first two any number between the slopes would do, and
# 0 and `slope` are what torch takes.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda z: (z > 0).to(z.dtype),
    "leaky_relu": lambda z: (z > 0) + 0.01 * (z <= 0).to(z.dtype),  # slope 0.01 below zero (Maas 2013)
    "gelu": _gelu,
    "tanh": lambda z: 1 - z.tanh().square(),
    "sigmoid": _sigmoid,
}
