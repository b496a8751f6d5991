"""Nearest neighbour and k-NN: the training images are the model (Fix & Hodges 1951; Cover & Hart 1967)."""

from typing import Any

import torch
from torch import Tensor, nn

from models.catalogue import Neighbours
from models.nearest import plain
from models.networks.shape import Shape

# What a tie's winner has more than a vote for each of its neighbours: enough to stay ahead in float32, too little to
# pass a class of another number of votes.
TIE_BREAK = 0.01


class Network(nn.Module):
    """Scores are log-probabilities: shares of the votes of the k nearest, with one vote more spread over all classes.

    That vote leaves no probability at zero, and so no loss infinite (Laplace's smoothing, of weight 1 / classes). The
    most voted class has the highest score; of a tie the class whose neighbours are nearer in sum, then the smaller
    label. Of equally distant images the one that was memorised first is a neighbour.
    """

    images: Tensor  # N, D: the memorised bytes, by channel, row and column
    labels: Tensor  # N

    def __init__(self, settings: Neighbours, shape: Shape, dropout: float) -> None:
        """`dropout` has no meaning here: nothing is learned."""
        super().__init__()
        self.k, self.distance = settings.k, settings.distance
        self._classes = shape.outputs
        self.register_buffer("images", torch.empty(0, shape.channels * shape.image_size**2, dtype=torch.uint8))
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64))

    def reserve(self, count: int) -> None:
        """Room for so many images, of zeros."""
        self.images = self.images.new_zeros(count, self.images.shape[1])
        self.labels = self.labels.new_zeros(count)

    def memorise(self, images: Tensor, labels: Tensor, first: int) -> None:
        """Put raw images (B, C, H, W) and labels (B) into the reserved places from `first` on."""
        places = slice(first, first + len(labels))
        self.images[places] = as_bytes(images)
        self.labels[places] = labels

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels in [0, 255], (N, C, H, W) of any type, to scores (N, classes)."""
        distances, indices = self.nearest(images, self.k)
        far = distances.double()
        return votes_to_scores(self.labels[indices], far if self.distance == "l1" else far.sqrt(), self._classes)

    def nearest(self, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances (of L2 squared) and indices (N, k) of the k nearest, by (distance, index).

        By the compiled search where that is possible: on a CPU, and not while the network is exported.
        """
        queries = as_bytes(images)
        if queries.device.type != "cpu" or torch.compiler.is_compiling():
            return plain.nearest(queries, self.images, k, self.distance)
        from models.nearest import search

        distances, indices = search.nearest(queries.numpy(), self.images.numpy(), k, self.distance)
        return torch.from_numpy(distances), torch.from_numpy(indices)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """The number of images is not known before: take the room that they need."""
        if (labels := state_dict.get(f"{prefix}labels")) is not None and len(labels) != len(self.labels):
            self.reserve(len(labels))
        super()._load_from_state_dict(state_dict, prefix, *others)


def as_bytes(images: Tensor) -> Tensor:
    """Raw pixels (N, C, H, W) of any type as rows (N, D) of bytes."""
    if images.dtype != torch.uint8:
        images = images.round().clamp(0, 255).to(torch.uint8)
    return images.contiguous().flatten(1)


def votes_to_scores(labels: Tensor, distances: Tensor, classes: int) -> Tensor:
    """Log-probabilities (N, classes) in float32 from the neighbours' labels and distances (N, k), nearest first.

    Distances are summed in float64 and in order, so that equal neighbours have equal sums.
    """
    nothing = torch.zeros(labels.shape[0], classes, dtype=torch.float64, device=labels.device)
    votes = nothing.scatter_add(1, labels, torch.ones_like(distances))
    sums = nothing.scatter_add(1, labels, distances)
    tied = votes == votes.amax(1, keepdim=True)
    sums = torch.where(tied, sums, torch.inf)
    nearest = sums == sums.amin(1, keepdim=True)
    winner = nearest & (nearest.cumsum(1) == 1)  # the first, which is the smallest label
    ahead = TIE_BREAK * (winner & (tied.sum(1, keepdim=True) > 1))
    shares = votes + ahead + 1 / classes
    return (shares / shares.sum(1, keepdim=True)).log().float()
