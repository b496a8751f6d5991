"""The device's part: from bytes and maps to the network's inputs, each operation elementwise over images."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from pipeline.data.augmentation.deformation import displacements
from pipeline.data.augmentation.filters import Noise, blurred, noisy
from pipeline.data.augmentation.patches import Clutter, Erased, filled_with_noise, inside, painted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_PIXELS_A_BLOCK = 2**17  # 256 images of 32x32 go in two blocks; half and double of it are slower
_FEWEST_BLOCKS_FOR_THREADS = 8  # from so many on, threads take blocks, twice as large; with fewer they are slower


class Maps(NamedTuple):
    """What is done to each image of a batch, in this order; what is None is not done."""

    geometry: "Tensor | None"  # B, 3, 3: output pixel (x, y, 1) to input pixel; None: done by copying already
    colour: "Tensor"  # 1 or B, C, C+1: from pixels in [0, 255] to the network's inputs
    mixes_channels: bool  # whether `colour` is more than a factor and a shift for each channel
    boxes: "Tensor | None"  # B, K, 4: top, bottom, left, right of what is set to zero: with normalisation, the mean
    moves: "Tensor | None" = None  # B, 3, 3: as `geometry`, of all images, copied ones too; None: nothing moves
    copied: "Tensor | None" = None  # B, bool: which images copying has done already, beside others; None: none of them
    side: int | None = None  # of the outputs, pixels; None: as the images
    projective: bool = False  # whether the last row of any matrix is more than 0, 0, 1
    upright: bool = False  # whether rows stay rows in all images: x comes from x alone, and y from y
    bending: "Tensor | None" = None  # B, 2, points, points: vectors of the displacements, pixels
    blur: "Tensor | None" = None  # B, 2 r + 1: weights
    noise: Noise | None = None
    clutter: Clutter | None = None
    erased: Erased | None = None

    def to(self, device: "torch.device") -> "Maps":
        """These maps on `device`."""
        import torch

        def moved(tensor: "Tensor") -> "Tensor":
            single = device.type == "mps" and tensor.dtype == torch.float64  # mps has no float64
            return (tensor.float() if single else tensor).to(device)

        return cast(Maps, _each(self, moved))

    def rows(self, start: int, stop: int) -> "Maps":
        """The maps of some images; what holds for all of them has a first dimension of 1 and stays."""
        return cast(Maps, _each(self, lambda tensor: tensor[start:stop] if len(tensor) > 1 else tensor))


def _each(value: Any, work: "Callable[[Tensor], Tensor]") -> Any:
    """`work` on every tensor in nested tuples."""
    if isinstance(value, tuple):
        parts = (_each(part, work) for part in value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return work(value) if hasattr(value, "device") else value


def render(images: "Tensor", maps: Maps) -> "Tensor":
    """uint8 (B, H, W, C) to the network's float32 inputs (B, C, side, side), in channels-last memory."""
    parts = (maps.geometry, maps.blur, maps.noise, maps.clutter, maps.erased)
    if not maps.mixes_channels and all(part is None for part in parts):
        pixels = _scaled_rows(images.float(), maps.colour)  # B, H, W, C
        if maps.boxes is not None:
            pixels = pixels.masked_fill_(inside(maps.boxes, images.shape[1])[..., None], 0.0)
    else:
        pixels = _in_blocks(images, maps)
    # Of one channel, torch calls any strides contiguous; these are what it chooses kernels by.
    return pixels.view(len(pixels), -1).view(pixels.shape).permute(0, 3, 1, 2)


