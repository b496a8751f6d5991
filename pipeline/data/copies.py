"""Augmented images as bytes: for people to look at, and as a training split of images and copies that stay the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.augmentation import Policy, render
from pipeline.data.augmentation.targets import moved_boxes
from pipeline.data.mixing import Mixing, mixed
from pipeline.data.store import INDEX, Rows, Split, write_split

_BLOCK = 1024  # images whose boxes are moved together


def pictures(
    images: Rows,
    policy: Policy,
    epoch: int,
    samples: NDArray[np.int64],
    mixing: Mixing | None = None,
) -> NDArray[np.uint8]:
    """What training makes of `samples` in `epoch`, the normalisation undone, rounded and clipped: (B, H, W, C)."""
    import torch

    batch, maps = policy.augmented(images, epoch, samples)
    inputs = render(torch.from_numpy(batch), maps)  # B, C, H, W
    if mixing is not None:
        partners, masks = mixing.draw(epoch, samples)
        batch, maps = policy.augmented(images, epoch, partners)
        inputs = mixed(inputs, render(torch.from_numpy(batch), maps), masks)
    pixels = inputs.permute(0, 2, 3, 1).numpy()
    pixels *= (255 * policy.std).astype(np.float32)
    pixels += (255 * policy.mean).astype(np.float32)
    return np.clip(np.rint(pixels, out=pixels), 0, 255, out=pixels).astype(np.uint8)


def write_copies(folder: Path, split: Split, policy: Policy, copies: int, classes: Sequence[str]) -> None:
    """Write the images of `split` with `copies` augmented ones of each, as a split, a block in memory at a time.

    The first N rows are the images as evaluation sees them; row (1 + c) * N + i is sample i as `policy` has it in epoch
    c, with the path, label, targets and hash of the image that it was made of, and its box where it is moved to.
    Nothing is mixed in: a row has one label.
    """
    import pyarrow.parquet as pq

    index = pq.read_table(split.folder / INDEX, columns=["path", "sha256"])
    write_split(
        folder,
        _Copies(split, policy, copies),
        np.tile(split.labels, 1 + copies),
        index.column("path").to_pylist() * (1 + copies),
        classes,
        index.column("sha256").to_pylist() * (1 + copies),
        targets=None if split.targets is None else np.tile(split.targets, (1 + copies, 1)),
        boxes=None if split.boxes is None else _moved_boxes(split, policy, copies),
    )


def _moved_boxes(split: Split, policy: Policy, copies: int) -> NDArray[np.float32]:
    """Where the images' boxes are in the images and their copies: ((1 + copies) * N, 4), in pixels, clipped."""
    assert split.boxes is not None
    moved = []
    for block in range(1 + copies):
        for start in range(0, len(split), _BLOCK):
            samples = np.arange(start, min(start + _BLOCK, len(split)))
            _, maps = (
                policy.augmented(split.images, block - 1, samples) if block else policy.plain(split.images, samples)
            )
            moved.append(moved_boxes(split.boxes[samples].astype(np.float64), maps, split.images.shape[1]).edges)
    return np.concatenate(moved).astype(np.float32)


class _Copies:
    """The images and their copies as an array that is computed where it is read."""

    def __init__(self, split: Split, policy: Policy, copies: int) -> None:
        self._split = split
        self._policy = policy
        self.shape = ((1 + copies) * len(split), policy.seen, policy.seen, policy.channels)

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """The images (B, H, W, C) of some rows, which may be of several copies."""
        blocks, samples = np.divmod(rows, len(self._split))
        result = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        for block in np.unique(blocks).tolist():
            chosen = blocks == block
            result[chosen] = self._block(block, samples[chosen])
        return result

    def _block(self, block: int, samples: NDArray[np.int64]) -> NDArray[np.uint8]:
        if block == 0:
            return self._policy.plain(self._split.images, samples)[0]
        return pictures(self._split.images, self._policy, block - 1, samples)
