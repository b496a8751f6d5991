"""Where pixels come from, against resampling written out in float64; crops, flips and bending by their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.augmentation import Policy, render
from pipeline.data.augmentation.deformation import displacements, vectors
from pipeline.data.augmentation.geometry import Frame, are_whole, copied, perspective, scale, shear
from pipeline.data.augmentation.strengths import Numbers, Variants
from pipeline.errors import Mistake
from tests.pipeline.data.test_augmentation import IMAGES, OFF, STATISTICS, pixels, policy


def resampled(image: np.ndarray, matrix: np.ndarray, side: int, bent: np.ndarray | None = None) -> np.ndarray:
    """Bilinear, black outside, pixel by pixel: (side, side, C) float64."""
    size = len(image)
    result = np.zeros((side, side, image.shape[2]))
    for y in range(side):
        for x in range(side):
            across, down, w = matrix @ [x, y, 1.0]
            across, down = across / w, down / w
            if bent is not None:
                across, down = across + bent[0, y, x], down + bent[1, y, x]
            left, top = int(np.floor(across)), int(np.floor(down))
            for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
                if 0 <= column < size and 0 <= row < size:
                    weight = (1 - abs(across - column)) * (1 - abs(down - row))
                    result[y, x] += weight * image[row, column]
    return result


WARPED = {
    "affine": {"rotation_degrees": 40.0, "scale": 0.5, "shear_degrees": 20.0, "translation": 0.2},
    "cropped": {"resized_crop": 0.8, "resized_crop_aspect": 0.5, "horizontal_flip": True, "crop_size": 7},
    "mirrored": {"rotation_degrees": 10.0, "crop_padding": 3, "horizontal_flip": True, "vertical_flip": True},
    "perspective": {"perspective": 0.2, "rotation_degrees": 20.0, "crop_size": 6},
    "chosen": {"automatic": "rand", "automatic_magnitude": 1.0, "automatic_operations": 3, "crop_padding": 1},
}


@pytest.mark.parametrize("changes", WARPED.values(), ids=WARPED)
def test_pixels_are_those_of_an_independent_resampler(changes, monkeypatch):
    monkeypatch.setattr("pipeline.data.augmentation.automatic.GREATEST", {"rotation_degrees": 30.0, "scale": 0.3})
    monkeypatch.setattr("pipeline.data.augmentation.automatic.CHOICES", ("rotation_degrees", "scale"))
    used = policy(OFF.with_changes(changes))
    samples = np.arange(6)
    for image, found, matrix in zip(IMAGES, pixels(used, 1, samples), used.geometry(1, samples), strict=False):
        assert np.abs(found - resampled(image, matrix, len(found)) / 255).max() < 1e-4


def test_bending_is_a_cubic_spline_of_its_vectors_added_to_the_map():
    used = policy(OFF.with_changes({"elastic": 0.1, "rotation_degrees": 15.0}))
    _, maps = used.augmented(IMAGES, 0, np.arange(4))
    side, cells = 9, 4
    bent = np.zeros((4, 2, side, side))
    for y in range(side):
        for x in range(side):
            (i, s), (j, t) = (divmod((at + 0.5) / side * cells, 1) for at in (y, x))
            i, j = int(i), int(j)
            down, across = (
                np.array([(1 - r) ** 3, 3 * r**3 - 6 * r**2 + 4, -3 * r**3 + 3 * r**2 + 3 * r + 1, r**3]) / 6
                for r in (s, t)
            )
            bent[:, :, y, x] = (maps.bending.numpy()[:, :, i : i + 4, j : j + 4] * np.outer(down, across)).sum((2, 3))
    assert np.allclose(displacements(maps.bending, side).numpy(), bent, atol=1e-12)
    for image, found, matrix, own in zip(
        IMAGES, pixels(used, 0, list(range(4))), used.geometry(0, np.arange(4)), bent, strict=False
    ):
        assert np.abs(found - resampled(image, matrix, side, own) / 255).max() < 1e-4


def test_the_displacements_deviate_by_the_strength():
    numbers = Numbers(0, 0, np.arange(4000), Variants((OFF.with_changes({"elastic": 0.05}),)))
    bent = displacements(torch.from_numpy(vectors(numbers, 32)), 32)
    assert bent.std(0).mean().item() == pytest.approx(0.05 * 32, rel=0.1)
    assert abs(bent.mean().item()) < 0.03  # 4 standard deviations


@pytest.mark.parametrize("transform", [scale, shear, perspective], ids=["scale", "shear", "perspective"])
def test_warps_reach_their_strength_and_no_further(transform):
    augment = OFF.with_changes({"scale": 0.5, "shear_degrees": 20.0, "perspective": 0.2})
    matrices = transform(Numbers(0, 0, np.arange(5000), Variants((augment,))), Frame(9, 9))
    if transform is scale:
        found = 1 / matrices[:, 0, 0]
        assert found.min() == pytest.approx(1 / 1.5, rel=0.01)
        assert found.max() == pytest.approx(1.5, rel=0.01)
        assert np.median(found) == pytest.approx(1, abs=0.03)
    if transform is shear:
        assert np.allclose(np.linalg.det(matrices), 1)
        assert np.rad2deg(np.arctan(np.abs(matrices[:, 0, 1]).max())) == pytest.approx(20, abs=0.1)
    if transform is perspective:
        corners = np.array([[-0.5, -0.5, 1], [8.5, -0.5, 1], [8.5, 8.5, 1], [-0.5, 8.5, 1]]).T
        moved = matrices @ corners
        assert (moved[:, 2] > 0).all()  # no corner goes behind the eye
        away = np.abs(moved[:, :2] / moved[:, 2:] - corners[:2])
        assert away.max() == pytest.approx(0.2 * 9, rel=0.01)


def test_an_alternating_flip_mirrors_every_image_in_every_second_epoch():
    used = policy(OFF.with_changes({"alternating_flip": True}))
    flips = [used.geometry(epoch, np.arange(2000))[:, 0, 0] < 0 for epoch in range(4)]
    assert np.array_equal(flips[0], ~flips[1])
    assert np.array_equal(flips[0], flips[2])
    assert np.array_equal(flips[1], flips[3])
    assert flips[0].mean() == pytest.approx(0.5, abs=0.05)


def test_resized_crops_lie_inside_and_cover_all_areas():
    used = policy(OFF.with_changes({"resized_crop": 0.75, "resized_crop_aspect": 1 / 3}))
    matrices = used.geometry(0, np.arange(4000))
    first, last = matrices @ [-0.5, -0.5, 1], matrices @ [8.5, 8.5, 1]
    assert first[:, :2].min() >= -0.5 - 1e-9
    assert last[:, :2].max() <= 8.5 + 1e-9
    width, height = ((last - first)[:, :2] / 9).T
    area, aspect = width * height, width / height
    assert area.min() == pytest.approx(0.25, abs=0.01)
    assert area.max() == pytest.approx(1, abs=0.02)
    assert np.median(area) == pytest.approx(0.62, abs=0.02)
    assert aspect.min() >= 0.75 - 1e-9
    assert aspect.max() <= 4 / 3 + 1e-9


def test_a_smaller_crop_is_a_window_at_random_and_in_evaluation_the_centre():
    used = policy(OFF.with_changes({"crop_size": 6}))
    offsets = used.geometry(0, np.arange(3000))[:, :2, 2]
    for axis in range(2):
        values, counts = np.unique(offsets[:, axis], return_counts=True)
        assert values.tolist() == [0, 1, 2, 3]
        assert counts == pytest.approx(750, abs=110)
    found = pixels(used, 0, [5])[0]
    left, top = offsets[5].astype(int)
    assert np.array_equal(found, IMAGES[5, top : top + 6, left : left + 6] * np.float32(1 / 255))
    batch, maps = used.plain(IMAGES, np.arange(3))
    assert np.array_equal(batch, IMAGES[:3, 1:7, 1:7])
    assert render(torch.from_numpy(batch), maps).shape == (3, 3, 6, 6)


def test_windows_are_copied_beside_images_that_are_resampled():
    """Of one batch, where some classes are rotated and what the network sees is smaller than the image."""
    plain = OFF.with_changes({"crop_size": 6, "horizontal_flip": True})
    turned = plain.with_changes({"rotation_degrees": 30.0})
    own = Variants((turned, plain), np.arange(len(IMAGES)) % 2)
    samples = np.arange(12)
    found = pixels(Policy(turned, STATISTICS, 9, 0, own), 0, samples)
    assert np.array_equal(found[1::2], pixels(policy(plain), 0, samples)[1::2])
    assert np.array_equal(found[::2], pixels(policy(turned), 0, samples)[::2])


def test_a_crop_larger_than_the_images_is_refused():
    with pytest.raises(Mistake, match=r"augment\.crop_size: 10 is more than the images' 9 pixels"):
        Policy(OFF.with_changes({"crop_size": 10}), STATISTICS, 9, 0)


@settings(max_examples=40)
@given(
    left=st.integers(-14, 14),
    top=st.integers(-14, 14),
    mirrored=st.tuples(st.booleans(), st.booleans()),
    side=st.integers(1, 9),
)
def test_copying_is_resampling_where_pixels_are_whole(left, top, mirrored, side):
    matrix = np.eye(3)
    matrix[:2, 2] = left, top
    for axis in range(2):
        if mirrored[axis]:
            flip = np.eye(3)
            flip[axis, axis], flip[axis, 2] = -1, side - 1
            matrix = matrix @ flip
    assert are_whole(matrix[None]).all()
    found = copied(IMAGES[:1].copy(), matrix[None], side)
    assert np.array_equal(found[0], resampled(IMAGES[0], matrix, side))


@pytest.mark.parametrize("change", [(0, 0, 0.5), (0, 1, 1e-9), (1, 2, 0.5), (2, 0, 1e-9), (1, 1, -0.999)])
def test_what_is_not_whole_is_not_copied(change):
    row, column, value = change
    matrix = np.eye(3)
    matrix[row, column] = value
    assert not are_whole(matrix[None]).any()
