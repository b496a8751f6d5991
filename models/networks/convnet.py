"""A plain convolutional network in stages."""

from torch import Tensor, nn

from models.catalogue import Convnet
from models.networks.layers import ACTIVATIONS, RISING, LocalResponse, initialise, pooling
from models.networks.shape import Shape, require_size


class Network(nn.Module):
    """`stages` of 3x3 convolutions, each normalized and activated; pooling halves the maps between stages.

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
            depth = settings.depth if stage > 0 else settings.first_depth
            for position in range(depth):
                halves = position == depth - 1 and stage < settings.stages - 1
                layers += _layer(settings, inputs, width, halves)
                inputs = width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, shape.outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to scores (N, classes)."""
        maps = self.features(images)  # N, width, h, w
        return self.fc(self.dropout(maps.mean((2, 3))))  # type: ignore[no-any-return]


def _layer(settings: Convnet, inputs: int, width: int, halves: bool) -> list[nn.Module]:
    """One convolution and what follows it.

    Pooling comes last; but a maximum and a rising activation commute, so it then stands right behind the convolution,
    where normalization and activation have a quarter of the work. Local response follows the activation (AlexNet).
    """
    convolution = nn.Conv2d(inputs, width, 3, padding=1, bias=settings.normalization != "batch")
    initialise(convolution.weight, settings.activation, "fan_out")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    pool = [pooling(settings.pooling, settings.pool_size)] if halves else []
    after: list[nn.Module] = [ACTIVATIONS[settings.activation]()]
    if settings.normalization == "batch":
        after = [nn.BatchNorm2d(width), *after]
    elif settings.normalization == "local_response":
        return [convolution, *after, LocalResponse(), *pool]
    if settings.pooling == "max" and settings.activation in RISING:
        return [convolution, *pool, *after]
    return [convolution, *after, *pool]
