"""Hard cases and points: labels counted again from the pixels; no line tells them apart, a small network does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.sources import open_source
from pipeline.data.sources.hard_cases import RANGE

CENTRES = 1.8 * np.array([[0, 1], [-(3**0.5) / 2, -0.5], [3**0.5 / 2, -0.5]])


def made(kind: str, **settings: Any) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Stored pixels as numbers in [-1, 1] (N, D), and labels."""
    source: Any = open_source(kind, None, Path(), {"images": 2000, "seed": 0, **settings})
    found = source.scan().found
    contents = dict(source.contents([item.path for item in found]))
    pixels = np.stack([np.frombuffer(contents[item.path], np.uint8) for item in found])
    return (pixels - 127.5) / 127.5, np.array([item.label for item in found])


def hard(case: str, dimensions: int = 2) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    x, labels = made("hard_cases", case=case, dimensions=dimensions)
    return x * RANGE[case], labels


@pytest.mark.parametrize("dimensions", [1, 2, 16, 64])
def test_parity_counts_the_pixels_above_zero(dimensions: int) -> None:
    x, labels = hard("parity", dimensions)
    assert [("even", "odd")[sum(value > 0 for value in row) % 2] for row in x.tolist()] == labels.tolist()
    if dimensions == 2:
        np.testing.assert_array_equal(labels == "odd", (x[:, 0] > 0) != (x[:, 1] > 0))  # XOR
    assert abs(x).min() > 0.1


@pytest.mark.parametrize("dimensions", [2, 16, 64, 1024])
def test_the_ring_is_where_the_norm_is_between_1_and_2(dimensions: int) -> None:
    x, labels = hard("ring", dimensions)
    norm = np.linalg.norm(x, axis=1)
    np.testing.assert_array_equal(labels == "ring", (norm >= 1) & (norm <= 2))
    assert min((norm < 1).sum(), (norm > 2).sum()) > 200  # the rest is on both sides
    assert 0.45 < (labels == "ring").mean() < 0.55


def test_the_modes_are_three_separate_discs() -> None:
    x, labels = hard("modes")
    distances = np.linalg.norm(x[:, None] - CENTRES, axis=2)
    clear = abs(distances.min(1) - 0.6) > 0.02  # centres are whole numbers of units
    np.testing.assert_array_equal((labels == "modes")[clear], (distances.min(1) < 0.6)[clear])
    assert np.bincount(distances[labels == "modes"].argmin(1)).min() > 250
    assert (labels == "rest").mean() > 0.4


def test_the_modes_of_pictures_are_three_patterns() -> None:
    x, labels = hard("modes", 64)
    right = np.tile(np.repeat([-1, 1], 4), 8) / 8  # unit vectors of the plane that CENTRES lie in
    below = np.repeat([-1, 1], 32) / 8
    distances = np.linalg.norm(x[:, None] - CENTRES @ np.stack([right, below]), axis=2)
    clear = abs(distances.min(1) - 0.6) > 0.05
    np.testing.assert_array_equal((labels == "modes")[clear], (distances.min(1) < 0.6)[clear])
    assert clear.mean() > 0.95
    assert np.bincount(distances[labels == "modes"].argmin(1)).min() > 250


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # sixty epochs are enough here
@pytest.mark.parametrize("case", ["parity", "ring", "modes"])
def test_a_line_fails_and_a_small_network_does_not(case: str) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    x, labels = hard(case)
    line = LogisticRegression().fit(x[:1500], labels[:1500]).score(x[1500:], labels[1500:])
    assert line < 0.68  # the share of the larger class, and a little
    network = MLPClassifier((32, 32), learning_rate_init=0.01, max_iter=60, tol=0, random_state=0)
    assert network.fit(x[:1500], labels[:1500]).score(x[1500:], labels[1500:]) > 0.97


# --- points -----------------------------------------------------------------------------------------------------------


def plane(figure: str, classes: int, noise: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    x, labels = made("points", figure=figure, classes=classes, noise=noise)
    return x, labels.astype(np.int64)


def test_clusters_without_noise_are_one_point_a_class() -> None:
    x, labels = plane("clusters", 4)
    assert len(np.unique(x, axis=0)) == 4
    moved, _ = plane("clusters", 4, noise=0.1)
    assert (moved - x).std(axis=0) == pytest.approx(0.1, rel=0.06)
    np.testing.assert_array_equal(labels, np.arange(2000) % 4)


def test_rings_lie_about_one_another() -> None:
    x, labels = plane("ring", 3)
    norm = np.linalg.norm(x, axis=1)
    assert norm[labels == 0].max() < 0.21
    assert norm[labels == 1] == pytest.approx(0.4, abs=0.01)
    assert norm[labels == 2] == pytest.approx(0.8, abs=0.01)


def test_xor_is_a_sign() -> None:
    x, labels = plane("xor", 2)
    np.testing.assert_array_equal(labels == 1, x[:, 0] * x[:, 1] < 0)
    assert len({(a, b) for a, b in np.sign(x).tolist()}) == 4


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_spiral_arm_is_the_first_one_turned(classes: int) -> None:
    x, labels = plane("spiral", classes)
    norm, turns = np.linalg.norm(x, axis=1), np.arctan2(x[:, 1], x[:, 0]) / (2 * np.pi)
    off = turns - (norm - 0.08) - labels / classes  # 0.8 of a turn over a radius of 0.8
    assert abs(off - np.round(off)).max() < 0.02
