"""Augmentation of sample i in epoch e: a pure function of (seed, e, i), composed before a pixel is touched.

Whatever moves pixels composes into one matrix an image and one resampling (or, for whole-pixel moves, an exact copy);
whatever changes colours into one C x (C+1) matrix, normalisation included; whatever hides into boxes.
The numbers are drawn in NumPy on the host, so that they are the same on every device; every tensor operation is
elementwise over images, so that an image does not depend on the batch it is in.
"""

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.data.augmentation import automatic, colour, deformation, filters, geometry, patches
from pipeline.data.augmentation.filters import Noise
from pipeline.data.augmentation.geometry import Frame
from pipeline.data.augmentation.patches import Clutter, Erased
from pipeline.data.augmentation.rendering import Maps
from pipeline.data.augmentation.statistics import Statistics
from pipeline.data.augmentation.strengths import Array, Numbers, Operation, Variants
from pipeline.params import Augment

if TYPE_CHECKING:
    from torch import Tensor


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

    def _of_statistics(self, fitted: ArrayLike, otherwise: float) -> Array:
        normalizes = self._settings.normalization == "channel"
        return np.array(fitted) if normalizes else np.full(self.channels, otherwise)

    # --- numbers to maps ----------------------------------------------------------------------------------------------

    def geometry(self, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Matrices (B, 3, 3) from output to input pixels: the image is warped, cropped, then mirrored."""
        return self._geometry(*self._numbers(epoch, samples))

    def colour(self, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Matrices (B, C, C+1) from pixels to the network's inputs."""
        return self._colour(*self._numbers(epoch, samples))

    def _numbers(self, epoch: int, samples: NDArray[np.int64]) -> tuple[Numbers, list[Operation]]:
        numbers = Numbers(self._seed, epoch, samples, self._variants)
        kind = self._settings.automatic
        chosen = kind != "none" and numbers.on("automatic_magnitude")
        count = self._settings.automatic_operations
        return numbers, list(automatic.operations(numbers, kind, count)) if chosen else []

    def _geometry(self, numbers: Numbers, operations: list[Operation]) -> Array:
        matrices = geometry.maps(numbers, self._frame)
        for operation in operations:
            matrices = geometry.warps(operation, self._frame) @ matrices
        return matrices

    def _colour(self, numbers: Numbers, operations: list[Operation]) -> Array:
        maps = np.tile(self._to_unit, (len(numbers), 1, 1))
        for layer in (numbers, *operations):
            maps = colour.composed(layer, self._statistics, maps)
        return cast(Array, (self._normalisation @ maps)[:, : self.channels])

    def _boxes(self, numbers: Numbers, operations: list[Operation]) -> "tuple[Tensor | None, Erased | None]":
        import torch

        side = self._frame.seen
        blank = [patches.cutout(numbers, side)] if numbers.on("cutout_size") else []
        rectangles = [patches.erased(layer, side) for layer in (numbers, *operations) if layer.on("erasing")]
        noisy = None
        if rectangles and self._settings.erasing_fill == "noise":
            noisy = Erased(
                boxes=torch.from_numpy(np.stack(rectangles, axis=1)),
                keys=torch.from_numpy(numbers.keys("erasing pixels")),
                scale=torch.from_numpy(1 / self.std)[None].float(),
                shift=torch.from_numpy(-self.mean / self.std)[None].float(),
            )
        else:
            blank += rectangles
        return torch.from_numpy(np.stack(blank, axis=1)) if blank else None, noisy

    def _filters(self, numbers: Numbers, operations: list[Operation]) -> "tuple[Tensor | None, Noise | None]":
        """Two blurs, or two noises, make one: their variances add."""
        import torch

        def variance(key: str) -> Array | None:
            layers = [layer for layer in (numbers, *operations) if layer.on(key)]
            return sum((layer.part(key, key) ** 2 for layer in layers), np.zeros(len(numbers))) if layers else None

        blur, noise = variance("blur"), variance("noise")
        weights = filters.blur_weights(np.sqrt(blur), self._widest_blur(len(operations))) if blur is not None else None
        return (
            torch.from_numpy(weights).float() if weights is not None else None,
            Noise(torch.from_numpy(255 * np.sqrt(noise)).float(), torch.from_numpy(numbers.keys("noise pixels")))
            if noise is not None
            else None,
        )

    def _widest_blur(self, operations: int) -> float:
        """Of any image of the set, pixels."""
        chosen = automatic.GREATEST["blur"] * self._variants.largest("automatic_magnitude")
        return float(np.sqrt(self._variants.largest("blur") ** 2 + operations * chosen**2))

    def _clutter(self, numbers: Numbers) -> Clutter | None:
        if not numbers.on("distractors") and not numbers.on("border"):
            return None
        return patches.clutter(numbers, self._frame.seen, 1 / self.std, -self.mean / self.std)

    # --- batches ------------------------------------------------------------------------------------------------------

    def augmented(
        self, images: NDArray[np.uint8], epoch: int, samples: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], Maps]:
        """Host's part for training: images (N, H, W, C) to the batch's uint8 (B, H, W, C) and what is left to do."""
        import torch

        batch = images[samples]
        numbers, operations = self._numbers(epoch, samples)
        matrices = self._geometry(numbers, operations)
        bending = deformation.vectors(numbers, self._frame.seen) if numbers.on("elastic") else None
        whole = geometry.are_whole(matrices)
        if bending is not None:
            whole &= numbers.strength("elastic") == 0
        batch = self._copied(batch, matrices, whole)
        jitters = any(layer.on(key) for layer in (numbers, *operations) for key in colour.COLOURS)
        colours = self._colour(numbers, operations) if jitters else self._plain_colour
        boxes, erased = self._boxes(numbers, operations)
        blur, noise = self._filters(numbers, operations)
        moves = torch.from_numpy(matrices)
        return batch, Maps(
            geometry=None if whole.all() else moves,
            colour=torch.from_numpy(colours).float(),
            mixes_channels=jitters and self.channels == 3 and self._mixes(numbers, operations),
            boxes=boxes,
            moves=moves,
            copied=torch.from_numpy(whole) if whole.any() and not whole.all() else None,
            side=self._frame.seen,
            projective=numbers.on("perspective"),
            bending=torch.from_numpy(bending) if bending is not None else None,
            blur=blur,
            noise=noise,
            clutter=self._clutter(numbers),
            erased=erased,
        )

    def plain(self, images: NDArray[np.uint8], samples: NDArray[np.int64]) -> tuple[NDArray[np.uint8], Maps]:
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

    @staticmethod
    def _mixes(numbers: Numbers, operations: list[Operation]) -> bool:
        return any(layer.on(key) for layer in (numbers, *operations) for key in colour.MIXING)
