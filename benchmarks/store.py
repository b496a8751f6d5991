"""Batches of 64 at 224 x 224 from photographs of 256 x 256 that are kept as JPEG: ours against two usual ways.

    python benchmarks/store.py [--batches 30] [--rounds 7]

All read the same JPEG files from the same packed file, with a warm cache, and crop parts of random area and aspect,
resized, every second one mirrored. Ours is what training gets: that by the loader and `render`, with brightness,
contrast, saturation, hue and PCA shift, normalised, float32. Against it

    PIL, 2 threads          decoding, crop resized (bilinear), mirrored; no colour; a batch is 64 PIL images
    the same, as an array   those in one array of bytes: what else there must be before a network sees them
    DataLoader              all of it, a sample at a time, in PIL and torch, by 2 processes

A round times each way in turn, so that a slow minute of the machine hits all of them; some batches first warm it up.
The ratios are taken round by round, of images a second and of processor time an image, which a busy machine changes
less: the first is at most the second where a way keeps all processors busy.
"""

import argparse
import io
import math
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import photographs
from pipeline import params
from pipeline.data.augmentation import Policy, Statistics, fit_statistics
from pipeline.data.loader import Images
from pipeline.data.store import Split, open_split, write_split
from pipeline.data.store.encoded import EncodedImages

ROOT = Path(__file__).parents[1]
BATCH, STORED, SEEN = 64, 256, 224
LEAST_AREA, LARGEST_ASPECT = 0.08, 4 / 3
JITTER, HUE_DEGREES, PCA = 0.4, 18.0, 0.1
AUGMENT = {
    "crop_padding": 0, "rotation_degrees": 0.0, "crop_size": SEEN, "resized_crop": 1 - LEAST_AREA,
    "horizontal_flip": True, "brightness": JITTER, "contrast": JITTER, "saturation": JITTER,
    "hue_degrees": HUE_DEGREES, "pca_shift": PCA,
}  # fmt: skip
WARM_UP = 4  # batches of each way and round that are not timed
Way = Callable[[int], Iterator[object]]  # from the round's number to its batches


def packed(folder: Path, count: int) -> Split:
    """So many photographs, as prepare packs them."""
    contents = [photographs.photographed((0, number), STORED) for number in range(count)]
    lengths = np.array([len(content) for content in contents])
    file = folder / "photographs"
    file.write_bytes(b"".join(contents))
    images = EncodedImages(file, np.cumsum(lengths) - lengths, lengths, (STORED, STORED, 3))
    names = [str(number) for number in range(count)]
    write_split(folder / "split", images, np.zeros(count, np.int64), names, ["photograph"], names)
    print(f"{count} photographs of {lengths.mean() / 1e3:.1f} kB")
    return open_split(folder / "split")


def ours(split: Split, statistics: Statistics, batches: int) -> Way:
    """The training loader, and what follows it on the device."""
    settings = params.load(ROOT / "params.yaml").augment.model_copy(update=AUGMENT)
    policy = Policy(settings, statistics, STORED, seed=0)
    images = Images(split, split, policy, BATCH, seed=0, limit=batches, channels_last=True)

    def way(number: int) -> Iterator[object]:
        loader = images.train_dataloader()
        loader.set_epoch(number)
        for batch in loader:
            yield images.on_after_batch_transfer(batch, 0)

    return way


class Packed:
    """The images' JPEG files, from the packed file."""

    def __init__(self, split: Split) -> None:
        if not isinstance(split.images, EncodedImages):
            raise TypeError("not kept as JPEG")
        self._images = split.images
        self._stream = split.images.file.open("rb", buffering=0)

    def cropped(self, number: int, random: np.random.Generator) -> Image.Image:
        """One image decoded, a random part of it resized, and mirrored or not."""
        area = STORED**2 * random.uniform(LEAST_AREA, 1)
        aspect = math.exp(random.uniform(-1, 1) * math.log(LARGEST_ASPECT))
        width, height = (min(STORED, math.sqrt(area * by)) for by in (aspect, 1 / aspect))
        left, top = random.uniform(0, STORED - width), random.uniform(0, STORED - height)
        with Image.open(io.BytesIO(self._images.content(self._stream, number))) as image:
            part = image.resize((SEEN, SEEN), Image.Resampling.BILINEAR, (left, top, left + width, top + height))
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part


