"""The update rules and their settings; the code is models/optimizers.py."""

from typing import ClassVar

from models.catalogue.settings import Settings, setting


class Optimizer(Settings):
    """An update rule; `own_momentum` is what `optimizer.momentum: null` means, None where momentum has no meaning."""

    own_momentum: ClassVar[float | None] = None


class Sgd(Optimizer):
    """v <- momentum v + g; w <- w - lr v."""

    own_momentum: ClassVar[float | None] = 0.9
    nesterov: bool = setting("look ahead along the momentum before taking the step")


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


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": Sgd, "adam": Adam, "adamw": Adamw, "muon": Muon}
