"""A sheet of images with their nearest memorised ones: what a classifier by neighbours answers by."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.pictures import OUTLINE, Cell, grid_sheet

SHOWN = 12  # images: as many as can be looked through
_FEWEST, _MOST = 6, 10  # neighbours of each: those that vote, and some more
_LONGEST = 14  # letters of a class's name
_RIGHT = (0, 128, 94)  # darker than Okabe & Ito's bluish green, told from the red also by the colour-blind
_FADED = 0.4  # of their contrast: neighbours that do not vote


def neighbours_sheet(network: Any, images: NDArray[np.uint8], labels: NDArray[np.int64], names: Sequence[str]) -> bytes:
    """A PNG: images (N, H, W, C), as the network sees them, a row each, with the nearest to the right.

    Neighbours of the image's own class are green, others red; their distances stand below. Those beyond the k that
    vote are pale. labels (N): the images' classes, as positions in `names`.
    """
    import torch

    queries = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        predicted = network(queries).argmax(1).tolist()
        shown = min(max(network.k, _FEWEST), _MOST, len(network.labels))
        distances, indices = network.nearest(queries, shown)
    if network.distance == "l2":
        distances = distances.double().sqrt()
    _, height, width, channels = images.shape
    short = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names]
    rows = []
    for place, actual in enumerate(labels.tolist()):
        right = predicted[place] == actual
        said = f"{'✓' if right else '✗'} says {short[predicted[place]]}"
        cells = [Cell(f"is {short[actual]}", images[place][None])]
        for rank, (far, index) in enumerate(zip(distances[place].tolist(), indices[place].tolist(), strict=True)):
            label = int(network.labels[index])
            pixels = network.images[index].reshape(channels, height, width).permute(1, 2, 0).cpu().numpy()
            ink = _RIGHT if label == actual else OUTLINE
            if rank >= network.k:
                pixels, ink = _pale(pixels), tuple(_pale(np.array(ink)).tolist())
            cells.append(Cell(f"{short[label]} at {far:,.0f}", pixels[None], ink=ink))
        rows.append((said, cells))
    metric = "L1" if network.distance == "l1" else "L2"
    votes = "votes" if network.k == 1 else f"{network.k} vote"
    return grid_sheet([f"{metric}, {votes}", *(str(rank) for rank in range(1, shown + 1))], rows, target_side=64)


def _pale(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(255 - _FADED * (255 - pixels.astype(np.float64))).astype(np.uint8)
