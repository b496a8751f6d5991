"""TrivialAugment (Mueller & Hutter 2021) and RandAugment (Cubuk 2020), built from the transforms that there are.

An operation is a transform at its whole strength, either way. Unlike the papers, operations join the one map and the
one matrix of the image, so their order among each other is the tables'; posterize, solarize and equalize are no such
maps and are left out.
"""

from collections.abc import Iterator

import numpy as np

from pipeline.data.augmentation.strengths import Numbers, Operation

# By key of `augment`: the greatest strength, about that of RandAugment's ops.
GREATEST = {
    "rotation_degrees": 30.0,
    "shear_degrees": 17.0,  # a slope of 0.3
    "translation": 0.3,
    "scale": 0.3,
    "brightness": 0.4,
    "contrast": 0.9,
    "saturation": 0.9,
    "hue_degrees": 60.0,
    "blur": 1.5,
    "noise": 0.1,
    "erasing": 0.2,
}
CHOICES = ("nothing", *GREATEST)


def operations(numbers: Numbers, kind: str, count: int) -> Iterator[Operation]:
    """The operations that are chosen for each sample: one (kind trivial) or `count` (rand), each as likely.

    Of strength `automatic_magnitude` times the greatest; trivial: uniform up to that.
    """
    for place in range(1 if kind == "trivial" else count):
        drawn = numbers.uniform(f"automatic {place}", 2)
        chosen = np.floor(drawn[:, 0] * len(CHOICES))
        magnitude = numbers.strength("automatic_magnitude") * (drawn[:, 1] if kind == "trivial" else 1.0)
        strengths = {
            key: np.where(chosen == CHOICES.index(key), magnitude * greatest, 0.0) for key, greatest in GREATEST.items()
        }
        yield Operation(numbers.seed, numbers.epoch, numbers.samples, numbers.variants, place, strengths)
