"""What keeps weights small, or activations few; the code is models/regularizers.py."""

from models.catalogue.settings import Settings, setting


class Regularization(Settings):
    """Added to the mean data loss: l1 sum |W| + l2 sum W^2 + elastic_net sum (beta W^2 + |W|) over weights;
    beside it the ball that each unit's weights are kept in, and dropout."""

    l1: float = setting("strength of sum |W|", ge=0, search=(1e-7, 1e-3, "log"))
    l2: float = setting("strength of sum W^2 (SGD's weight decay is twice this)", ge=0, search=(1e-6, 1e-2, "log"))
    elastic_net: float = setting("strength of sum (beta W^2 + |W|)", ge=0, search=(1e-7, 1e-3, "log"))
    elastic_net_beta: float = setting("its beta", ge=0, le=1e6, search=(0.1, 100.0, "log"))
    penalize_all: bool = setting("penalize biases and normalization's scales too")
    max_norm: float | None = setting(
        "largest norm of a unit's incoming weights, to which each step's result is projected; null: any",
        gt=0,
        search=(0.5, 8.0, "log"),
    )
    dropout: float | None = setting(
        "share of hidden activations set to zero in training; null: the network's own", ge=0, lt=1, search=(0.0, 0.7)
    )
