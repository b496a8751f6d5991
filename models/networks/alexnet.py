"""AlexNet: five convolutions and three fully connected layers, in both of its published versions."""

from typing import NamedTuple

from torch import Tensor, nn

from models.catalogue import Alexnet
from models.networks.layers import LocalResponse, initialise, scaled
from models.networks.shape import Shape, require_pixels


class _Version(NamedTuple):
    widths: tuple[int, int, int, int, int]
    towers: int  # into which convolutions 2, 4 and 5 are split
    normalizes: bool  # local response after the first two
    hidden: int = 4096


_VERSIONS = {
    # Krizhevsky 2012, section 3.5: two GPUs, which meet in the third convolution and in the fully connected layers.
    "two_towers_2012": _Version((96, 256, 384, 384, 256), towers=2, normalizes=True),
    # Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, section 5: one GPU's widths.
    "one_tower_2014": _Version((64, 192, 384, 256, 256), towers=1, normalizes=False),
}
_SMALLEST_MAP = 15  # of the first convolution: three pools of 3x3 with stride 2 make 7, 3, 1 of it


class Network(nn.Module):
    """Convolutions of 11x11 (stride 4), 5x5 and three of 3x3, overlapping pooling, dropout after each hidden layer.

    form small: the first convolution is 5x5 with stride 1, all else stays.
    """

    def __init__(self, settings: Alexnet, shape: Shape, dropout: float) -> None:
        super().__init__()
        version = _VERSIONS[settings.version]
        small = settings.form == "small"
        if small:
            require_pixels(shape, _SMALLEST_MAP, "alexnet's small form", "use larger images")
        else:  # (63 + 2 * 2 - 11) / 4 + 1 = 15
            require_pixels(shape, 63, "alexnet's imagenet form", "use larger images, or form: small")
        widths = [scaled(width, settings.width_factor) for width in version.widths]
        hidden = scaled(version.hidden, settings.width_factor)
        towers = version.towers
        side = shape.image_size if small else (shape.image_size + 4 - 11) // 4 + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1

        def response() -> list[nn.Module]:
            return [LocalResponse()] if version.normalizes else []

        self.features = nn.Sequential(
            nn.Conv2d(shape.channels, widths[0], 5, padding=2)
            if small
            else nn.Conv2d(shape.channels, widths[0], 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            *response(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(widths[0], widths[1], 5, padding=2, groups=towers),
            nn.ReLU(inplace=True),
            *response(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(widths[1], widths[2], 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(widths[2], widths[3], 3, padding=1, groups=towers),
            nn.ReLU(inplace=True),
            nn.Conv2d(widths[3], widths[4], 3, padding=1, groups=towers),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.hidden = nn.Sequential(
            nn.Linear(widths[4] * side**2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.fc = nn.Linear(hidden, shape.outputs)
        self._initialise(small)

    def _initialise(self, small: bool) -> None:
        """Section 5 of the paper of 2012; that of 2014 says nothing else. The small form, which has none: He 2015."""
        layers = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        for number, layer in enumerate(layers, 1):
            assert layer.bias is not None
            if small:
                initialise(layer.weight, "relu", "fan_in")
                nn.init.zeros_(layer.bias)
            else:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.constant_(layer.bias, float(number in (2, 4, 5, 6, 7)))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to scores (N, classes)."""
        return self.fc(self.hidden(self.features(images).flatten(1)))  # type: ignore[no-any-return]
