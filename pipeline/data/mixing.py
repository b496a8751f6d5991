"""MixUp (Zhang 2018) and CutMix (Yun 2019): which other image is mixed into sample i of epoch e, and how.

A pure function of (seed, e, i), like the rest of augmentation: the partner is drawn from the whole training split
rather than from the batch, and is itself augmented by its own numbers, so an image does not depend on the batch that
it is in. Both are x~ = M x_A + (1 - M) x_B with a mask M: in MixUp one number for all pixels, in CutMix 0 within the
box that is pasted and 1 around it. The target is mixed by the mean of M.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import seeding
from pipeline.params import Augment

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Drawn(NamedTuple):
    """What is mixed into each image of a batch."""

    partners: NDArray[np.int64]  # B: positions in the training split
    masks: "Masks"


class Masks(NamedTuple):
    """How much of itself each image of a batch keeps, as tensors on one device."""

    around: "Tensor"  # B float32: M outside of the box
    boxes: "Tensor"  # B, 4 int64: top, bottom, left, right of where M is 0; all 0: nowhere
    shares: "Tensor"  # B float32: the mean of M, the weight of the image's own label

    def to(self, device: "torch.device") -> "Masks":
        """These masks on `device`."""
        return Masks(*(tensor.to(device) for tensor in self))


def mixing(settings: Augment, image_size: int, images: int, seed: int) -> "Mixing | None":
    """What `settings` ask for; None where nothing is mixed.

    image_size: of the pictures that are mixed, in pixels a side. images: in the training split.
    """
    on = settings.mixup > 0 or settings.cutmix > 0
    return Mixing(settings, image_size, images, seed) if on else None


class Mixing:
    """Draws partners and masks for any samples of any epoch. With both strengths above 0, a coin chooses for each."""

    def __init__(self, settings: Augment, image_size: int, images: int, seed: int) -> None:
        """As `mixing` has them."""
        self._settings = settings
        self._size = image_size
        self._images = images
        self._seed = seed

    def draw(self, epoch: int, samples: NDArray[np.int64]) -> Drawn:
        """The partners, each image of the split being equally likely, and the masks of `samples`."""
        import torch

        cut = self._is_cut(epoch, samples)
        around = np.ones(len(samples))
        boxes = np.zeros((len(samples), 4), dtype=np.int64)
        around[~cut] = self._lambdas("mixup", self._settings.mixup, epoch, samples[~cut])
        boxes[cut] = self._boxes(epoch, samples[cut])
        areas = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        shares = np.where(cut, 1 - areas / self._size**2, around)  # of CutMix: what was really pasted, after clipping
        return Drawn(
            partners=self.partners(epoch, samples),
            masks=Masks(torch.from_numpy(around).float(), torch.from_numpy(boxes), torch.from_numpy(shares).float()),
        )

    def partners(self, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """What is mixed into `samples`: (B,) positions in the training split."""
        draws = seeding.uniform(self._seed, "partner", epoch, samples, 1)[:, 0]
        return np.floor(draws * self._images).astype(np.int64)

    def _is_cut(self, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each sample gets CutMix, (B,): the others get MixUp."""
        if self._settings.mixup > 0 and self._settings.cutmix > 0:
            return seeding.uniform(self._seed, "mixing", epoch, samples, 1)[:, 0] < 0.5
        return np.full(len(samples), self._settings.cutmix > 0)

    def _boxes(self, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, 4): squares of the area 1 - lambda about uniform centres, clipped to the image (Yun 2019, eq. 2)."""
        lambdas = self._lambdas("cutmix", self._settings.cutmix, epoch, samples)
        sides = np.floor(self._size * np.sqrt(1 - lambdas)).astype(np.int64)
        centres = seeding.uniform(self._seed, "cutmix box", epoch, samples, 2) * self._size
        starts = np.floor(centres).astype(np.int64) - sides[:, None] // 2  # B, 2
        ends = starts + sides[:, None]
        boxes = np.stack([starts[:, 0], ends[:, 0], starts[:, 1], ends[:, 1]], axis=1)
        return np.asarray(np.clip(boxes, 0, self._size))

    def _lambdas(self, purpose: str, alpha: float, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Beta(alpha, alpha), (B,), by inverting its distribution: one number each, no library's generator."""
        if not len(samples):
            return np.zeros(0)
        from scipy.special import betaincinv  # 0.2 s, and only where something is mixed

        draws = seeding.uniform(self._seed, purpose, epoch, samples, 1)[:, 0]
        return np.asarray(betaincinv(alpha, alpha, draws), dtype=np.float64)


def mixed(images: "Tensor", partners: "Tensor", masks: Masks) -> "Tensor":
    """Device's part: x~ = M x_A + (1 - M) x_B on rendered inputs (B, C, H, W). Overwrites both."""
    import torch

    batch, channels, height, width = images.shape
    # Whole rows at once, as they lie in channels-last memory: an inner loop over C alone takes several times as long.
    own, other = (pixels.permute(0, 2, 3, 1).reshape(batch, height, -1) for pixels in (images, partners))
    top, bottom, left, right = (masks.boxes[:, side, None] for side in range(4))
    row = torch.arange(height, device=images.device)
    column = torch.arange(width, device=images.device).repeat_interleave(channels)
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)  # B, H; B, W * C
    around = masks.around[:, None, None]
    mask = around - (around * rows.float()[:, :, None]) * columns.float()[:, None, :]  # B, H, W * C: in the box 0
    # Multiplied, then added: a fused operation's rounding depends on where in a vector register a pixel falls.
    result = own.mul_(mask).add_(other.mul_(mask.neg_().add_(1.0)))
    return result.view(batch, height, width, channels).permute(0, 3, 1, 2)
