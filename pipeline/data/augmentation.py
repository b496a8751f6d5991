"""Augmentation of sample i in epoch e: a pure function of (seed, e, i), composed before a pixel is touched.

Whatever moves pixels composes into one 2x3 matrix an image and one resampling (or, for whole-pixel moves, an exact
copy); whatever changes colours into one C x (C+1) matrix, normalisation included; whatever hides into one box.
The numbers are drawn in NumPy on the host, so that they are the same on every device; every tensor operation is
elementwise over images, so that an image does not depend on the batch it is in.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline import seeding
from pipeline.data.store import rows_a_block
from pipeline.errors import Mistake
from pipeline.params import Augment
from pipeline.paths import PARAMS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

POLICY = "policy.json"
LUMA = np.array([0.299, 0.587, 0.114])  # weights of red, green, blue in brightness (ITU-R BT.601)


@dataclass(frozen=True)
class Statistics:
    """Figures of the training pixels, scaled to [0, 1], by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    eigenvalues: tuple[float, ...]  # of the channels' covariance, descending
    eigenvectors: tuple[tuple[float, ...], ...]  # in the columns, as in AlexNet's [p1 p2 p3]


def fit_statistics(images: NDArray[np.uint8], chunk: int | None = None) -> Statistics:
    """Mean, standard deviation and covariance eigenvectors over all pixels of images (N, H, W, C).

    Sums are taken over integers, so the figures do not depend on `chunk`: how many images are in memory at a time.
    """
    chunk = chunk or rows_a_block(images.shape[1:])
    channels = images.shape[-1]
    count = 0
    total = np.zeros(channels, dtype=np.int64)
    products = np.zeros((channels, channels), dtype=np.int64)
    for start in range(0, len(images), chunk):
        # Products of float64 whole numbers are exact below 2**53 and run on BLAS; integer ones do not.
        pixels = images[start : start + chunk].reshape(-1, channels).astype(np.float64)
        count += len(pixels)
        total += pixels.sum(0).astype(np.int64)
        products += (pixels.T @ pixels).astype(np.int64)
    mean = total / count
    covariance = (products / count - np.outer(mean, mean)) / 255.0**2
    values, vectors = np.linalg.eigh(covariance)
    vectors = vectors[:, ::-1]
    vectors = vectors * np.where(np.take_along_axis(vectors, abs(vectors).argmax(0)[None], 0) < 0, -1.0, 1.0)
    return Statistics(
        mean=tuple((mean / 255.0).tolist()),
        std=tuple(np.sqrt(np.maximum(np.diag(covariance), 0.0)).tolist()),
        eigenvalues=tuple(np.maximum(values[::-1], 0.0).tolist()),
        eigenvectors=tuple(tuple(row) for row in vectors.tolist()),
    )


class Maps(NamedTuple):
    """What is done to each image of a batch."""

    geometry: "Tensor | None"  # B, 2, 3: output pixel (x, y, 1) to input pixel; None: done by copying already
    colour: "Tensor"  # C, C+1 or B, C, C+1: from pixels in [0, 255] to the network's inputs
    mixes_channels: bool  # whether `colour` is more than a factor and a shift for each channel
    boxes: "Tensor | None"  # B, 4: top, bottom, left, right of what is set to zero: with normalisation, the mean

    def to(self, device: "torch.device") -> "Maps":
        """These maps on `device`."""
        geometry, boxes = self.geometry, self.boxes
        if geometry is not None:
            geometry = (geometry.float() if device.type == "mps" else geometry).to(device)  # mps has no float64
        if boxes is not None:
            boxes = boxes.to(device)
        return Maps(geometry, self.colour.to(device), self.mixes_channels, boxes)


def require_pixels(settings: Augment, image_size: int) -> None:
    """Raise Mistake for what leaves nothing of an image of one pixel: a point of the plane."""
    lost = [name for name in ("crop_padding", "cutout_size") if getattr(settings, name) > 0]
    if image_size == 1 and lost:
        raise Mistake(*(f"{PARAMS}: augment.{name}: would blank images of one pixel; set it to 0" for name in lost))


