"""The images and their copies as a split: each the policy's picture of an epoch, whatever blocks it is written in."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.data.augmentation import Policy
from pipeline.data.copies import pictures, write_copies
from pipeline.data.mixing import mixing
from pipeline.data.store import INDEX, Split, arrays, open_split, write_split
from tests.pipeline.data.test_augmentation import ALL, IMAGES, OFF, STATISTICS, pixels, policy

COUNT = len(IMAGES)
CLASSES = ("a", "b", "c")


@pytest.fixture
def split(tmp_path) -> Split:
    labels = np.arange(COUNT) % 3
    names = [f"{index}.png" for index in range(COUNT)]
    hashes = [f"{index:064}" for index in range(COUNT)]
    write_split(tmp_path / "train", IMAGES, labels, names, CLASSES, hashes)
    return open_split(tmp_path / "train")


def test_a_picture_without_augmentation_is_the_image():
    """Through normalisation and back, to the byte."""
    plain = policy(OFF.model_copy(update={"normalization": "channel"}))
    assert np.array_equal(pictures(IMAGES, plain, 0, np.arange(COUNT)), IMAGES)


def test_a_picture_is_what_the_network_gets_as_bytes():
    samples = list(range(COUNT))[::-1]
    inputs = pixels(policy(ALL), 2, samples).astype(np.float64)
    expected = (inputs * STATISTICS.std + STATISTICS.mean) * 255
    found = pictures(IMAGES, policy(ALL), 2, np.array(samples))
    assert (expected > 255).any()
    assert (expected < 0).any()  # clipped, not wrapped
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 0.5 + 1e-3


def test_a_mixed_picture_has_pixels_of_both():
    mixer = mixing(OFF.model_copy(update={"cutmix": 1.0}), 9, COUNT, 0)
    assert mixer is not None
    partners, masks = mixer.draw(0, np.arange(COUNT))
    found = pictures(IMAGES, policy(OFF), 0, np.arange(COUNT), mixer)
    for image, partner, box, picture in zip(IMAGES, IMAGES[partners], masks.boxes.tolist(), found, strict=True):
        top, bottom, left, right = box
        expected = image.copy()
        expected[top:bottom, left:right] = partner[top:bottom, left:right]
        assert np.array_equal(picture, expected)


@pytest.mark.parametrize("rows", [1, 7, 40, 64, 1000])
def test_copies_are_the_epochs_pictures_whatever_the_block(split, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", rows * 9 * 9 * 3)
    gathered = []
    original = Policy.augmented

    def watched(self, images, epoch, samples):
        gathered.append(len(samples))
        return original(self, images, epoch, samples)

    monkeypatch.setattr(Policy, "augmented", watched)
    write_copies(tmp_path / "copies", split, policy(ALL), 3, CLASSES)
    assert max(gathered) <= rows  # at a time in memory
    copies = open_split(tmp_path / "copies")
    assert copies.images.shape == (4 * COUNT, 9, 9, 3)
    assert np.array_equal(copies.images[:COUNT], IMAGES)
    for epoch in range(3):
        expected = pictures(IMAGES, policy(ALL), epoch, np.arange(COUNT))
        assert np.array_equal(copies.images[(1 + epoch) * COUNT : (2 + epoch) * COUNT], expected)


def test_copies_are_of_what_the_network_sees(split, tmp_path):
    """The images among them as evaluation sees them."""
    cropped = policy(ALL.with_changes({"crop_size": 6}))
    write_copies(tmp_path / "copies", split, cropped, 1, CLASSES)
    copies = open_split(tmp_path / "copies")
    assert np.array_equal(copies.images[:COUNT], IMAGES[:, 1:7, 1:7])
    assert np.array_equal(copies.images[COUNT:], pictures(IMAGES, cropped, 0, np.arange(COUNT)))


def test_after_it_a_policy_only_normalizes():
    written = pictures(IMAGES, policy(ALL.with_changes({"crop_size": 6})), 0, np.arange(COUNT))
    after = policy(ALL.with_changes({"crop_size": 6, "mixup": 0.4})).after_it()
    expected = (written / 255.0 - STATISTICS.mean) / STATISTICS.std
    assert np.allclose(pixels(after, 3, list(range(COUNT)), written), expected, atol=1e-5)


def test_copies_keep_label_path_and_hash_of_their_image(split, tmp_path):
    write_copies(tmp_path / "copies", split, policy(ALL), 2, CLASSES)
    copies = open_split(tmp_path / "copies")
    assert copies.labels.tolist() == 3 * split.labels.tolist()
    assert copies.paths() == 3 * split.paths()
    one, two = (pq.read_table(tmp_path / name / INDEX).to_pylist() for name in ("train", "copies"))
    assert two == one + one + one


def test_equal_work_gives_equal_bytes(split, tmp_path):
    for name in ("first", "second"):
        write_copies(tmp_path / name, split, policy(ALL), 2, CLASSES)
    for file in sorted((tmp_path / "first").iterdir()):
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()
