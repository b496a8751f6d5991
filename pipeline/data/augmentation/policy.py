"""Augmentation of sample i in epoch e: a pure function of (seed, e, i), composed before a pixel is touched.

Whatever moves pixels composes into one matrix an image and one resampling (or, for whole-pixel moves, an exact copy);
whatever changes colours into one C x (C+1) matrix, normalisation included; whatever hides into boxes.
The numbers are drawn in NumPy on the host, so that they are the same on every device; every tensor operation is
elementwise over images, so that an image does not depend on the batch it is in.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.data.augmentation import automatic, colour, deformation, filters, geometry, patches
from pipeline.data.augmentation.filters import Noise
from pipeline.data.augmentation.geometry import Frame
from pipeline.data.augmentation.patches import Clutter, Erased
from pipeline.data.augmentation.rendering import Maps
from pipeline.data.augmentation.statistics import Statistics
from pipeline.data.augmentation.strengths import Array, Numbers, Variants
from pipeline.data.store import Rows
from pipeline.params import Augment

if TYPE_CHECKING:
    from torch import Tensor

Layers = tuple[Numbers, ...]  # the policy's own numbers, then those of the operations that are chosen


class Policy:
    """One image set's augmentation and normalisation: draws the maps of any samples of any epoch."""

    def __init__(
        self,
        settings: Augment,
        statistics: Statistics,
        image_size: int,
        seed: int,
        variants: Variants | None = None,
    ) -> None:
        """variants: what single classes and images have instead of `settings`; None: nothing.

        Raises Mistake where the images are smaller than augment.crop_size.
        """
        self._settings = settings
        self._variants = variants or Variants((settings,))
        self._statistics = statistics
        self._frame = Frame(image_size, settings.seen(image_size))
        self._seed = seed
        self.channels = len(statistics.mean)
        self.mean = self._of_statistics(statistics.mean, 0.0)  # C: what is subtracted from pixels in [0, 1]
        std = np.array(statistics.std)  # a channel that never changes is left at its scale
        self.std = self._of_statistics(np.where(std > 1e-8, std, 1.0), 1.0)  # C: what they are then divided by
        self._normalisation = colour.affine(np.diag(1 / self.std)[None], (-self.mean / self.std)[None])[0]  # C+1, C+1
        self._to_unit = np.diag([1 / 255.0] * self.channels + [1.0])
        self._plain_colour = (self._normalisation @ self._to_unit)[None, : self.channels]  # 1, C, C+1

    @property
    def seen(self) -> int:
        """The side of what the network sees, in pixels."""
        return self._frame.seen

    def after_it(self) -> "Policy":
        """For pictures that this policy has made already: nothing but its normalisation."""
        return Policy(self._settings.off(), self._statistics, self._frame.seen, self._seed)

    def _of_statistics(self, fitted: ArrayLike, otherwise: float) -> Array:
        normalizes = self._settings.normalization == "channel"
        return np.array(fitted) if normalizes else np.full(self.channels, otherwise)

    # --- numbers to maps ----------------------------------------------------------------------------------------------

    def geometry(self, epoch: int, samples: NDArray[np.int64]) -> Array:
        """Matrices (B, 3, 3) from output to input pixels: the image is warped, cropped, then mirrored."""
        return self._geometry(self._layers(epoch, samples))

    def colour(self, epoch: int, samples: NDArray[np.int64]) -> Array:
        """Matrices (B, C, C+1) from pixels to the network's inputs."""
        return self._colour(self._layers(epoch, samples))

    def _layers(self, epoch: int, samples: NDArray[np.int64]) -> Layers:
        """The policy's own numbers, then those of each operation that is chosen for the samples."""
        numbers, settings = Numbers(self._seed, epoch, samples, self._variants), self._settings
        if settings.automatic == "none" or not numbers.on("automatic_magnitude"):
            return (numbers,)
        return (numbers, *automatic.operations(numbers, settings.automatic, settings.automatic_operations))

    def _geometry(self, layers: Layers) -> Array:
        own, *operations = layers
        matrices = geometry.maps(own, self._frame)
        for operation in operations:
            matrices = geometry.warps(operation, self._frame) @ matrices
        return matrices

    def _colour(self, layers: Layers) -> Array:
        maps = np.tile(self._to_unit, (len(layers[0]), 1, 1))
        for layer in layers:
            maps = colour.composed(layer, self._statistics, maps)
        return cast(Array, (self._normalisation @ maps)[:, : self.channels])

    def _boxes(self, layers: Layers) -> "tuple[Tensor | None, Erased | None]":
        """What is blanked, and what is filled with noise."""
        import torch

        own, side = layers[0], self._frame.seen
        blank = [patches.cutout(own, side)] if own.on("cutout_size") else []
        rectangles = [patches.erased(layer, side) for layer in layers if layer.on("erasing")]
        noisy = None
        if rectangles and self._settings.erasing_fill == "noise":
            noisy = Erased(
                boxes=torch.from_numpy(np.stack(rectangles, axis=1)),
                keys=torch.from_numpy(own.keys("erasing pixels")),
                scale=torch.from_numpy(1 / self.std)[None].float(),
                shift=torch.from_numpy(-self.mean / self.std)[None].float(),
            )
        else:
            blank += rectangles
        return torch.from_numpy(np.stack(blank, axis=1)) if blank else None, noisy

    def _blur(self, layers: Layers) -> "Tensor | None":
        import torch

        deviation = _deviation("blur", layers)
        if deviation is None:
            return None
        chosen = automatic.GREATEST["blur"] * self._variants.largest("automatic_magnitude")
        widest = np.sqrt(self._variants.largest("blur") ** 2 + (len(layers) - 1) * chosen**2)  # of any image of the set
        return torch.from_numpy(filters.blur_weights(deviation, float(widest))).float()

    def _noise(self, layers: Layers) -> Noise | None:
        import torch

        deviation = _deviation("noise", layers)
        if deviation is None:
            return None
        return Noise(torch.from_numpy(255 * deviation).float(), torch.from_numpy(layers[0].keys("noise pixels")))

    def _clutter(self, own: Numbers) -> Clutter | None:
        if not own.on("distractors") and not own.on("border"):
            return None
        return patches.clutter(own, self._frame.seen, 1 / self.std, -self.mean / self.std)

    # --- batches ------------------------------------------------------------------------------------------------------

    def augmented(self, images: Rows, epoch: int, samples: NDArray[np.int64]) -> tuple[NDArray[np.uint8], Maps]:
        """Host's part for training: images (N, H, W, C) to the batch's uint8 (B, H, W, C) and what is left to do."""
        import torch

        layers = self._layers(epoch, samples)
        own = layers[0]
        matrices = self._geometry(layers)
        whole = np.ones(len(samples), dtype=np.bool_)
        if _any_on(geometry.FRACTIONAL, layers):
            whole = geometry.are_whole(matrices)
        bending = None
        if own.on("elastic"):
            bending = torch.from_numpy(deformation.vectors(own, self._frame.seen))
            whole &= own.strength("elastic") == 0
        batch = self._copied(images[samples], matrices, whole)
        jitters = _any_on(colour.COLOURS, layers)
        boxes, erased = self._boxes(layers)
        moves = torch.from_numpy(matrices)
        return batch, Maps(
            geometry=None if whole.all() else moves,
            colour=torch.from_numpy(self._colour(layers) if jitters else self._plain_colour).float(),
            mixes_channels=self.channels == 3 and _any_on(colour.MIXING, layers),
            boxes=boxes,
            moves=moves,
            copied=torch.from_numpy(whole) if whole.any() and not whole.all() else None,
            side=self._frame.seen,
            projective=own.on("perspective"),
            upright=bending is None and not _any_on(geometry.TURNING, layers),
            bending=bending,
            blur=self._blur(layers),
            noise=self._noise(layers),
            clutter=self._clutter(own),
            erased=erased,
        )

    def plain(self, images: Rows, samples: NDArray[np.int64]) -> tuple[NDArray[np.uint8], Maps]:
        """Host's part for evaluation: the centre of augment.crop_size, and normalisation."""
        import torch

        matrices = geometry.centre_crop(len(samples), self._frame)
        batch = self._copied(images[samples], matrices, np.ones(len(samples), dtype=np.bool_))
        return batch, Maps(
            geometry=None,
            colour=torch.from_numpy(self._plain_colour).float(),
            mixes_channels=False,
            boxes=None,
            moves=torch.from_numpy(matrices),
            side=self._frame.seen,
        )

    def _copied(self, batch: NDArray[np.uint8], matrices: Array, whole: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The batch with those images copied that move by `whole` pixels: they alone, or into the corner of others."""
        side = self._frame.seen
        if whole.all():
            return geometry.copied(batch, matrices, side)
        if whole.any():
            batch[whole, :side, :side] = geometry.copied(batch[whole], matrices[whole], side)
        return batch


def _any_on(keys: Iterable[str], layers: Layers) -> bool:
    """Whether any image of the set, in this batch or not, has one of these transforms."""
    return any(layer.on(key) for layer in layers for key in keys)


def _deviation(key: str, layers: Layers) -> Array | None:
    """Of two blurs, or two noises, one after the other: their variances add. (B,), None where there is none."""
    parts = [layer.part(key, key) for layer in layers if layer.on(key)]
    return np.sqrt(sum((part**2 for part in parts), np.zeros(len(layers[0])))) if parts else None
