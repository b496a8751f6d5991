"""What can be named in params.yaml: one class a family, with each setting's type, bounds and searchable range.

Free of torch, so that any command can validate parameters in a fraction of a second. A family is added by writing its
class here, its line in the table below the classes, and what it names: models/networks/NAME.py, or a function in the
table of losses.py, optimizers.py or schedules.py. It then is valid in params.yaml, completed by editors, can be
searched, and is tested by the conformance suite.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """One mapping of params.yaml: frozen, every key required, none unknown, no value silently converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


def setting(
    description: str,
    *,
    search: tuple[float, float] | tuple[float, float, str] | None = None,
    operational: bool = False,
    unsearchable: str | None = None,
    **bounds: Any,
) -> Any:
    """A key of params.yaml.

    search: the range that is sensible to search, (low, high) or (low, high, "log").
    operational: changes how work is done but no result, so it makes no output stale.
    unsearchable: why no search may vary it.
    bounds: pydantic's ge, gt, le, lt.
    """
    extra: dict[str, Any] = {}
    if operational:
        extra["operational"] = True
    if unsearchable is not None:
        extra["unsearchable"] = unsearchable
    if search is not None:
        extra["search"] = {"low": search[0], "high": search[1], "log": len(search) == 3}
    return Field(description=description, json_schema_extra=extra, **bounds)


# --- networks ---------------------------------------------------------------------------------------------------------


class Linear(Settings):
    """f(x, W) = Wx + b on the normalised pixels: each row of W is a template of one class."""


class Mlp(Settings):
    """Fully connected layers with ReLU between them."""

    width: int = setting("units in each hidden layer", ge=1, le=65_536, search=(32, 1024, "log"))
    depth: int = setting("hidden layers", ge=1, le=64, search=(1, 4))


class Convnet(Settings):
    """Stages of 3x3 convolution, batch normalization and ReLU; each stage halves the image and doubles the width."""

    width: int = setting("channels of the first stage", ge=1, le=1024, search=(8, 64, "log"))
    stages: int = setting("stages; the image is halved between them", ge=1, le=6, search=(1, 4))
    first_depth: int = setting("convolutions in the first stage, the costliest", ge=1, le=16, search=(1, 3))
    depth: int = setting("convolutions in each further stage", ge=1, le=16, search=(1, 3))


class Resnet(Settings):
    """A small residual network: pre-activation basic blocks (He 2016, Identity Mappings), for small images."""

    width: int = setting("channels of the first stage", ge=1, le=1024, search=(8, 64, "log"))
    stages: int = setting("stages; the image is halved between them", ge=1, le=6, search=(1, 4))
    depth: int = setting("residual blocks in each stage", ge=1, le=64, search=(1, 3))


NETWORKS: dict[str, type[Settings]] = {"linear": Linear, "mlp": Mlp, "convnet": Convnet, "resnet": Resnet}


# --- losses -----------------------------------------------------------------------------------------------------------


class Softmax(Settings):
    """Cross-entropy of the softmax of the scores."""

    label_smoothing: float = setting("share of each target spread over all classes", ge=0, lt=1, search=(0.0, 0.2))


class Svm(Settings):
    """Multiclass hinge over all margins (Weston & Watkins): sum over j != y of max(0, s_j - s_y + margin)."""

    margin: float = setting("by how much the right score must exceed every other", gt=0, search=(0.1, 10.0, "log"))


LOSSES: dict[str, type[Settings]] = {"softmax": Softmax, "svm": Svm}


# --- optimizers -------------------------------------------------------------------------------------------------------


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


# --- learning-rate schedules ------------------------------------------------------------------------------------------


class Constant(Settings):
    """The rate stays where it is."""


class Step(Settings):
    """The rate is multiplied by `factor` after every `every_epochs` epochs."""

    every_epochs: int = setting("epochs between two drops", ge=1)
    factor: float = setting("what the rate is multiplied by", gt=0, le=1, search=(0.1, 0.9))


class Cosine(Settings):
    """Half a cosine from the rate down to `final_fraction` of it (Loshchilov & Hutter 2017, without restarts)."""

    final_fraction: float = setting("the last rate as a fraction of optimizer.lr", ge=0, le=1)


class OneCycle(Settings):
    """Up from `initial_fraction` to the rate, then down to `final_fraction`, both linearly (Smith & Topin 2018)."""

    rise: float = setting("share of all steps spent rising", gt=0, lt=1, search=(0.1, 0.5))
    initial_fraction: float = setting("the first rate as a fraction of optimizer.lr", ge=0, le=1)
    final_fraction: float = setting("the last rate as a fraction of optimizer.lr", ge=0, le=1)


class Plateau(Settings):
    """The rate is multiplied by `factor` when the validation loss has stopped falling."""

    patience_epochs: int = setting("epochs without a lower validation loss before a drop", ge=0, search=(1, 10))
    factor: float = setting("what the rate is multiplied by", gt=0, lt=1, search=(0.1, 0.9))


SCHEDULES: dict[str, type[Settings]] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "plateau": Plateau,
}


# --- regularization ---------------------------------------------------------------------------------------------------


class Regularization(Settings):
    """Added to the mean data loss: l1 sum |W| + l2 sum W^2 over weights; biases and normalization scales are exempt."""

    l1: float = setting("strength of sum |W|", ge=0, search=(1e-7, 1e-3, "log"))
    l2: float = setting("strength of sum W^2 (SGD's weight decay is twice this)", ge=0, search=(1e-6, 1e-2, "log"))
    dropout: float = setting("share of hidden activations set to zero in training", ge=0, lt=1, search=(0.0, 0.7))
