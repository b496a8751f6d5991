"""Update rules under the catalogue's names: torch's own, and those that it has not."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn, optim

from models import catalogue

Parameters = Iterable[nn.Parameter]

# Fused kernels update all tensors in one call: on two CPU cores a third of the time of torch's default loop.


class _ByTensor(optim.Optimizer):
    """An update rule that looks at one tensor and its gradient at a time."""

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
        raise NotImplementedError

    def _velocity(self, parameter: Tensor) -> Tensor:
        """This tensor's, from zero."""
        state = self.state[parameter]
        if not state:
            state["velocity"] = torch.zeros_like(parameter)
        return cast(Tensor, state["velocity"])


def _decayed(parameters: Parameters, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimizer that decays weights alone: biases and normalization's scales are exempt."""
    everything = list(parameters)
    return [
        {"params": [p for p in everything if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in everything if p.ndim <= 1], "weight_decay": 0.0},
    ]


# --- baseline ---------------------------------------------------------------------------------------------------------


class RandomSearch(optim.Optimizer):
    """Each step draws all numbers anew, biases too, from scale N(0, 1), and keeps them if they lower the objective.

    The first draw is kept whatever it is: the weights before it were no draw. Both are judged on the same batch, the
    kept ones last, so that the loss a step reports is that of the weights before it, as with any other rule. No
    gradient is used. Numbers come from torch's generator: whoever seeds it by the step has a search that repeats.
    Dropout would judge the two by different units, and batch normalization average over both.
    """

    def __init__(self, parameters: Parameters, lr: float, scale: float) -> None:
        """lr: without meaning; schedules set it."""
        super().__init__(parameters, {"lr": lr, "scale": scale, "draws": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float:  # type: ignore[override]
        assert closure is not None, "random search compares two losses"
        group = self.param_groups[0]
        weights = group["params"]
        kept = [weight.clone() for weight in weights]
        drawn = [weight.normal_(std=group["scale"]).clone() for weight in weights]
        losses = []
        for tried in (drawn, kept):
            for weight, values in zip(weights, tried, strict=True):
                weight.copy_(values)
            with torch.enable_grad():
                losses.append(float(closure()))
        if group["draws"] == 0 or losses[0] < losses[1]:
            for weight, values in zip(weights, drawn, strict=True):
                weight.copy_(values)
        group["draws"] += 1
        return losses[1]


def random_search(
    parameters: Parameters, settings: catalogue.RandomSearch, lr: float, momentum: float | None
) -> optim.Optimizer:
    return RandomSearch(parameters, lr, settings.scale)


# --- momentum ---------------------------------------------------------------------------------------------------------


class RateInside(_ByTensor):
    """v <- momentum v - lr (g + weight_decay w); w <- w + v: a rate that changes acts on new gradients alone.

    With `nesterov` w <- w + momentum v - lr (g + weight_decay w) (Sutskever 2013, in the form of Bengio 2013).
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float, nesterov: bool = False) -> None:
        """groups: each with its `weight_decay`."""
        super().__init__(groups, {"lr": lr, "momentum": momentum, "nesterov": nesterov})

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        downhill = gradient.add(parameter, alpha=group["weight_decay"]).mul_(-group["lr"])
        velocity = self._velocity(parameter).mul_(group["momentum"]).add_(downhill)
        parameter.add_(downhill.add(velocity, alpha=group["momentum"]) if group["nesterov"] else velocity)


def sgd(parameters: Parameters, settings: catalogue.Sgd, lr: float, momentum: float | None) -> optim.Optimizer:
    """v <- momentum v + g; w <- w - lr v. Without momentum Nesterov's form is plain gradient descent.

    Weight decay is coupled, g <- g + weight_decay w; of weights alone.
    """
    momentum = momentum or 0.0
    nesterov = settings.nesterov and momentum > 0
    groups = _decayed(parameters, settings.weight_decay)
    if settings.rate_inside:
        return RateInside(groups, lr, momentum, nesterov)
    return optim.SGD(groups, lr, momentum=momentum, nesterov=nesterov, fused=True)


def alexnet(
    parameters: Parameters, settings: catalogue.AlexnetRule, lr: float, momentum: float | None
) -> optim.Optimizer:
    """v <- 0.9 v - 0.0005 eps w - eps g; w <- w + v (Krizhevsky 2012, section 5), eps the learning rate.

    The paper states it "for weight w": biases are not decayed here, as with every other optimizer.
    """
    return RateInside(_decayed(parameters, settings.weight_decay), lr, momentum or 0.0)


# --- a rate for each number -------------------------------------------------------------------------------------------


def adagrad(parameters: Parameters, settings: catalogue.Adagrad, lr: float, momentum: float | None) -> optim.Optimizer:
    """s <- s + g^2; w <- w - lr g / (sqrt s + eps)."""
    return optim.Adagrad(parameters, lr, eps=settings.eps)


def rmsprop(parameters: Parameters, settings: catalogue.Rmsprop, lr: float, momentum: float | None) -> optim.Optimizer:
    """s <- alpha s + (1 - alpha) g^2; u <- momentum u + g / (sqrt s + eps); w <- w - lr u.

    u is a velocity of rescaled gradients, as momentum makes of plain ones; no mean of first moments, as Adam's m is.
    """
    return optim.RMSprop(parameters, lr, alpha=settings.alpha, eps=settings.eps, momentum=momentum or 0.0)


def adam(parameters: Parameters, settings: catalogue.Adam, lr: float, momentum: float | None) -> optim.Optimizer:
    """m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2; w <- w - lr m' / (sqrt v' + eps), where
    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) (Kingma & Ba 2015, algorithm 1)."""
    return optim.Adam(parameters, lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True)


def adamw(parameters: Parameters, settings: catalogue.Adamw, lr: float, momentum: float | None) -> optim.Optimizer:
    """Adam after w <- w - lr weight_decay w; of weights alone."""
    groups = _decayed(parameters, settings.weight_decay)
    return optim.AdamW(groups, lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True)


# --- orthogonalized ---------------------------------------------------------------------------------------------------


class Muon(_ByTensor):
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

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        velocity = self._velocity(parameter).mul_(group["momentum"]).add_(gradient)
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
    "random_search": random_search,
    "sgd": sgd,
    "alexnet": alexnet,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "muon": muon,
}