def _in_blocks(images: "Tensor", maps: Maps) -> "Tensor":
    """(B, side, side, C). On a CPU a few images at a time, so that what lies between two steps stays in its cache."""
    import torch

    count, size, _, channels = images.shape
    side = maps.side or size
    block = max(1, _PIXELS_A_BLOCK // side**2)
    if count <= block or images.device.type != "cpu":
        return _planes(images, maps).permute(0, 2, 3, 1).contiguous()
    # NumPy asks for huge pages. Of small ones 64 images of 224 x 224 need 9,400, which take as long as their pixels.
    result = torch.from_numpy(np.empty((count, side, side, channels), dtype=np.float32))
    in_threads = count >= _FEWEST_BLOCKS_FOR_THREADS * block
    if in_threads:
        block = max(1, 2 * _PIXELS_A_BLOCK // side**2)

    def some(start: int) -> None:
        stop = start + block
        result[start:stop] = _planes(images[start:stop], maps.rows(start, stop)).permute(0, 2, 3, 1)

    if in_threads:
        _side_by_side(some, range(0, count, block))
    else:
        for start in range(0, count, block):
            some(start)
    return result


def _side_by_side(work: Callable[[int], None], places: Iterable[int]) -> None:
    """`work` on each place, in as many threads as torch has here.

    Torch's own would share every single operation, and wait for one another, spinning, at the end of each. One call at
    a time: the number of torch's threads is the process's.
    """
    import torch

    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def in_mode(place: int) -> None:
        with torch.inference_mode(inference):  # each thread has its own
            work(place)

    torch.set_num_threads(1)  # what threads that begin now have for themselves
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="rendering") as pool:
            for _ in pool.map(in_mode, places):
                pass
    finally:
        torch.set_num_threads(threads)


def _planes(images: "Tensor", maps: Maps) -> "Tensor":
    """The whole way, channel by channel: (B, C, side, side)."""
    import torch

    pixels = images.permute(0, 3, 1, 2)
    if maps.geometry is not None:
        pixels = _resampled(pixels.float(), maps)  # which reads any layout as fast, and writes planes
    else:
        pixels = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    if maps.blur is not None:
        pixels = _on_those(maps.blur[:, maps.blur.shape[1] // 2] < 1, pixels, maps.blur, blurred)
    if maps.noise is not None:
        pixels = _on_those(maps.noise.deviation > 0, pixels, maps.noise, noisy)
    pixels = _recoloured(pixels, maps.colour, maps.mixes_channels)
    if maps.clutter is not None:
        pixels = painted(pixels, maps.clutter)
    if maps.erased is not None:
        pixels = filled_with_noise(pixels, maps.erased)
    if maps.boxes is not None:
        pixels = pixels.masked_fill_(inside(maps.boxes, pixels.shape[-1])[:, None], 0.0)
    return pixels


def _on_those(chosen: "Tensor", pixels: "Tensor", own: Any, work: "Callable[[Tensor, Any], Tensor]") -> "Tensor":
    """`work` with what is their `own` on the images that are `chosen` (B, bool): it leaves others as they are anyway.

    A GPU does all, rather than wait until it is known how many are chosen.
    """
    if pixels.device.type != "cpu" or chosen.all():
        return work(pixels, own)
    rows = chosen.nonzero()[:, 0]
    pixels[rows] = work(pixels[rows], _each(own, lambda tensor: tensor[rows]))
    return pixels


def sources(maps: Maps, side: int) -> tuple["Tensor", "Tensor"]:
    """Where each pixel of what the network sees comes from: x and y, each (B, side, side), in pixels of the image.

    Of upright maps without the axis along which nothing changes: (B, 1, side) and (B, side, 1).
    Written out, not as a matrix product: BLAS picks kernels by batch size, and their bits differ.
    """
    import torch

    moves = maps.moves
    if moves is None:
        raise ValueError("these maps move nothing")
    line = torch.arange(side, device=moves.device, dtype=moves.dtype)
    x, y = line[None, None, :], line[None, :, None]
    m = moves[:, :, :, None, None]
    if maps.upright:  # the same numbers, with the zeros left out
        return m[:, 0, 0] * x + m[:, 0, 2], m[:, 1, 1] * y + m[:, 1, 2]
    at = [m[:, row, 0] * x + m[:, row, 1] * y + m[:, row, 2] for row in (0, 1, 2)[: 3 if maps.projective else 2]]
    if maps.projective:
        at = [at[0] / at[2], at[1] / at[2]]  # by exactly 1 where an image's map is affine
    if maps.bending is not None:
        at = [place + bent for place, bent in zip(at, displacements(maps.bending, side).unbind(1), strict=True)]
    return at[0], at[1]


def _resampled(pixels: "Tensor", maps: Maps) -> "Tensor":
    """Images (B, C, H, W) to (B, C, side, side): bilinear, black outside; copied ones as they are."""
    import torch
    from torch.nn import functional

    size = pixels.shape[-1]
    side = maps.side or size
    # Pixel centres to grid_sample's [-1, 1]. As complex numbers x and y come to lie side by side in half the time.
    x, y = (((2 * at + 1) / size - 1).float() for at in sources(maps, side))
    grid = torch.view_as_real(torch.complex(x, y))  # B, side, side, 2
    moved = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if maps.copied is not None:
        moved = torch.where(maps.copied[:, None, None, None], pixels[:, :, :side, :side], moved)
    return moved


def _scaled_rows(pixels: "Tensor", colour: "Tensor") -> "Tensor":
    """A factor and a shift for each channel of (B, H, W, C); multiplied, then added: two roundings.

    A fused multiply-add would round once in vector registers and twice in the loop's tail.
    """
    # Whole rows at once, the factors repeated along them: an inner loop over C alone takes ten times as long.
    batch, height, width, channels = pixels.shape
    rows = pixels.view(batch, height, width * channels)
    factor, shift = colour[..., :channels].diagonal(dim1=-2, dim2=-1), colour[..., channels]
    factor, shift = (value.repeat(1, width)[:, None] for value in (factor, shift))  # 1 or B, 1, W C
    return rows.mul_(factor).add_(shift).view_as(pixels)


def _recoloured(pixels: "Tensor", colour: "Tensor", mixes_channels: bool) -> "Tensor":
    """Each pixel's channels through its image's (or the batch's) colour map: (B, C, H, W), rounded as in rows."""
    channels = pixels.shape[1]
    matrix, shift = colour[:, :, :channels, None, None], colour[:, :, channels, None, None]
    if not mixes_channels:
        return pixels.mul_(matrix.diagonal(dim1=1, dim2=2).permute(0, 3, 1, 2)).add_(shift)
    result = pixels[:, :1] * matrix[:, :, 0]
    for other in range(1, channels):
        result.add_(pixels[:, other : other + 1] * matrix[:, :, other])
    return result.add_(shift)
