"""Pictures that stand for photographs: JPEG files of noise as smooth as theirs, with detail on it, all different.

Made from a seed in several processes; equal seeds give equal files. What benchmarks use that must not ask for data.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from pipeline.machine import usable_cores

QUALITY = 90
# Noise of so many cells a side, and how far it goes either way: large shapes and smaller ones in colour, then texture,
# which in photographs is of brightness. So a photograph of 256 x 256 takes 10 to 20 kB, as such ones do.
SHAPES = ((5, 80.0), (16, 35.0))
TEXTURE_CELLS, TEXTURE = 128, 12.0
FILES_A_TASK = 500


def photograph(seed: Sequence[int], side: int) -> NDArray[np.uint8]:
    """One picture: (side, side, 3)."""
    random = np.random.default_rng(seed)
    pixels = np.full((TEXTURE_CELLS, TEXTURE_CELLS, 3), 128.0, np.float32)
    pixels += TEXTURE * random.uniform(-1, 1, (TEXTURE_CELLS, TEXTURE_CELLS, 1)).astype(np.float32)
    for cells, strength in SHAPES:
        noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
        shapes = np.asarray(noise.resize((TEXTURE_CELLS, TEXTURE_CELLS), Image.Resampling.BICUBIC))
        pixels += (shapes.astype(np.float32) / 127.5 - 1) * strength
    whole = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return np.asarray(whole.resize((side, side), Image.Resampling.BICUBIC))


def photographed(seed: Sequence[int], side: int) -> bytes:
    """One picture as a JPEG file."""
    content: bytes = simplejpeg.encode_jpeg(
        photograph(seed, side), quality=QUALITY, colorspace="RGB", colorsubsampling="420"
    )
    return content


def write(folder: Path, count: int, side: int, classes: int, seed: int = 0) -> int:
    """Write `count` files into `classes` folders of (nearly) the same size; how many bytes they are."""
    for label in range(classes):
        (folder / f"class{label:02d}").mkdir(parents=True)
    tasks = [range(start, min(start + FILES_A_TASK, count)) for start in range(0, count, FILES_A_TASK)]
    with ProcessPoolExecutor(usable_cores()) as pool:
        return sum(pool.map(partial(_write_some, folder, side, classes, seed), tasks))


def _write_some(folder: Path, side: int, classes: int, seed: int, numbers: range) -> int:
    total = 0
    for number in numbers:
        content = photographed((seed, number), side)
        (folder / f"class{number % classes:02d}" / f"{number:07d}.jpg").write_bytes(content)
        total += len(content)
    return total
