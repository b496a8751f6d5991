"""The stage that fits what augmentation needs, and shows what it does."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from pipeline import augment, paths
from pipeline.data.augmentation import Policy, fit_statistics
from pipeline.data.augmentation.examples import examples, mixing_examples
from pipeline.data.copies import pictures
from pipeline.data.store import Split, open_split
from pipeline.errors import Mistake
from pipeline.pictures import _LARGEST_TILE, _PLANE_TILE, contact_sheet, spread
from pipeline.plane import HUES
from pipeline.training.fit import TrainingData
from tests.pipeline.test_train import OFFLINE, records


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
    rows = len(examples(100, 3)) + len(mixing_examples()) + 1
    assert rows * _LARGEST_TILE < sheet.shape[0] < rows * (_LARGEST_TILE + 30) + 100
    assert sheet.shape[1] > 3 * augment.TRANSFORMS_IMAGES * _LARGEST_TILE


def test_the_sheet_does_not_depend_on_the_policy_in_force(small_params):
    split = colours(16)
    statistics = fit_statistics(split.images)
    own = {"brightness": 0.5, "crop_size": 9, "automatic": "rand", "per_class": {"a": {"blur": 1.0}}, "mixup": 1.0}
    first, second = (augment.transforms_preview(split, statistics, small_params(augment=o)) for o in ({}, own))
    assert first == second


def test_a_class_that_is_not_there_stops_the_stage_before_it_writes(project, small_params):
    before = {file.name: file.read_bytes() for file in paths.AUGMENTED.iterdir()}
    params = small_params(augment={"per_class": {"drak": {"blur": 1.0}}})
    with pytest.raises(Mistake, match=r"augment\.per_class\.drak: no such class; did you mean 'dark'"):
        augment.run(params)
    assert {file.name: file.read_bytes() for file in paths.AUGMENTED.iterdir()} == before


def test_copies_are_a_split_that_no_tracking_server_gets(project, small_params):
    own = {"per_class": {"light": {"cutout_size": 0}}}
    params = small_params(tracking=OFFLINE, augment={"copies": 2, "mixup": 0.4, "cutout_size": 2, **own})
    augment.run(params)
    written = {file.relative_to(paths.AUGMENTED).as_posix() for file in paths.AUGMENTED.rglob("*") if file.is_file()}
    sheets = {"policy.json", "preview.png", "preview_transforms.png"}
    assert written == sheets | {f"copies/{name}" for name in ("images.npy", "labels.npy", "index.parquet")}
    data = TrainingData.open()
    copies = open_split(paths.COPIES)
    assert copies.labels.tolist() == 3 * data.train.labels.tolist()
    assert np.array_equal(copies.images[:90], data.train.images)
    for epoch in range(2):  # not mixed, and each class as it has it
        expected = pictures(data.train.images, data.policy(params), epoch, np.arange(90))
        assert np.array_equal(copies.images[90 * (1 + epoch) : 90 * (2 + epoch)], expected)
    assert {record["path"] for record in records() if record["type"] == "artifact"} >= sheets
    assert not [record for record in records() if "copies" in str(record.get("path"))]


@pytest.mark.parametrize("changes", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_the_preview_shows_mixed_images(project, small_params, changes):
    split = open_split(paths.PREPARED / "train")
    statistics = fit_statistics(split.images)

    def preview(params) -> np.ndarray:
        used = Policy(params.augment, statistics, split.images.shape[1], params.seed)
        return opened(augment.preview(split, used, params))

    plain, mixed = preview(small_params()), preview(small_params(augment=changes))
    assert plain.shape == mixed.shape
    differs = (plain != mixed).any((1, 2))
    assert np.flatnonzero(differs)[0] > 50  # the originals, in the first row, are not mixed


def test_the_preview_shows_the_copies_where_there_are_some(project, small_params):
    split = open_split(paths.PREPARED / "train")
    statistics = fit_statistics(split.images)
    params = small_params(augment={"copies": 2, "mixup": 1.0})
    used = Policy(params.augment, statistics, split.images.shape[1], params.seed)
    samples = spread(90, augment.PREVIEW_IMAGES)
    rows = [("originals", split.images[samples])]
    rows += [(f"copy {copy + 1}", pictures(split.images, used, copy, samples)) for copy in range(2)]
    assert augment.preview(split, used, params) == contact_sheet(rows)


@pytest.mark.parametrize("key", ["mixup", "cutmix"])
def test_the_sheet_mixes_more_at_a_higher_strength(small_params, key):
    split, statistics = colours(16), fit_statistics(colours(16).images)
    samples = np.arange(30)
    change = []
    for _, changes in mixing_examples()[key]:
        shown = augment._telling(split, statistics, small_params().augment.off().with_changes(changes), samples, 0)
        change.append(np.abs(shown.astype(int) - split.images[samples]).mean())
    assert change == sorted(change)
    assert 0 < change[0] < 0.7 * change[-1]


def points() -> Split:
    images = np.random.default_rng(0).integers(64, 192, (30, 1, 1, 2), dtype=np.uint8)
    return Split(images=images, labels=np.arange(30) % 2, folder=paths.PREPARED)


def test_points_of_the_plane_are_previewed_as_planes_coloured_by_class(small_params):
    split = points()
    statistics = fit_statistics(split.images)
    params = small_params(augment={"crop_padding": 0})

    def preview(params) -> np.ndarray:
        return opened(augment.preview(split, Policy(params.augment, statistics, 1, params.seed), params))

    sheet = preview(params)
    hues = [(sheet == hue).all(-1) for hue in HUES[:3]]
    assert hues[0].any()
    assert hues[1].any()
    assert not hues[2].any()
    noisy = small_params(augment={"crop_padding": 0, "noise": 0.1})
    moved = preview(noisy)
    assert moved.shape == sheet.shape
    assert not np.array_equal(moved, sheet)
    transforms = opened(augment.transforms_preview(split, statistics, params))
    assert len(examples(1, 2)) == 3
    assert transforms.shape[0] > 4 * _PLANE_TILE
    assert (transforms[-_PLANE_TILE:, -_PLANE_TILE:] == HUES[1]).all(-1).any()  # also of the last and strongest
