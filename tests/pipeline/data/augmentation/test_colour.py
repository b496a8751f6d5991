"""Colour maps against their formulas, in float64."""

import numpy as np
import pytest

from pipeline import seeding
from tests.pipeline.data.test_augmentation import IMAGES, OFF, STATISTICS, pixels, policy

LUMA = np.array([0.299, 0.587, 0.114])


def test_pca_shift_is_alexnets_computed_directly():
    """[p1 p2 p3][a1 l1, a2 l2, a3 l3]^T, p and l of the covariance of the training pixels in [0, 1]."""
    flat = IMAGES.reshape(-1, 3).astype(np.float64) / 255
    values, vectors = np.linalg.eigh(np.cov(flat.T, bias=True))
    order = np.argsort(-values)
    values, vectors = values[order], vectors[:, order]
    vectors = vectors * np.sign((vectors * np.array(STATISTICS.eigenvectors)).sum(0))  # a direction has two signs
    samples = [3, 0, 17]
    alpha = 0.3 * seeding.normal(5, "pca", 2, samples, 3)
    found = pixels(policy(OFF.with_changes({"pca_shift": 0.3}), seed=5), 2, samples)
    for image, factors, one in zip(IMAGES[samples], alpha, found, strict=True):
        expected = image / 255.0
        for component in range(3):
            expected = expected + vectors[:, component] * values[component] * factors[component]
        assert np.abs(one - expected).max() < 1e-6


def test_hue_turns_chroma_and_keeps_luma_and_grey():
    samples = list(range(40))
    found = pixels(policy(OFF.with_changes({"hue_degrees": 90.0})), 0, samples).astype(np.float64)
    image = IMAGES / 255.0
    assert np.abs((found - image) @ LUMA).max() < 1e-6
    grey = np.repeat(IMAGES[..., :1], 3, axis=3)
    assert np.abs(pixels(policy(OFF.with_changes({"hue_degrees": 90.0})), 0, samples, grey) - grey / 255).max() < 1e-6
    # Chroma as a complex number, by the NTSC's axes: turned by one angle an image, its length kept.
    axes = np.array([0.5959 + 0.2115j, -0.2746 - 0.5227j, -0.3213 + 0.3112j])
    turn = (found @ axes) / (image @ axes)
    assert np.abs(np.abs(turn) - 1).max() < 0.02  # the axes have four digits, and dark pixels little chroma
    angles = np.angle(np.median(turn.real, (1, 2)) + 1j * np.median(turn.imag, (1, 2)), deg=True)
    assert np.abs(np.angle(turn, deg=True) - angles[:, None, None]).max() < 2
    assert np.abs(angles).max() <= 90
    assert angles.min() < -60
    assert angles.max() > 60


@pytest.mark.parametrize("name", ["contrast", "brightness", "saturation", "hue_degrees", "pca_shift"])
def test_colour_leaves_places_alone(name):
    """What becomes of a pixel depends on its own channels alone."""
    image = np.full((1, 9, 9, 3), 90, dtype=np.uint8)
    image[0, 4, 4] = 30, 200, 120
    found = pixels(policy(OFF.with_changes({name: 0.5})), 0, [0], image)[0]
    elsewhere = np.ones((9, 9), dtype=bool)
    elsewhere[4, 4] = False
    assert np.ptp(found[elsewhere], axis=0).max() == 0
    alone = pixels(policy(OFF.with_changes({name: 0.5})), 0, [0], np.tile(image[:, 4:5, 4:5], (1, 9, 9, 1)))[0]
    assert np.array_equal(alone[4, 4], found[4, 4])
