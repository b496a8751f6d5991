"""VGG: 3x3 convolutions alone, in five stages."""

from torch import Tensor, nn

from models.catalogue import Vgg
from models.networks.layers import initialise, scaled
from models.networks.shape import Shape, require_size

# Simonyan & Zisserman 2015, table 1, columns A, B, D and E: convolutions in each stage
_DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)
_HIDDEN = 4096


class Network(nn.Module):
    """Convolutions with ReLU, max-pooled by 2 after each stage, and three fully connected layers.

    form small: the last maps, 1x1 for images of 32 pixels, are averaged, and one linear layer makes scores of them.
    """

    def __init__(self, settings: Vgg, shape: Shape, dropout: float) -> None:
        super().__init__()
        require_size(shape, len(_WIDTHS), f"vgg {settings.depth}", "use larger images, or another network")
        layers: list[nn.Module] = []
        inputs = shape.channels
        for depth, published in zip(_DEPTHS[settings.depth], _WIDTHS, strict=True):
            width = scaled(published, settings.width_factor)
            for _ in range(depth):
                layers.append(nn.Conv2d(inputs, width, 3, padding=1))
                if settings.batch_norm:  # Ioffe & Szegedy 2015; the biases stay, as in the usual counts of weights
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU(inplace=True))
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self._averages = settings.form == "small"
        if self._averages:
            self.hidden = nn.Sequential(nn.Dropout(dropout))
        else:
            inputs *= (shape.image_size // 2 ** len(_WIDTHS)) ** 2
            width = scaled(_HIDDEN, settings.width_factor)
            self.hidden = nn.Sequential(
                nn.Linear(inputs, width),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(width, width),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
            )
            inputs = width
        self.fc = nn.Linear(inputs, shape.outputs)
        self._initialise()

    def _initialise(self) -> None:
        """Section 3.1: Glorot & Bengio 2010, by which the deep ones need no training of shallow ones before; biases 0.

        The small form has no paper: He 2015.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                if self._averages:
                    initialise(layer.weight, "relu", "fan_in")
                else:
                    nn.init.xavier_uniform_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to scores (N, classes)."""
        maps = self.features(images)  # N, width, h, w
        vectors = maps.mean((2, 3)) if self._averages else maps.flatten(1)
        return self.fc(self.hidden(vectors))  # type: ignore[no-any-return]
