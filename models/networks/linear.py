"""The linear classifier f(x, W) = Wx + b."""

from torch import Tensor, nn

from models.catalogue import Linear
from models.networks.shape import Shape


class Network(nn.Module):
    """Scores are dot products with one template a class; each row of `fc.weight` can be drawn as an image."""

    def __init__(self, settings: Linear, shape: Shape, dropout: float) -> None:
        """`dropout` has no meaning here: there is no hidden activation."""
        super().__init__()
        self.fc = nn.Linear(shape.channels * shape.image_size**2, shape.outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to scores (N, classes)."""
        return self.fc(images.flatten(1))  # type: ignore[no-any-return]
