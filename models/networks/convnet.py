"""A plain convolutional network in stages."""

from torch import Tensor, nn

from models.catalogue import Convnet
from models.networks.shape import Shape, require_size


class Network(nn.Module):
    """`stages` of `depth` times (3x3 convolution, batch normalization, ReLU), max-pooled by 2 between stages.

    Widths double from stage to stage; the last map is averaged over the image, so any image size from
    2**(stages - 1) works. Dropout stands before the linear layer of scores.
    """

    def __init__(self, settings: Convnet, shape: Shape, dropout: float) -> None:
        super().__init__()
        require_size(shape, settings.stages - 1, f"convnet with {settings.stages} stages")
        layers: list[nn.Module] = []
        inputs = shape.channels
        for stage in range(settings.stages):
            width = settings.width * 2**stage
            if stage > 0:
                layers.append(nn.MaxPool2d(2))
            for _ in range(settings.depth):
                convolution = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")  # He 2015
                layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                inputs = width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, shape.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to scores (N, classes)."""
        maps = self.features(images)  # N, width, h, w
        return self.fc(self.dropout(maps.mean((2, 3))))  # type: ignore[no-any-return]
