"""The stage that fits what augmentation needs, and shows what it does."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from pipeline import augment, paths
from pipeline.data.augmentation import fit_statistics
from pipeline.data.augmentation.examples import examples
from pipeline.data.store import Split, open_split
from pipeline.errors import Mistake
from pipeline.pictures import _LARGEST_TILE, _PLANE_TILE
from pipeline.plane import HUES


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def colours(side: int) -> Split:
    images = np.random.default_rng(0).integers(0, 256, (30, side, side, 3), dtype=np.uint8)
    return Split(images=images, labels=np.zeros(30, dtype=np.int64), folder=paths.PREPARED)


def test_the_stage_writes_statistics_and_both_sheets_the_same_each_time(project, small_params, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    params = small_params(tracking={"drain_seconds": 0.0}, augment={"rotation_degrees": 10.0})
    found = []
    for _ in range(2):
        augment.run(params)
        found.append({file.name: file.read_bytes() for file in paths.AUGMENTED.iterdir()})
    assert set(found[0]) == {"policy.json", "preview.png", "preview_transforms.png"}
    assert found[0] == found[1]
    statistics = json.loads(found[0]["policy.json"])["statistics"]
    assert statistics["mean"] == list(fit_statistics(open_split(paths.PREPARED / "train").images).mean)


def test_the_sheet_shows_each_transform_and_shrinks_photographs(small_params):
    split = colours(100)
    sheet = opened(augment.transforms_preview(split, fit_statistics(split.images), small_params()))
    rows = len(examples(100, 3)) + 1
    assert rows * _LARGEST_TILE < sheet.shape[0] < rows * (_LARGEST_TILE + 30) + 100
    assert sheet.shape[1] > 3 * augment.TRANSFORMS_IMAGES * _LARGEST_TILE


def test_the_sheet_does_not_depend_on_the_policy_in_force(small_params):
    split = colours(16)
    statistics = fit_statistics(split.images)
    own = {"brightness": 0.5, "crop_size": 9, "automatic": "rand", "per_class": {"a": {"blur": 1.0}}}
    first, second = (augment.transforms_preview(split, statistics, small_params(augment=o)) for o in ({}, own))
    assert first == second


def test_a_class_that_is_not_there_stops_the_stage_before_it_writes(project, small_params):
    before = {file.name: file.read_bytes() for file in paths.AUGMENTED.iterdir()}
    params = small_params(augment={"per_class": {"drak": {"blur": 1.0}}})
    with pytest.raises(Mistake, match=r"augment\.per_class\.drak: no such class; did you mean 'dark'"):
        augment.run(params)
    assert {file.name: file.read_bytes() for file in paths.AUGMENTED.iterdir()} == before


def points() -> Split:
    images = np.random.default_rng(0).integers(64, 192, (30, 1, 1, 2), dtype=np.uint8)
    return Split(images=images, labels=np.arange(30) % 2, folder=paths.PREPARED)


def test_points_of_the_plane_are_previewed_as_planes_coloured_by_class(small_params):
    split = points()
    statistics = fit_statistics(split.images)
    params = small_params(augment={"crop_padding": 0})
    own = augment.Variants((params.augment,))
    sheet = opened(augment.preview(split, statistics, params, own))
    hues = [(sheet == hue).all(-1) for hue in HUES[:3]]
    assert hues[0].any()
    assert hues[1].any()
    assert not hues[2].any()
    noisy = small_params(augment={"crop_padding": 0, "noise": 0.1})
    moved = opened(augment.preview(split, statistics, noisy, augment.Variants((noisy.augment,))))
    assert moved.shape == sheet.shape
    assert not np.array_equal(moved, sheet)
    transforms = opened(augment.transforms_preview(split, statistics, params))
    assert len(examples(1, 2)) == 3
    assert transforms.shape[0] > 4 * _PLANE_TILE
    assert (transforms[-_PLANE_TILE:, -_PLANE_TILE:] == HUES[1]).all(-1).any()  # also of the last and strongest