def bare_threads(split: Split, batches: int, *, as_array: bool) -> Way:
    """Nothing but PIL."""
    images = Packed(split)

    def one(number: int) -> Image.Image | NDArray[np.uint8]:
        image = images.cropped(number, np.random.default_rng(number))
        return np.asarray(image) if as_array else image

    def way(number: int) -> Iterator[object]:
        order = np.random.default_rng(number).permutation(len(split))[: BATCH * batches]
        with ThreadPoolExecutor(2) as pool:
            done = pool.map(one, order.tolist())
            while batch := list(islice(done, BATCH)):
                yield np.stack(batch) if as_array else batch

    return way


class Samples(Dataset[tuple[Tensor, int]]):
    """One at a time, as a usual script has it."""

    def __init__(self, split: Split, statistics: Statistics) -> None:
        self._images, self._labels = Packed(split), split.labels
        self._mean, self._std = (torch.tensor(of).float()[:, None, None] for of in (statistics.mean, statistics.std))
        self._values = torch.tensor(statistics.eigenvalues).float()
        self._vectors = torch.tensor(statistics.eigenvectors).float()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        random = np.random.default_rng()
        image = self._images.cropped(number, random)
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhancer(image).enhance(random.uniform(1 - JITTER, 1 + JITTER))
        hue, saturation, value = image.convert("HSV").split()
        turn = round(random.uniform(-HUE_DEGREES, HUE_DEGREES) / 360 * 256)
        hue = hue.point([(level + turn) % 256 for level in range(256)])
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
        shift = self._vectors @ (self._values * torch.from_numpy(random.normal(0, PCA, 3)).float())
        return pixels.add_(shift[:, None, None]).sub_(self._mean).div_(self._std), int(self._labels[number])


def data_loader(split: Split, statistics: Statistics, batches: int) -> Way:
    """By processes, which collate the batches."""
    samples = Samples(split, statistics)

    def way(number: int) -> Iterator[object]:
        order = np.random.default_rng(number).permutation(len(split))[: BATCH * batches].tolist()
        yield from DataLoader(samples, BATCH, sampler=order, num_workers=2)

    return way


class Rate(NamedTuple):
    images_a_second: float
    processor: float  # milliseconds an image, of all threads and of processes that have ended


def rate(batches: Iterator[object]) -> Rate:
    """After the first batches; of the processor time, all."""
    processor_before = processor_seconds()
    warm_up = sum(1 for _ in islice(batches, WARM_UP))
    started = time.perf_counter()
    done = sum(1 for _ in batches)
    seconds = time.perf_counter() - started
    return Rate(BATCH * done / seconds, 1e3 * (processor_seconds() - processor_before) / (BATCH * (warm_up + done)))


def processor_seconds() -> float:
    both = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=30, help="timed, of each way and round")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    batches = WARM_UP + arguments.batches
    with tempfile.TemporaryDirectory() as scratch:
        split = packed(Path(scratch), BATCH * batches)
        statistics_of_split = fit_statistics(split.images)
        ways: dict[str, Way] = {
            "ours": ours(split, statistics_of_split, batches),
            "PIL, 2 threads": bare_threads(split, batches, as_array=False),
            "the same, as an array": bare_threads(split, batches, as_array=True),
            "DataLoader, 2 processes": data_loader(split, statistics_of_split, batches),
        }
        rates: dict[str, list[Rate]] = {name: [] for name in ways}
        for number in range(arguments.rounds):
            for name, way in ways.items():
                rates[name].append(rate(way(number)))
    print(f"{'':24} {'images/s':26} {'ours against it':22} {'ms of processor an image':26} ours against it")
    for name, found in rates.items():
        speeds, costs = ([one[column] for one in found] for column in (0, 1))
        faster = [own.images_a_second / other for own, other in zip(rates["ours"], speeds, strict=True)]
        cheaper = [other / own.processor for own, other in zip(rates["ours"], costs, strict=True)]
        print(f"{name:24} {spread(speeds, 0):26} {spread(faster, 2):22} {spread(costs, 3):26} {spread(cheaper, 2)}")


if __name__ == "__main__":
    main()
