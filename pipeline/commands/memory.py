"""What `retrace check` says of a network that memorises: nothing is learned, the time goes into comparing."""

import statistics
import time
from dataclasses import dataclass

import numpy as np

from pipeline.commands.text import about, brief
from pipeline.machine import required_device
from pipeline.params import Params
from pipeline.training.memorising import require_enough

_QUERIES, _IMAGES, _ROUNDS = 256, 8192, 3  # what is compared, and how often, to know the time


@dataclass(frozen=True)
class Estimate:
    """What a run from nothing will compare; `pair_seconds` was measured here and now, for two images."""

    images: int
    queries: int  # validation images
    pair_seconds: float
    device: str
    trials: int

    @property
    def seconds(self) -> float:
        """Of search and train together."""
        return (1 + self.trials) * self.queries * self.images * self.pair_seconds

    def lines(self) -> list[str]:
        passes = f"each of {self.trials} trials of the search and train compare" if self.trials else "train compares"
        return [
            f"0 learned numbers; {self.images:,} images are memorised; {passes} {self.queries:,} validation images with"
            " all of them",
            f"about {about(self.seconds)} of comparing at {brief(self.pair_seconds)} for two images, timed now"
            f" on {self.device}. Reading and tracking come on top",
        ]


def notice(chosen: Params) -> str:
    """What rests."""
    return (
        f"model.name: {chosen.model.name} memorises raw pixels in one pass: augment (but crop_size and copies), loss,"
        " regularization, optimizer, schedule, search.epochs and train (but threads and accelerator) have no effect"
    )


def estimate(chosen: Params, train: int, validation: int) -> Estimate:
    """Time some comparisons of noise. train, validation: images in each split. Raises Mistake where k is above them."""
    import torch

    from models.build import build_network
    from models.networks.shape import Shape

    images = train * (1 + chosen.augment.copies)
    require_enough(chosen, images)
    size, channels = chosen.augment.seen(chosen.data.resolved_image_size), chosen.data.resolved_channels
    device = required_device(chosen.train.accelerator)
    torch.set_num_threads(chosen.train.threads)
    network = build_network(chosen.model.name, chosen.model.settings, Shape(channels, size, 1), 0.0).to(device)
    fitting = max(1, (64 << 20) // (channels * size**2))  # of noise, in memory
    queries = min(_QUERIES, fitting)
    memorised = min(max(chosen.model.settings.k, min(images, _IMAGES)), max(chosen.model.settings.k, fitting))
    noise = np.random.default_rng(0).integers(0, 256, (memorised, channels, size, size), dtype=np.uint8)
    pixels = torch.from_numpy(noise).to(device)
    network.reserve(memorised)  # type: ignore[operator]
    network.memorise(pixels, torch.zeros(memorised, dtype=torch.int64), 0)  # type: ignore[operator]
    taken = []
    with torch.inference_mode():
        for _ in range(1 + _ROUNDS):  # the first compiles
            begun = time.perf_counter()
            network(pixels[:queries]).cpu()
            taken.append(time.perf_counter() - begun)
    pairs = len(pixels[:queries]) * memorised
    return Estimate(images, validation, statistics.median(taken[1:]) / pairs, device, chosen.search.trials)
