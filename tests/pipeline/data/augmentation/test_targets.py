"""Boxes and masks move with their image: the box of a moved mask is the moved box."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.augmentation import Policy
from pipeline.data.augmentation.geometry import WARPS, WINDOWS
from pipeline.data.augmentation.targets import moved_boxes, moved_masks
from tests.pipeline.data.test_augmentation import OFF, STATISTICS, TABLE

SIDE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
AXES_KEPT = ("scale", "translation", *WINDOWS)
MOVING = {name: {name: TABLE[name][-1].changes[name]} for name in (*WARPS, *WINDOWS)} | {
    "crop_padding": {"crop_padding": 6},
    "crop_size": {"crop_size": 20, "crop_padding": 2, "horizontal_flip": True},
    "elastic": {"elastic": 0.04},
    "automatic": {"automatic": "rand"},
    "together": {"elastic": 0.02, "rotation_degrees": 20.0, "perspective": 0.1, "crop_padding": 3, "crop_size": 28},
}
box = st.tuples(st.integers(0, 25), st.integers(0, 25), st.integers(3, 20), st.integers(3, 20)).map(
    lambda b: (b[0], b[1], min(b[0] + b[2], SIDE), min(b[1] + b[3], SIDE))
)


@pytest.mark.parametrize("name", MOVING)
@given(boxes=st.lists(box, min_size=4, max_size=4), epoch=st.integers(0, 30))
def test_the_box_of_a_moved_mask_is_the_moved_box(name, boxes, epoch):
    _, maps = Policy(OFF.with_changes(MOVING[name]), STATISTICS, SIDE, 0).augmented(IMAGES, epoch, np.arange(4))
    masks = torch.zeros(4, SIDE, SIDE, dtype=torch.int64)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 7
    moved = moved_masks(masks, maps).numpy()
    found, visible = moved_boxes(np.array(boxes, dtype=np.float64), maps, SIDE)
    side = moved.shape[1]
    assert found.min() >= 0
    assert found.max() <= side
    assert ((visible >= 0) & (visible <= 1 + 1e-9)).all()
    for mask, edges, share in zip(moved, found, visible, strict=True):
        if not mask.any():
            assert share < 0.9 or np.prod(edges[2:] - edges[:2]) < 2
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        expected = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        outwards = (edges - expected) * [-1, -1, 1, 1]  # by how much the box goes beyond the mask
        assert outwards.min() >= -0.51  # the nearest pixel is up to half a pixel away
        if name in AXES_KEPT or name == "crop_size":
            assert np.abs(edges - expected).max() <= 1
        if name == "elastic":
            assert outwards.max() <= 2.5  # a curved edge: the mask's outermost pixel may be one away from it


@pytest.mark.parametrize("name", sorted(set(TABLE) - set(MOVING) - {"automatic: trivial", "automatic: rand"}))
def test_what_moves_no_pixel_moves_no_box(name):
    augment = OFF.with_changes(TABLE[name][-1].changes)
    _, maps = Policy(augment, STATISTICS, SIDE, 0).augmented(IMAGES, 0, np.arange(4))
    boxes = np.array([[0, 0, 32, 32], [3, 4, 5, 6], [0, 10, 7, 31], [1.5, 2.5, 3.25, 4.75]])
    found, visible = moved_boxes(boxes, maps, SIDE)
    assert np.array_equal(found, boxes)
    assert np.array_equal(visible, np.ones(4))
    masks = torch.arange(4 * SIDE * SIDE).view(4, SIDE, SIDE)
    assert torch.equal(moved_masks(masks, maps), masks)


def test_evaluation_moves_boxes_into_the_centre_crop():
    _, maps = Policy(OFF.with_changes({"crop_size": 20}), STATISTICS, SIDE, 0).plain(IMAGES, np.arange(3))
    boxes = np.array([[6, 6, 26, 26], [0, 10, 16, 20], [27, 27, 32, 32]], dtype=np.float64)
    found, visible = moved_boxes(boxes, maps, SIDE)
    assert found.tolist() == [[0, 0, 20, 20], [0, 4, 10, 14], [20, 20, 20, 20]]
    assert visible.tolist() == [1, 10 / 16, 0]


def test_masks_keep_their_type_and_their_values():
    _, maps = Policy(OFF.with_changes({"rotation_degrees": 45.0}), STATISTICS, SIDE, 0).augmented(
        IMAGES, 0, np.arange(4)
    )
    for dtype in (torch.bool, torch.uint8, torch.int64):
        masks = (torch.arange(4 * SIDE * SIDE).view(4, SIDE, SIDE) % 3).to(dtype)
        moved = moved_masks(masks, maps)
        assert moved.dtype == dtype
        assert set(moved.unique().tolist()) == set(masks.unique().tolist()) | {0}


def test_masks_and_pixels_go_the_same_way():
    """A mask of one pixel in the middle of nowhere lands where the image's only bright pixel does."""
    images = np.zeros((4, SIDE, SIDE, 3), dtype=np.uint8)
    images[:, 13:16, 9:12] = 255
    used = Policy(OFF.with_changes(MOVING["together"]), STATISTICS, SIDE, 0)
    from tests.pipeline.data.test_augmentation import pixels

    bright = pixels(used, 0, [0, 1, 2, 3], images)[..., 0] > 0.75
    _, maps = used.augmented(images, 0, np.arange(4))
    mask = moved_masks(torch.from_numpy(images[..., 0] > 0), maps).numpy()
    assert bright.any()
    assert (bright <= mask).all()
