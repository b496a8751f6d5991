"""What keeps weights small, or activations few; the code is models/regularizers.py."""

from models.catalogue.settings import Settings, setting


class Regularization(Settings):
    """Added to the mean data loss: l1 sum |W| + l2 sum W^2 over weights; biases and normalization scales are exempt."""

    l1: float = setting("strength of sum |W|", ge=0, search=(1e-7, 1e-3, "log"))
    l2: float = setting("strength of sum W^2 (SGD's weight decay is twice this)", ge=0, search=(1e-6, 1e-2, "log"))
    dropout: float | None = setting(
        "share of hidden activations set to zero in training; null: the network's own", ge=0, lt=1, search=(0.0, 0.7)
    )
