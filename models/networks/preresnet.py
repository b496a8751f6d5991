"""A residual network of any size, for small images, with activation before convolution."""

from torch import Tensor, nn

from models.catalogue import Preresnet
from models.networks.shape import Shape, require_size


class Block(nn.Module):
    """Pre-activation basic block: x + conv(relu(bn(conv(relu(bn(x)))))) (He 2016, Identity Mappings, figure 4e).

    Where the size or the width changes, the shortcut is a strided 1x1 convolution of the activated input.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or inputs != width
        self.shortcut = nn.Conv2d(inputs, width, 1, stride=stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, h, w) to (N, width, h / stride, w / stride)."""
        activated = self.norm1(x).relu_()
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.conv2(self.norm2(self.conv1(activated)).relu_())  # type: ignore[no-any-return]


class Network(nn.Module):
    """A 3x3 convolution, `stages` of `depth` blocks (halving the image and doubling the width), mean, scores."""

    def __init__(self, settings: Preresnet, shape: Shape, dropout: float) -> None:
        super().__init__()
        require_size(shape, settings.stages - 1, f"preresnet with {settings.stages} stages")
        self.stem = nn.Conv2d(shape.channels, settings.width, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        inputs = settings.width
        for stage in range(settings.stages):
            width = settings.width * 2**stage
            for position in range(settings.depth):
                blocks.append(Block(inputs, width, stride=2 if stage > 0 and position == 0 else 1))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(inputs)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, shape.outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # He 2015

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to scores (N, classes)."""
        maps = self.norm(self.blocks(self.stem(images))).relu_()  # N, width, h, w
        return self.fc(self.dropout(maps.mean((2, 3))))  # type: ignore[no-any-return]
