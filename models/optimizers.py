"""Update rules under the catalogue's names: torch's own, and Muon for filter banks too."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn, optim

from models import catalogue

Parameters = Iterable[nn.Parameter]

# Fused kernels update all tensors in one call: on two CPU cores a third of the time of torch's default loop.


def sgd(parameters: Parameters, settings: catalogue.Sgd, lr: float, momentum: float | None) -> optim.Optimizer:
    """v <- momentum v + g; w <- w - lr v. Without momentum Nesterov's form is plain gradient descent."""
    momentum = momentum or 0.0
    return optim.SGD(parameters, lr, momentum=momentum, nesterov=settings.nesterov and momentum > 0, fused=True)


def adam(parameters: Parameters, settings: catalogue.Adam, lr: float, momentum: float | None) -> optim.Optimizer:
    return optim.Adam(parameters, lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True)


def adamw(parameters: Parameters, settings: catalogue.Adamw, lr: float, momentum: float | None) -> optim.Optimizer:
    """Weights alone are decayed; biases and normalization's scales are exempt."""
    everything = list(parameters)
    groups = [
        {"params": [p for p in everything if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in everything if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return optim.AdamW(groups, lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True)


class Muon(optim.Optimizer):
    """Momentum whose step on every matrix has all its singular values near one (Jordan 2024, "Muon").

    torch.optim.Muon takes matrices alone; here a filter bank (out, in, kh, kw) is the matrix (out, in kh kw), and
    parameters with one dimension follow Nesterov SGD at `vector_lr_factor` times the rate. On matrices the two agree.
    """

    COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz polynomial, the steepest at zero

    def __init__(
        self, parameters: Parameters, lr: float, momentum: float, weight_decay: float, vector_lr_factor: float
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "vector_lr_factor": vector_lr_factor}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["velocity"] = torch.zeros_like(gradient)
        velocity = state["velocity"].mul_(group["momentum"]).add_(gradient)
        update = gradient.add(velocity, alpha=group["momentum"])  # Nesterov
        if parameter.ndim == 1:
            parameter.add_(update, alpha=-group["lr"] * group["vector_lr_factor"])
            return
        matrix = orthogonalized(update.flatten(1), self.COEFFICIENTS)
        rows, columns = matrix.shape
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(matrix.view(update.shape), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonalized(matrix: Tensor, coefficients: tuple[float, float, float], steps: int = 5) -> Tensor:
    """A matrix of the same singular vectors, every singular value between about 0.7 and 1.2.

    Newton-Schulz: X <- a X + (b A + c A^2) X, A = X X^T, from X / ||X||; in bfloat16 as published, which is enough
    for a direction.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


def muon(parameters: Parameters, settings: catalogue.Muon, lr: float, momentum: float | None) -> optim.Optimizer:
    return Muon(parameters, lr, momentum or 0.0, settings.weight_decay, settings.vector_lr_factor)


OPTIMIZERS: dict[str, Callable[[Parameters, Any, float, float | None], optim.Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "muon": muon,
}
