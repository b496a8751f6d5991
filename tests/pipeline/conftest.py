"""A small prepared data set, as the stages after `augment` find it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline import params as params_module
from pipeline import paths
from pipeline.data.augmentation import POLICY, fit_statistics, save_statistics
from pipeline.data.store import write_split
from pipeline.params import Params

SHIPPED = Path(__file__).parents[2] / "params.yaml"
CLASSES = ("dark", "light", "striped")


def images_of(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that a small network learns in an epoch or two: (N, 8, 8, 1) uint8 and labels (N,)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    images = generator.integers(0, 60, (count, 8, 8, 1))
    images[labels == 1] += 150
    images[labels == 2, :, ::2] += 150
    return images.astype(np.uint8), labels.astype(np.int64)


@pytest.fixture
def small_params() -> Callable[..., Params]:
    """The shipped parameters, made small, with changes laid over them: small_params(train={"epochs": 1})."""

    def make(**changes: object) -> Params:
        small = {
            "augment": {"rotation_degrees": 0.0},
            "model": {"convnet": {"width": 4, "stages": 2, "first_depth": 1, "depth": 1}},
            "train": {"epochs": 3, "batch_size": 16, "threads": 1},
            "search": {"trials": 3, "epochs": 2},
        }
        return params_module.load(SHIPPED).overlaid(small).overlaid(changes)

    return make


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_params: Callable[..., Params]) -> Path:
    """A working directory that holds the outputs of prepare and augment."""
    monkeypatch.chdir(tmp_path)
    for seed, (folder, count) in enumerate([(paths.PREPARED / "train", 90), (paths.PREPARED / "validation", 30)]):
        images, labels = images_of(count, seed)
        names = [f"{folder.name}/{index}.png" for index in range(count)]
        write_split(folder, images, labels, names, CLASSES, ["0" * 64] * count)
    (paths.PREPARED / "classes.json").write_text('["dark", "light", "striped"]')
    paths.AUGMENTED.mkdir()
    save_statistics(paths.AUGMENTED / POLICY, fit_statistics(images_of(90, 0)[0]), small_params().augment)
    return tmp_path
