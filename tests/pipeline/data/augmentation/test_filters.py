"""Blur and noise against NumPy."""

from statistics import NormalDist

import numpy as np
import pytest
import torch

from pipeline.data.augmentation import filters
from tests.pipeline.data.test_augmentation import IMAGES, OFF, pixels, policy


def test_blur_is_a_gaussian_along_both_axes():
    deviations = np.array([0.0, 0.4, 1.3])
    weights = filters.blur_weights(deviations, 2.0)
    found = filters.blurred(
        torch.from_numpy(IMAGES[:3]).permute(0, 3, 1, 2).float(), torch.from_numpy(weights).float()
    ).numpy()
    assert np.array_equal(found[0].transpose(1, 2, 0), IMAGES[0])
    for image, one, deviation in zip(IMAGES[1:3], found[1:], deviations[1:], strict=True):
        steps = np.arange(-6, 7)
        kernel = np.exp(-(steps**2) / (2 * deviation**2))
        kernel /= kernel.sum()
        padded = np.pad(image.astype(np.float64), ((6, 6), (6, 6), (0, 0)), mode="edge")
        expected = sum(
            a * b * padded[6 + dy : 15 + dy, 6 + dx : 15 + dx]
            for a, dy in zip(kernel, steps, strict=True)
            for b, dx in zip(kernel, steps, strict=True)
        )
        assert np.abs(one.transpose(1, 2, 0) - expected).max() < 1e-3


def test_a_blur_keeps_brightness_in_the_middle():
    image = np.zeros((1, 9, 9, 3), dtype=np.uint8)
    image[0, 4, 4] = 255
    found = pixels(policy(OFF.with_changes({"blur": 1.0})), 0, [0], image)
    assert found.sum() == pytest.approx(3, abs=0.03)
    assert found[0, 4, 4, 0] < 1


def test_the_devices_numbers_are_lowbias32s():
    keys = np.array([0, 1, 0xFFFFFFFF, 123456789], dtype=np.uint32)
    found = filters.hashed(torch.from_numpy(keys.view(np.int32)), (3, 5)).numpy().view(np.uint32)
    x = (np.arange(15, dtype=np.uint32) * np.uint32(0x9E3779B9)).reshape(1, 3, 5) + keys[:, None, None]
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    assert np.array_equal(found, x)


def test_the_devices_numbers_are_spread_as_they_should_be():
    keys = torch.from_numpy(np.random.default_rng(0).integers(0, 2**32, 400, dtype=np.uint32).view(np.int32))
    normal, uniform = filters.normal(keys, (3, 16, 16)).double(), filters.uniform(keys, (3, 16, 16)).double()
    for quantile in (0.01, 0.25, 0.5, 0.9, 0.999):
        assert (normal < NormalDist().inv_cdf(quantile)).double().mean().item() == pytest.approx(quantile, abs=0.004)
        assert (uniform < quantile).double().mean().item() == pytest.approx(quantile, abs=0.004)
    flat = normal.flatten(1)
    assert abs((flat[:, 1:] * flat[:, :-1]).mean().item()) < 0.01  # of neighbours
    assert abs((flat[1:] * flat[:-1]).mean().item()) < 0.01  # of images


def test_noise_deviates_by_up_to_the_strength_and_not_twice_alike():
    used = policy(OFF.with_changes({"noise": 0.2}))
    same = np.full((400, 9, 9, 3), 128, dtype=np.uint8)
    noise = pixels(used, 0, list(range(400)), same) - 128 / 255
    deviations = noise.std((1, 2, 3))
    assert 0.17 < deviations.max() < 0.24
    assert np.median(deviations) == pytest.approx(0.1, abs=0.015)
    assert abs(noise.mean()) < 0.002
    again = pixels(used, 1, list(range(400)), same) - 128 / 255
    assert abs(np.corrcoef(noise.ravel(), again.ravel())[0, 1]) < 0.02