class Policy:
    """One image set's augmentation and normalisation: draws the maps of any samples of any epoch."""

    def __init__(self, settings: Augment, statistics: Statistics, image_size: int, seed: int) -> None:
        require_pixels(settings, image_size)
        self._settings = settings
        self._statistics = statistics
        self._size = image_size
        self._seed = seed
        self.channels = len(statistics.mean)

    @property
    def mean(self) -> NDArray[np.float64]:
        """What is subtracted from pixels in [0, 1]: (C,)."""
        return np.array(self._statistics.mean) if self._normalizes else np.zeros(self.channels)

    @property
    def std(self) -> NDArray[np.float64]:
        """What they are then divided by: (C,). A channel that never changes is left at its scale."""
        std = np.array(self._statistics.std)
        return np.where(std > 1e-8, std, 1.0) if self._normalizes else np.ones(self.channels)

    @property
    def _normalizes(self) -> bool:
        return self._settings.normalization == "channel"

    @property
    def resamples(self) -> bool:
        """Whether pixels fall between pixels, so that copying cannot do."""
        return self._settings.rotation_degrees > 0

    # --- the three maps -----------------------------------------------------------------------------------------------

    def geometry(self, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Matrices (B, 2, 3) from output to input pixels: the image is rotated, cropped, then mirrored."""
        size, settings = self._size, self._settings
        matrices = np.tile(np.eye(3), (len(samples), 1, 1))
        if settings.rotation_degrees > 0:
            turn = self._symmetric("rotation", epoch, samples, 1)[:, 0] * np.deg2rad(settings.rotation_degrees)
            matrices = _about_centre(size, np.cos(turn), np.sin(turn))
        if settings.crop_padding > 0:
            shift = np.tile(np.eye(3), (len(samples), 1, 1))
            offsets = seeding.uniform(self._seed, "crop", epoch, samples, 2) * (2 * settings.crop_padding + 1)
            shift[:, :2, 2] = np.floor(offsets) - settings.crop_padding
            matrices = matrices @ shift
        if settings.horizontal_flip:
            flip = np.tile(np.eye(3), (len(samples), 1, 1))
            chosen = seeding.uniform(self._seed, "flip", epoch, samples, 1)[:, 0] < 0.5
            flip[chosen, 0, 0], flip[chosen, 0, 2] = -1.0, size - 1.0
            matrices = matrices @ flip
        return matrices[:, :2]

    def colour(self, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Matrices (B, C, C+1): contrast, brightness, saturation, PCA shift on [0, 1], then normalisation."""
        settings, channels = self._settings, self.channels
        maps = np.zeros((len(samples), channels + 1, channels + 1))
        maps[:] = np.diag([1 / 255.0] * channels + [1.0])
        if settings.contrast > 0:
            scale = 1 + settings.contrast * self._symmetric("contrast", epoch, samples, 1)
            maps = _affine(scale[:, :, None] * np.eye(channels), 0.5 * (1 - scale).repeat(channels, 1)) @ maps
        if settings.brightness > 0:
            shift = settings.brightness * self._symmetric("brightness", epoch, samples, 1)
            maps = _affine(np.eye(channels)[None], shift.repeat(channels, 1)) @ maps
        if settings.saturation > 0 and channels == 3:
            scale = 1 + settings.saturation * self._symmetric("saturation", epoch, samples, 1)[:, :, None]
            grey = np.ones((3, 1)) * LUMA
            maps = _affine(scale * np.eye(3) + (1 - scale) * grey, np.zeros((1, 3))) @ maps
        if settings.pca_shift > 0 and channels == 3:
            # AlexNet (Krizhevsky 2012), section 4.1: add [p1 p2 p3][a1 l1, a2 l2, a3 l3]^T, a ~ N(0, pca_shift)
            alpha = settings.pca_shift * seeding.normal(self._seed, "pca", epoch, samples, 3)
            shift = (alpha * np.array(self._statistics.eigenvalues)) @ np.array(self._statistics.eigenvectors).T
            maps = _affine(np.eye(3)[None], shift) @ maps
        return (self._normalisation() @ maps)[:, :channels]

    def boxes(self, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Cutout (DeVries & Taylor 2017): (B, 4) top, bottom, left, right; centres uniform over the image."""
        side = self._settings.cutout_size
        if side == 0:
            return None
        centre = np.floor(seeding.uniform(self._seed, "cutout", epoch, samples, 2) * self._size).astype(np.int64)
        start = centre - side // 2  # B, 2
        return np.stack([start[:, 0], start[:, 0] + side, start[:, 1], start[:, 1] + side], axis=1)

    # --- batches ------------------------------------------------------------------------------------------------------

    def augmented(
        self, images: NDArray[np.uint8], epoch: int, samples: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], Maps]:
        """Host's part for training: images (N, H, W, C) to the batch's uint8 (B, H, W, C) and what is left to do."""
        import torch

        batch = images[samples]
        matrices = self.geometry(epoch, samples)
        if not self.resamples:
            batch = _copied(batch, matrices, self._settings.crop_padding)
        colour = self.colour(epoch, samples if self._jitters else samples[:1])
        boxes = self.boxes(epoch, samples)
        return batch, Maps(
            geometry=torch.from_numpy(matrices) if self.resamples else None,
            colour=torch.from_numpy(colour if self._jitters else colour[0]).float(),
            mixes_channels=self._settings.saturation > 0 and self.channels == 3,
            boxes=torch.from_numpy(boxes) if boxes is not None else None,
        )

    def plain(self, images: NDArray[np.uint8], samples: NDArray[np.int64]) -> tuple[NDArray[np.uint8], Maps]:
        """Host's part for evaluation: normalisation alone."""
        import torch

        colour = self._normalisation() @ np.diag([1 / 255.0] * self.channels + [1.0])
        return images[samples], Maps(
            geometry=None,
            colour=torch.from_numpy(colour[: self.channels]).float(),
            mixes_channels=False,
            boxes=None,
        )

    @property
    def _jitters(self) -> bool:
        """Whether images of one batch have colour maps of their own."""
        settings = self._settings
        return settings.contrast + settings.brightness + settings.saturation + settings.pca_shift > 0

    def _normalisation(self) -> NDArray[np.float64]:
        maps = _affine(np.diag(1 / self.std)[None], (-self.mean / self.std)[None])  # 1, C+1, C+1
        return cast(NDArray[np.float64], maps[0])

    def _symmetric(self, purpose: str, epoch: int, samples: NDArray[np.int64], draws: int) -> NDArray[np.float64]:
        return 2 * seeding.uniform(self._seed, purpose, epoch, samples, draws) - 1


def render(images: "Tensor", maps: Maps) -> "Tensor":
    """Device's part: uint8 (B, H, W, C) to the network's float32 inputs (B, C, H, W), in channels-last memory."""
    import torch

    size, channels = images.shape[1], images.shape[3]
    pixels = _resampled(images, maps.geometry) if maps.geometry is not None else images.float()
    pixels = _recoloured(pixels, maps.colour, maps.mixes_channels)
    if maps.boxes is not None:
        line = torch.arange(size, device=images.device)
        top, bottom, left, right = (maps.boxes[:, side, None] for side in range(4))
        rows, columns = (line >= top) & (line < bottom), (line >= left) & (line < right)  # B, H; B, W
        pixels = pixels.masked_fill((rows[:, :, None] & columns[:, None, :])[..., None], 0.0)  # 0 is the mean
    return pixels.view(-1, size, size, channels).permute(0, 3, 1, 2)


def _resampled(images: "Tensor", geometry: "Tensor") -> "Tensor":
    """Bilinear, black outside: (B, H, W, C) float32."""
    import torch
    from torch.nn import functional

    size = images.shape[1]
    line = torch.arange(size, device=images.device, dtype=geometry.dtype)
    x, y = line[None, None, :], line[None, :, None]
    m = geometry[:, :, :, None, None]
    # Written out, not as a matrix product: BLAS picks kernels by batch size, and their bits differ.
    grid = torch.stack([m[:, row, 0] * x + m[:, row, 1] * y + m[:, row, 2] for row in (0, 1)], dim=-1)  # B, H, W, 2
    grid = ((2 * grid + 1) / size - 1).float()  # pixel centres to grid_sample's [-1, 1]
    pixels = images.permute(0, 3, 1, 2).float()
    moved = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved.permute(0, 2, 3, 1).contiguous()


def _recoloured(pixels: "Tensor", colour: "Tensor", mixes_channels: bool) -> "Tensor":
    """Each pixel's channels through its image's (or the batch's) colour map; multiplied, then added: two roundings.

    A fused multiply-add would round once in vector registers and twice in the loop's tail.
    """
    batch, size, _, channels = pixels.shape
    matrix, shift = colour[..., :channels], colour[..., channels]
    if not mixes_channels:
        # Whole rows at once, the factors repeated along them: an inner loop over C alone takes ten times as long.
        rows = pixels.view(batch, size, size * channels)
        factor, shift = (v.repeat(*[1] * (v.ndim - 1), size) for v in (matrix.diagonal(dim1=-2, dim2=-1), shift))
        if colour.ndim == 3:
            factor, shift = factor[:, None], shift[:, None]
        return rows.mul_(factor).add_(shift).view_as(pixels)
    matrix, shift = matrix.view(-1, 1, 1, channels, channels), shift.view(-1, 1, 1, channels)
    total = pixels[..., 0:1] * matrix[..., 0]
    for channel in range(1, channels):
        total = total.add_(pixels[..., channel : channel + 1] * matrix[..., channel])
    return total.add_(shift)


def _copied(batch: NDArray[np.uint8], matrices: NDArray[np.float64], padding: int) -> NDArray[np.uint8]:
    """Whole-pixel crops and mirrors of images (B, H, W, C) as `matrices` say: exact, whole rows at a time."""
    count, size, _, channels = batch.shape
    flipped = matrices[:, 0, 0] < 0
    left = (matrices[:, 0, 2] - np.where(flipped, size - 1, 0)).astype(np.int64) + padding
    top = matrices[:, 1, 2].astype(np.int64) + padding
    if padding > 0:
        padded = np.zeros((count, size + 2 * padding, (size + 2 * padding), channels), dtype=np.uint8)
        padded[:, padding:-padding, padding:-padding] = batch
        windows = sliding_window_view(padded.reshape(count, size + 2 * padding, -1), (size, size * channels), (1, 2))
        batch = windows[np.arange(count), top, left * channels].reshape(batch.shape)
    if flipped.any():
        mirror = np.arange(size * channels).reshape(size, channels)[::-1].reshape(-1)
        rows = batch.reshape(count, size, size * channels)
        rows[flipped] = np.take(rows[flipped], mirror, axis=2)
    return batch


def _about_centre(size: int, cos: NDArray[np.float64], sin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations (B, 3, 3) about the image's centre, in pixels."""
    centre = (size - 1) / 2
    matrices = np.zeros((len(cos), 3, 3))
    matrices[:, 0] = np.stack([cos, -sin, centre - centre * cos + centre * sin], axis=1)
    matrices[:, 1] = np.stack([sin, cos, centre - centre * sin - centre * cos], axis=1)
    matrices[:, 2, 2] = 1
    return matrices


def _affine(matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Homogeneous (B, C+1, C+1) maps from (B, C, C) and (B, C)."""
    count, channels = max(len(matrix), len(shift)), shift.shape[1]
    maps = np.zeros((count, channels + 1, channels + 1))
    maps[:, :channels, :channels] = matrix
    maps[:, :channels, channels] = shift
    maps[:, channels, channels] = 1
    return maps


def save_statistics(path: Path, statistics: Statistics, settings: Augment) -> None:
    """Write policy.json: what was fitted, beside the settings it will serve."""
    content = {"settings": settings.model_dump(), "statistics": statistics.__dict__}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load_statistics(path: Path) -> Statistics:
    """What `save_statistics` wrote."""
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["statistics"]
    return Statistics(
        mean=tuple(raw["mean"]),
        std=tuple(raw["std"]),
        eigenvalues=tuple(raw["eigenvalues"]),
        eigenvectors=tuple(tuple(row) for row in raw["eigenvectors"]),
    )
