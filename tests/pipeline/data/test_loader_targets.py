"""What comes along with a batch's pixels: numbers as they are, boxes where augmentation takes them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.losses import Located, Mixture
from pipeline.data.augmentation import Policy, fit_statistics
from pipeline.data.copies import write_copies
from pipeline.data.loader import Batches
from pipeline.data.mixing import mixing
from pipeline.data.store import Split, open_split, write_split
from tests.pipeline.boxed import CLASSES, SIDE, rectangles
from tests.pipeline.data.test_augmentation import OFF

IMAGES, LABELS, BOXES = rectangles(48, 3)
IMAGES = IMAGES.copy()
for _image, (_l, _t, _r, _b) in zip(IMAGES, BOXES.astype(int), strict=True):
    _image[_t:_b, _l:_r] = 255  # all full, so that nothing of the object is dark
NUMBERS = np.random.default_rng(0).normal(size=(48, 3))
SPLIT = Split(images=IMAGES, labels=LABELS, folder=None, targets=NUMBERS, boxes=BOXES)
STATISTICS = fit_statistics(IMAGES)
MOVES = {
    "nothing": {},
    "crop_padding": {"crop_padding": 4},
    "flips": {"horizontal_flip": True, "vertical_flip": True},
    "crop_size": {"crop_size": 12, "horizontal_flip": True},
    "resized_crop": {"resized_crop": 0.6},
    "affine": {"scale": 0.3, "translation": 0.2},
}


def batches(changes: dict, task: str, **options: object) -> Batches:
    policy = Policy(OFF.with_changes(changes), STATISTICS, SIDE, 0)
    return Batches(SPLIT, policy, 16, training=True, task=task, seed=5, **options)


@pytest.mark.parametrize("name", MOVES)
@given(epoch=st.integers(0, 50))
def test_boxes_are_around_the_object_that_is_rendered(name, epoch):
    loader = batches(MOVES[name], "localisation")
    loader.set_epoch(epoch)
    sharp = name not in ("resized_crop", "affine")
    for batch in loader:
        images, targets = batch.rendered()
        assert isinstance(targets, Located)
        side = images.shape[-1]
        assert targets.boxes.dtype == torch.float32
        assert 0 <= targets.boxes.min() <= targets.boxes.max() <= 1
        dark = -(STATISTICS.mean[0] / STATISTICS.std[0])
        bright = (1 - STATISTICS.mean[0]) / STATISTICS.std[0]
        for image, box in zip(images[:, 0].numpy(), targets.boxes.numpy() * side, strict=True):
            seen = image > (dark + bright) / 2
            if not seen.any():  # out of sight, or a sliver: what is left of the box is thinner than a pixel
                assert min(box[2] - box[0], box[3] - box[1]) < 1
                continue
            if not sharp and min(box[2] - box[0], box[3] - box[1]) < 2:  # its brightness is spread over its neighbours
                continue
            rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
            expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.abs(box - expected).max() <= (1e-3 if sharp else 1.01)


def test_a_validation_box_is_where_it_is_stored():
    policy = Policy(OFF.with_changes({"crop_size": 12}), STATISTICS, SIDE, 0)
    located = [batch.targets for batch in Batches(SPLIT, policy, 16, training=False, task="localisation")]
    boxes = torch.cat([targets.boxes for targets in located]).numpy()
    np.testing.assert_allclose(boxes, np.clip((BOXES - 2) / 12, 0, 1), atol=1e-6)
    assert torch.cat([targets.labels for targets in located]).tolist() == LABELS.tolist()


def test_numbers_stay_whatever_moves():
    loader = batches({"horizontal_flip": True, "rotation_degrees": 30.0}, "regression")
    for samples, batch in zip(loader._samples(0), loader, strict=True):
        assert batch.targets.dtype == torch.float32
        np.testing.assert_allclose(batch.targets.numpy(), NUMBERS[samples], rtol=1e-6)


def test_targets_depend_on_seed_epoch_and_sample_alone():
    policy = Policy(OFF.with_changes(MOVES["affine"]), STATISTICS, SIDE, 0)
    loaders = [Batches(SPLIT, policy, size, training=True, task="localisation", seed=5) for size in (16, 8)]
    assert torch.equal(*(torch.cat([batch.targets.boxes for batch in loader]) for loader in loaders))


def test_mixed_numbers_come_as_a_mixture():
    mixer = mixing(OFF.model_copy(update={"mixup": 0.4}), SIDE, len(SPLIT), 0)
    batch = next(iter(batches({}, "regression", mixing=mixer)))
    targets = batch.rendered()[1]
    assert isinstance(targets, Mixture)
    assert targets.labels.shape == targets.partner_labels.shape == (16, 3)


def test_a_batch_moves_with_its_boxes():
    batch = next(iter(batches({}, "localisation")))
    moved = batch.to(torch.device("meta"))
    assert isinstance(moved.targets, Located)
    assert {tensor.device.type for tensor in moved.targets} == {"meta"}


def test_copies_carry_targets_and_moved_boxes(tmp_path):
    write_split(tmp_path / "train", IMAGES, LABELS, ["x"] * 48, CLASSES, ["0" * 64] * 48, targets=NUMBERS, boxes=BOXES)
    split = open_split(tmp_path / "train")
    policy = Policy(OFF.with_changes({"crop_size": 12, "horizontal_flip": True}), STATISTICS, SIDE, 0)
    write_copies(tmp_path / "copies", split, policy, 2, CLASSES)
    copies = open_split(tmp_path / "copies")
    np.testing.assert_array_equal(copies.targets, np.tile(NUMBERS, (3, 1)))
    for image, box in zip(copies.images[:, :, :, 0], copies.boxes, strict=True):
        rows, columns = np.flatnonzero((image > 127).any(1)), np.flatnonzero((image > 127).any(0))
        np.testing.assert_allclose(box, [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1e-3)
