"""The views of test-time augmentation against pictures cut by hand."""

import numpy as np
import pytest

from pipeline.data.views import PLAIN, VIEWS, Averaged
from pipeline.params import fields
from pipeline.params.tree import Evaluate

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 2), dtype=np.uint8)


def views(name: str, pixels: int = 2, seen: int | None = None, images: np.ndarray = IMAGES) -> list[np.ndarray]:
    return list(Averaged(name, pixels).of(images, seen))


def equal(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def test_params_yaml_names_every_set():
    assert fields.choices(Evaluate.model_fields["tta"]) == list(VIEWS)


def test_none_is_the_image():
    assert equal(views("none"), [IMAGES])
    assert Averaged("none") == PLAIN


def test_flip_is_the_image_and_its_mirror():
    assert equal(views("flip"), [IMAGES, np.flip(IMAGES, 2)])


def test_shifts_move_the_image_and_repeat_its_edge():
    """Looking up shows the image lower."""
    top = np.concatenate([IMAGES[:, :1], IMAGES[:, :1], IMAGES[:, :-2]], axis=1)
    bottom = np.concatenate([IMAGES[:, 2:], IMAGES[:, -1:], IMAGES[:, -1:]], axis=1)
    left = np.concatenate([IMAGES[:, :, :1], IMAGES[:, :, :1], IMAGES[:, :, :-2]], axis=2)
    right = np.concatenate([IMAGES[:, :, 2:], IMAGES[:, :, -1:], IMAGES[:, :, -1:]], axis=2)
    assert equal(views("shifts"), [IMAGES, top, bottom, left, right])


def test_ten_crop_of_a_model_that_takes_the_whole_image():
    padded = np.pad(IMAGES, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    crops = [padded[:, top : top + 8, left : left + 8] for top, left in [(3, 3), (0, 0), (0, 6), (6, 0), (6, 6)]]
    assert equal(views("ten_crop", 3), crops + [np.flip(crop, 2) for crop in crops])


def seen(name: str, pixels: int, side: int) -> list[np.ndarray]:
    """What a model sees that takes the centre of each view."""
    start = (8 - side) // 2
    return [view[:, start : start + side, start : start + side] for view in views(name, pixels, side)]


@pytest.mark.parametrize(("side", "middle"), [(6, 1), (5, 1), (4, 2), (1, 3)])
def test_ten_crop_takes_corners_centre_and_mirrors(side, middle):
    """AlexNet's, of a model that crops; `pixels` plays no part."""
    end = 8 - side
    places = [(middle, middle), (0, 0), (0, end), (end, 0), (end, end)]
    crops = [IMAGES[:, top : top + side, left : left + side] for top, left in places]
    assert equal(seen("ten_crop", 5, side), crops + [np.flip(crop, 2) for crop in crops])


@pytest.mark.parametrize("side", [6, 5, 4])
def test_flip_of_a_model_that_crops_is_the_mirror_of_its_crop(side):
    start = (8 - side) // 2
    crop = IMAGES[:, start : start + side, start : start + side]
    assert equal(seen("flip", 1, side), [crop, np.flip(crop, 2)])


@pytest.mark.parametrize("side", [6, 5])
def test_shifts_of_a_model_that_crops_show_what_is_there(side):
    places = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    crops = [IMAGES[:, top : top + side, left : left + side] for top, left in places]
    assert equal(seen("shifts", 1, side), crops)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("side", [8, 5])
def test_every_set_begins_with_the_image_and_counts_itself(name, side):
    found = views(name, 2, side)
    assert len(found) == Averaged(name).count == len(set(VIEWS[name]))
    assert np.array_equal(found[0], IMAGES)
    assert all(view.shape == IMAGES.shape and view.flags.c_contiguous for view in found)


@pytest.mark.parametrize("name", VIEWS)
def test_an_image_does_not_depend_on_its_batch(name):
    alone = views(name, images=IMAGES[1:2])
    assert equal([view[1:2] for view in views(name)], alone)
