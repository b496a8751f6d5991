"""What several networks are made of: activations by name with their initialisation, pooling, local response."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from models.catalogue.networks import Activation

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),  # the slope of Maas 2013
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
RISING = frozenset(ACTIVATIONS) - {"gelu"}  # these commute with a maximum


def initialise(weight: Tensor, activation: Activation, mode: Literal["fan_in", "fan_out"]) -> None:
    """Fill the weights of a layer that stands before `activation`.

    Saturating activations: Glorot & Bengio 2010, equation 16. The others, of which about one half is zero: He 2015,
    equations 10 and 14; leaky ReLU with its slope (equation 15).
    """
    if activation in ("tanh", "sigmoid"):
        nn.init.xavier_uniform_(weight)
    elif activation == "leaky_relu":
        nn.init.kaiming_normal_(weight, a=0.01, mode=mode, nonlinearity="leaky_relu")
    else:
        nn.init.kaiming_normal_(weight, mode=mode, nonlinearity="relu")


def pooling(kind: Literal["max", "average"], size: int) -> nn.Module:
    """Halves maps, with windows of `size` pixels a side; what lies beyond the edge counts for nothing."""
    padding = (size - 1) // 2
    if kind == "max":
        return nn.MaxPool2d(size, 2, padding)
    return nn.AvgPool2d(size, 2, padding, count_include_pad=False)


class LocalResponse(nn.Module):
    """b_i = a_i / (k + alpha sum of a_j^2)^beta over the 5 channels j around i (AlexNet, Krizhevsky 2012, section 3.3).

    The sum itself counts, as printed: torch's own layer takes alpha / 5 times it, and has no repeatable gradient on a
    GPU.
    """

    def __init__(self, k: float = 2.0, neighbours: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> None:
        super().__init__()
        self.k, self.neighbours, self.alpha, self.beta = k, neighbours, alpha, beta

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, h, w) to the same shape."""
        channels, reach = maps.shape[1], self.neighbours // 2
        squares = nn.functional.pad(maps.square(), (0, 0, 0, 0, reach, reach))  # N, C + 2 reach, h, w
        around = squares[:, :channels]
        for shift in range(1, 2 * reach + 1):
            around = around + squares[:, shift : shift + channels]
        return maps / (self.k + self.alpha * around) ** self.beta


def scaled(width: int, factor: float) -> int:
    """A published width times `factor`: even, since AlexNet's layers come in halves, and at least 2."""
    return max(2, 2 * round(width * factor / 2))
