"""A descriptor says of an image what a direct float64 computation says, whatever its size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.checks import descriptor
from pipeline.data.checks.descriptor import LENGTH, SIDE, describe, unpack

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))


def images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def cells(grey: np.ndarray, side: int) -> np.ndarray:
    """Means over cells by splitting every pixel into side x side parts: (B, H, W) to (B, side, side)."""
    count, height, width = grey.shape
    fine = grey.astype(np.float64).repeat(side, axis=1).repeat(side, axis=2)
    return fine.reshape(count, side, height, side, width).mean((2, 4))


@given(SHAPES, st.integers(0, 99))
def test_thumbnail_and_statistics_against_a_direct_computation(shape: tuple[int, int, int], seed: int) -> None:
    pixels = images((2, *shape), seed)
    weights = {1: [1.0], 3: [77 / 256, 150 / 256, 29 / 256]}.get(shape[2], [1 / shape[2]] * shape[2])
    grey = pixels.astype(np.float64) @ weights
    found = unpack(describe(pixels))
    assert np.abs(found.thumbnails - cells(grey, SIDE)).max() <= 1.0
    assert np.abs(found.brightness - grey.mean((1, 2))).max() <= 1.51  # pixels and the mean are rounded
    assert np.abs(found.contrast - grey.std((1, 2))).max() <= 1.0
    assert np.abs(found.lowest - grey.min((1, 2))).max() <= 1.0
    assert np.abs(found.highest - grey.max((1, 2))).max() <= 1.0


def test_worked_figures() -> None:
    pixels = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    pixels[0, :, 8:] = (255, 0, 0)  # the right half red: brightness 255 * 77 / 256 = 76.7
    found = unpack(describe(pixels))
    assert found.thumbnails[0, :, :8].max() == 0
    assert found.thumbnails[0, :, 8:].tolist() == [[77] * 8] * 16
    assert found.brightness[0] == 38  # each pixel's own brightness is cut to 76
    assert found.contrast[0] == 38.0
    assert found.colours[0, :, :2].tolist() == [[[128, 128]] * 2] * 4  # black has no colour
    assert found.colours[0, :, 2:].tolist() == [[[128, 255]] * 2] * 4  # red minus green: (255 + 256) // 2


@pytest.mark.parametrize("shape", [(5, 8, 8, 1), (5, 1, 1, 2), (3, 256, 256, 3), (0, 8, 8, 1)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert describe(images(shape)).shape == (shape[0], LENGTH)


def test_an_image_does_not_depend_on_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = images((7, 50, 30, 3))
    whole = describe(pixels)
    monkeypatch.setattr(descriptor, "_BLOCK_BYTES", 1)
    np.testing.assert_array_equal(describe(pixels), whole)
    np.testing.assert_array_equal(describe(pixels[3:4]), whole[3:4])


@given(SHAPES)
def test_the_mirror_image_has_the_mirrored_thumbnail(shape: tuple[int, int, int]) -> None:
    pixels = images((1, *shape))
    plain, mirrored = (unpack(describe(each)) for each in (pixels, np.ascontiguousarray(pixels[:, :, ::-1])))
    np.testing.assert_array_equal(plain.thumbnails[:, :, ::-1], mirrored.thumbnails)
    np.testing.assert_array_equal(plain.colours[:, :, ::-1], mirrored.colours)
