"""Fully connected networks: W2 max(0, W1 x) and deeper."""

from torch import Tensor, nn

from models.catalogue import Mlp
from models.networks.layers import ACTIVATIONS, initialise
from models.networks.shape import Shape


class Network(nn.Module):
    """`depth` hidden layers of `width` units, activation and dropout after each, and a linear layer of scores."""

    def __init__(self, settings: Mlp, shape: Shape, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = shape.channels * shape.image_size**2
        for _ in range(settings.depth):
            hidden = nn.Linear(inputs, settings.width)
            initialise(hidden.weight, settings.activation, "fan_in")
            nn.init.zeros_(hidden.bias)
            layers += [hidden, ACTIVATIONS[settings.activation](), nn.Dropout(dropout)]
            inputs = settings.width
        self.hidden = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs, shape.outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to scores (N, classes)."""
        return self.fc(self.hidden(images.flatten(1)))  # type: ignore[no-any-return]
