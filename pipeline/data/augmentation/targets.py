"""Boxes and masks move along with their image, by the same maps."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.augmentation.deformation import displacements_at
from pipeline.data.augmentation.rendering import Maps, sources

if TYPE_CHECKING:
    from torch import Tensor

_EDGE_POINTS = 17  # of a box's edge, whose images are followed
_ITERATIONS = 30  # each shrinks the error by the steepness of the displacements, well below 1


class Boxes(NamedTuple):
    """Boxes as the network sees them."""

    edges: NDArray[np.float64]  # B, 4: left, top, right, bottom, within the image
    visible: NDArray[np.float64]  # B: share of the moved box's area that lies within the image


def moved_boxes(boxes: NDArray[np.float64], maps: Maps, size: int) -> Boxes:
    """Boxes (B, 4) left, top, right, bottom in pixels of the stored images, of side `size`, moved by `maps`.

    Edges: the pixel in the corner is the box 0, 0, 1, 1. The result is the smallest box around the moved one, clipped.
    """
    side = maps.side or size
    left, top, right, bottom = np.asarray(boxes, dtype=np.float64).T[..., None]  # B, 1
    along = np.linspace(0, 1, _EDGE_POINTS)
    xs, ys = left + (right - left) * along, top + (bottom - top) * along
    x = np.concatenate([xs, xs, np.broadcast_to(left, ys.shape), np.broadcast_to(right, ys.shape)], axis=1) - 0.5
    y = np.concatenate([np.broadcast_to(top, xs.shape), np.broadcast_to(bottom, xs.shape), ys, ys], axis=1) - 0.5
    x, y = _seen(x, y, maps, side)
    edges = np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1) + 0.5
    clipped = np.clip(edges, 0, side)
    whole, within = _area(edges), _area(clipped)
    return Boxes(clipped, np.divide(within, whole, out=np.zeros_like(whole), where=whole > 0))


def _seen(
    x: NDArray[np.float64], y: NDArray[np.float64], maps: Maps, side: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where points (B, n) of the stored image are seen."""
    if maps.moves is None:
        return x, y
    inverse = np.linalg.inv(maps.moves.cpu().numpy())

    def undone(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        at = np.einsum("bij,bjn->bin", inverse, np.stack([x, y, np.ones_like(x)], axis=1))
        return at[:, 0] / at[:, 2], at[:, 1] / at[:, 2]

    seen = undone(x, y)
    if maps.bending is not None:  # q, such that map(q) + displacement(q) is the point
        vectors = maps.bending.cpu().numpy()
        for _ in range(_ITERATIONS):
            bent = displacements_at(vectors, *seen, side)
            seen = undone(x - bent[:, 0], y - bent[:, 1])
    return seen


def moved_masks(masks: "Tensor", maps: Maps) -> "Tensor":
    """Masks (B, H, W) of any whole-number or boolean type, moved by `maps`: (B, side, side).

    Of the nearest pixel; 0 outside.
    """
    import torch

    if maps.moves is None:
        return masks
    height, width = masks.shape[1:]
    side = maps.side or height
    x, y = (at.round().long().expand(-1, side, side) for at in sources(maps, side))
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    places = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    found = masks.reshape(len(masks), -1).gather(1, places.reshape(len(masks), -1)).view(places.shape)
    return torch.where(within, found, torch.zeros_like(found))


def _area(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.prod(edges[:, 2:] - edges[:, :2], axis=1)  # type: ignore[no-any-return]
