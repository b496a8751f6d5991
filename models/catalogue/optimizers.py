"""The update rules and their settings; the code is models/optimizers.py."""

from typing import ClassVar

from models.catalogue.settings import Settings, setting


class Optimizer(Settings):
    """An update rule; `own_momentum` is what `optimizer.momentum: null` means, None where momentum has no meaning."""

    own_momentum: ClassVar[float | None] = None
    follows_the_slope: ClassVar[bool] = True  # otherwise neither gradients nor a learning rate have a meaning


class RandomSearch(Optimizer):
    """Draw all weights anew from scale N(0, 1) at every step and keep the better ones: a baseline, no way to learn."""

    follows_the_slope: ClassVar[bool] = False
    scale: float = setting("standard deviation of the weights drawn", gt=0, le=1000, search=(1e-5, 1.0, "log"))


class Sgd(Optimizer):
    """v <- momentum v + g; w <- w - lr v; with `rate_inside` v <- momentum v - lr g; w <- w + v."""

    own_momentum: ClassVar[float | None] = 0.9
    nesterov: bool = setting("look ahead along the momentum before taking the step")
    rate_inside: bool = setting("keep the rate inside the velocity, which matters where a schedule changes it")
    weight_decay: float = setting("this times w is added to the gradient of a weight", ge=0, search=(1e-6, 1e-2, "log"))


class AlexnetRule(Optimizer):
    """v <- momentum v - weight_decay lr w - lr g; w <- w + v (Krizhevsky 2012, section 5)."""

    own_momentum: ClassVar[float | None] = 0.9
    weight_decay: float = setting("each step shrinks weights by lr times this", ge=0, search=(1e-6, 1e-2, "log"))


class Adagrad(Optimizer):
    """Each number's rate falls with the sum of its squared gradients (Duchi 2011)."""

    eps: float = setting("added to the denominator", gt=0, le=1, search=(1e-12, 1e-6, "log"))


class Rmsprop(Optimizer):
    """Each number's gradient over the root of its running mean square (Tieleman & Hinton 2012).

    `optimizer.momentum` here is the decay of a velocity that sums up these quotients; Adam's mean of the gradients
    themselves is something else.
    """

    own_momentum: ClassVar[float | None] = 0.0
    alpha: float = setting("decay of the squared gradient's running mean", ge=0, lt=1, search=(0.9, 0.999))
    eps: float = setting("added to the denominator", gt=0, le=1, search=(1e-10, 1e-6, "log"))


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015)."""

    beta1: float = setting("decay of the gradient's running mean", ge=0, lt=1, search=(0.8, 0.99))
    beta2: float = setting("decay of the squared gradient's running mean", ge=0, lt=1, search=(0.9, 0.9999))
    eps: float = setting("added to the denominator", gt=0, le=1, search=(1e-10, 1e-6, "log"))


class Adamw(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    weight_decay: float = setting("each step shrinks weights by lr times this", ge=0, search=(1e-4, 1e-1, "log"))


class Muon(Optimizer):
    """Momentum, orthogonalized for every weight matrix or filter bank (Jordan 2024); other parameters: Nesterov SGD."""

    own_momentum: ClassVar[float | None] = 0.95
    weight_decay: float = setting("each step shrinks weights by lr times this", ge=0, search=(1e-3, 0.3, "log"))
    vector_lr_factor: float = setting(
        "rate of biases and normalization's scales, over lr", gt=0, search=(0.3, 10, "log")
    )


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "random_search": RandomSearch,
    "sgd": Sgd,
    "alexnet": AlexnetRule,
    "adagrad": Adagrad,
    "rmsprop": Rmsprop,
    "adam": Adam,
    "adamw": Adamw,
    "muon": Muon,
}
