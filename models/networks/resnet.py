"""Residual networks: each block adds to what it was given."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.catalogue import Resnet
from models.networks.layers import initialise, scaled
from models.networks.shape import Shape, require_size


class _Variant(NamedTuple):
    blocks: tuple[int, ...]  # in each stage; each stage but the first halves the maps and doubles the width
    width: int  # of the first stage
    bottleneck: bool = False
    projects: bool = True  # shortcuts across two widths: a 1x1 convolution (option B), or none (A: zeros for channels)


# He 2016, Deep Residual Learning for Image Recognition: table 1, and section 4.2 for images of 32 pixels
_VARIANTS = {
    18: _Variant((2, 2, 2, 2), 64),
    34: _Variant((3, 4, 6, 3), 64),
    50: _Variant((3, 4, 6, 3), 64, bottleneck=True),
    20: _Variant((3, 3, 3), 16, projects=False),
    32: _Variant((5, 5, 5), 16, projects=False),
    56: _Variant((9, 9, 9), 16, projects=False),
}
_EXPANSION = 4  # of a bottleneck's last convolution


class Block(nn.Module):
    """relu(shortcut + branch) of maps (N, inputs, h, w); in training the branch may be left out (stochastic depth).

    Stochastic depth (Huang 2016): one draw a batch; the branch survives with chance `survival`, and counts that much
    in evaluation. It is computed in any case, times 0 or 1, so that every parameter has a gradient on every device.
    """

    def __init__(self, inputs: int, width: int, stride: int, variant: _Variant, survival: float) -> None:
        super().__init__()
        if variant.bottleneck:  # as in the paper, the first convolution has the stride
            outputs = width * _EXPANSION
            self.branch = nn.Sequential(
                *_normalized(inputs, width, 1, stride),
                nn.ReLU(inplace=True),
                *_normalized(width, width, 3),
                nn.ReLU(inplace=True),
                *_normalized(width, outputs, 1),
            )
        else:
            outputs = width
            self.branch = nn.Sequential(
                *_normalized(inputs, width, 3, stride), nn.ReLU(inplace=True), *_normalized(width, width, 3)
            )
        self.outputs = outputs
        changes = stride != 1 or inputs != outputs
        self.shortcut = (
            nn.Sequential(*_normalized(inputs, outputs, 1, stride)) if changes and variant.projects else None
        )
        self._stride, self._added = stride, outputs - inputs
        self.survival = survival

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, h, w) to (N, outputs, h / stride, w / stride)."""
        branch = self.branch(x)
        if self.survival < 1:
            survives = torch.empty((), dtype=branch.dtype, device=branch.device)
            branch = branch * (survives.bernoulli_(self.survival) if self.training else self.survival)
        return (self._shortcut(x) + branch).relu_()

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.shortcut is not None:
            return self.shortcut(x)  # type: ignore[no-any-return]
        if self._stride != 1:
            x = x[:, :, :: self._stride, :: self._stride]
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self._added)) if self._added else x


class Network(nn.Module):
    """A first convolution, stages of blocks, the mean over the image, scores; dropout, which the paper lacks, before.

    form imagenet: 7x7 with stride 2 and overlapping pooling first. small: 3x3, and no pooling.
    """

    def __init__(self, settings: Resnet, shape: Shape, dropout: float) -> None:
        super().__init__()
        variant = _VARIANTS[settings.depth]
        halvings = len(variant.blocks) - 1 + (2 if settings.form == "imagenet" else 0)
        remedy = "use larger images, or form: small" if settings.form == "imagenet" else "use larger images"
        require_size(shape, halvings, f"resnet {settings.depth} in the form {settings.form}", remedy)
        inputs = scaled(variant.width, settings.width_factor)
        if settings.form == "imagenet":
            self.stem = nn.Sequential(
                *_normalized(shape.channels, inputs, 7, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)
            )
        else:
            self.stem = nn.Sequential(*_normalized(shape.channels, inputs, 3), nn.ReLU(inplace=True))
        blocks: list[Block] = []
        total = sum(variant.blocks)
        for stage, count in enumerate(variant.blocks):
            width = scaled(variant.width * 2**stage, settings.width_factor)
            for position in range(count):
                # Huang 2016, equation 4: the chance falls linearly, from 1 at the input
                survival = 1 - (len(blocks) + 1) / total * settings.stochastic_depth
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(Block(inputs, width, stride, variant, survival))
                inputs = blocks[-1].outputs
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, shape.outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                initialise(module.weight, "relu", "fan_out")  # He 2015, to which the paper refers

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to scores (N, classes)."""
        maps = self.blocks(self.stem(images))  # N, width, h, w
        return self.fc(self.dropout(maps.mean((2, 3))))  # type: ignore[no-any-return]


def _normalized(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
    """A convolution without bias, which batch normalization has."""
    convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]
