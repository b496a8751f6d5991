"""A plain convolutional network in stages."""

from torch import Tensor, nn

from models.catalogue import Convnet
from models.networks.shape import Shape, require_size


class Network(nn.Module):
    """`stages` of 3x3 convolutions, each with batch normalization and ReLU, max-pooled by 2 between stages.

    Widths double from stage to stage; the last map is averaged over the image, so any image size from
    2**(stages - 1) works. Dropout stands before the linear layer of scores. The pooling stands between a convolution
    and its normalization, which then has a quarter of the work; maximum and ReLU commute.
    """

    def __init__(self, settings: Convnet, shape: Shape, dropout: float) -> None:
        super().__init__()
        require_size(shape, settings.stages - 1, f"convnet with {settings.stages} stages")
        layers: list[nn.Module] = []
        inputs = shape.channels
        for stage in range(settings.stages):
            width = settings.width * 2**stage
            depth = settings.depth if stage > 0 else settings.first_depth
            for position in range(depth):
                convolution = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")  # He 2015
                layers.append(convolution)
                if position == depth - 1 and stage < settings.stages - 1:
                    layers.append(nn.MaxPool2d(2))
                layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                inputs = width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, shape.outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to scores (N, classes)."""
        maps = self.features(images)  # N, width, h, w
        return self.fc(self.dropout(maps.mean((2, 3))))  # type: ignore[no-any-return]
