"""The stage augment on a small prepared set: what it writes, and what of it MLflow gets."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import augment, paths
from pipeline.data.augmentation import POLICY, fit_statistics, load_statistics
from pipeline.data.copies import pictures
from pipeline.data.store import open_split
from pipeline.training.fit import TrainingData
from tests.pipeline.test_train import OFFLINE, records


def written() -> set[str]:
    return {path.relative_to(paths.AUGMENTED).as_posix() for path in paths.AUGMENTED.rglob("*") if path.is_file()}


def test_without_copies_there_are_the_policy_and_its_preview(project: Path, small_params):
    augment.run(small_params(tracking=OFFLINE))
    assert written() == {"policy.json", "preview.png"}
    assert load_statistics(paths.AUGMENTED / POLICY) == fit_statistics(open_split(paths.PREPARED / "train").images)


def test_copies_are_a_split_that_no_tracking_server_gets(project: Path, small_params):
    params = small_params(tracking=OFFLINE, augment={"copies": 2, "mixup": 0.4, "cutout_size": 2})
    augment.run(params)
    assert written() == {"policy.json", "preview.png"} | {
        f"copies/{name}" for name in ("images.npy", "labels.npy", "index.parquet")
    }
    data = TrainingData.open()
    copies = open_split(paths.COPIES)
    assert copies.labels.tolist() == 2 * data.train.labels.tolist()
    for epoch in range(2):  # not mixed
        expected = pictures(data.train.images, data.policy(params), epoch, np.arange(90))
        assert np.array_equal(copies.images[90 * epoch : 90 * (epoch + 1)], expected)
    assert {record["path"] for record in records() if record["type"] == "artifact"} >= {"policy.json", "preview.png"}
    assert not [record for record in records() if "copies" in str(record.get("path"))]


@pytest.mark.parametrize("changes", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_the_preview_shows_mixed_images(project: Path, small_params, changes):
    split = open_split(paths.PREPARED / "train")
    statistics = fit_statistics(split.images)
    plain, mixed = (
        np.asarray(Image.open(io.BytesIO(augment.preview(split, statistics, small_params(augment=extra)))))
        for extra in ({}, changes)
    )
    assert plain.shape == mixed.shape
    differs = (plain != mixed).any((1, 2))
    top = np.flatnonzero(differs)[0]
    assert top > 50  # the originals, in the first row, are not mixed
