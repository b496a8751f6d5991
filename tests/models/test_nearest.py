"""The exact search: against whole numbers by NumPy, whatever the sizes, blocks and threads; both ways the same."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.nearest import plain, search

TEST = [[56, 32, 10, 18], [90, 23, 128, 133], [24, 26, 178, 200], [2, 0, 255, 220]]
TRAIN = [[10, 20, 24, 17], [8, 10, 89, 100], [12, 16, 178, 170], [4, 32, 233, 112]]
WAYS = ["compiled", "plain", "without integer products"]


def found(way: str, queries: np.ndarray, memory: np.ndarray, k: int, distance: str, threads: int | None = None):
    if way == "plain":
        answer = plain.nearest(torch.from_numpy(queries), torch.from_numpy(memory), k, distance)
        return tuple(part.numpy() for part in answer)
    with pytest.MonkeyPatch.context() as patch:
        if way == "without integer products":
            patch.setattr(search, "has_integer_products", lambda: False)
        return search.nearest(queries, memory, k, distance, threads)


def by_numpy(queries: np.ndarray, memory: np.ndarray, k: int, distance: str) -> tuple[np.ndarray, np.ndarray]:
    """In int64, a pair at a time; a stable sort keeps the lower index first."""
    differences = [[q.astype(np.int64) - m for m in memory] for q in queries]
    power = 1 if distance == "l1" else 2
    far = np.array([[(np.abs(d) ** power).sum() for d in row] for row in differences]).reshape(len(queries), -1)
    order = np.argsort(far, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(far, order, 1), order


def same(answer, expected) -> bool:
    return all(np.array_equal(a, e) and a.dtype == np.int64 for a, e in zip(answer, expected, strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_the_example_of_two_images(way):
    """Arithmetic that wraps at 256 says 1128."""
    test, train = (np.array(image, dtype=np.uint8).reshape(1, 16) for image in (TEST, TRAIN))
    assert np.abs(test - train).sum() == 1128
    assert found(way, test, train, 1, "l1")[0].item() == 456
    assert np.sqrt(found(way, test, train, 1, "l2")[0].item()) == pytest.approx(162.1110730, abs=5e-8)


@st.composite
def cases(draw, most: int = 200):
    """Few values, so that many distances are equal; all of them; constant images."""
    count, dimensions = draw(st.integers(1, most)), draw(st.integers(1, 150))
    low, high = draw(st.sampled_from([(0, 2), (0, 256), (254, 256), (0, 1), (255, 256), (127, 130)]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    images = generator.integers(low, high, (draw(st.integers(1, 6)) + count, dimensions)).astype(np.uint8)
    return images[count:], images[:count], draw(st.integers(1, count))


@pytest.mark.parametrize("distance", ["l1", "l2"])
@pytest.mark.parametrize("way", WAYS)
@given(case=cases(), threads=st.integers(1, 4))
def test_agrees_with_whole_numbers(way, distance, case, threads):
    assert same(found(way, *case, distance, threads), by_numpy(*case, distance))


@pytest.mark.parametrize("distance", ["l1", "l2"])
@pytest.mark.parametrize("way", WAYS)
@given(case=cases(most=60), blocks=st.tuples(st.integers(1, 5), st.integers(1, 70), st.integers(1, 70)))
def test_blocks_change_nothing(way, distance, case, blocks):
    queries, images, columns = blocks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_QUERIES", queries)
        patch.setattr(search, "_IMAGES", images)
        patch.setattr(search, "_CACHED_BYTES", images)
        patch.setattr(search, "_INTEGER_RUN", columns)
        patch.setattr(search, "_FLOAT_RUN", columns)
        patch.setattr(plain, "_BLOCKS", 1000)
        patch.setattr(plain, "_IMAGES", images)
        patch.setattr(plain, "_PRODUCT_RUN", columns)
        patch.setattr(plain, "_DIFFERENCE_RUN", columns)
        assert same(found(way, *case, distance), by_numpy(*case, distance))


@pytest.mark.parametrize("distance", ["l1", "l2"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dimensions", [33_026, 65_536, 70_000, 224 * 224 * 3])
def test_distances_that_32_bits_do_not_hold(way, distance, dimensions):
    """255^2 of 33,026 pixels is above 2^31; the products alone are from 131,072 on, and above 2^24 from 1,025 on."""
    rows = [[0], [255], [1], [254], [0], [128]]
    images = np.repeat(np.array(rows, dtype=np.uint8), dimensions, axis=1)
    images[4, ::2] = 255
    images[5, 7] = 129
    assert same(found(way, images, images[:4], 4, distance), by_numpy(images, images[:4], 4, distance))


@pytest.mark.long
def test_differences_of_images_of_16_million_pixels():
    """Beyond 2^23 bytes their sum is no longer kept in 32 bits."""
    dark, light = np.zeros((1, 1 << 24), np.uint8), np.full((1, 1 << 24), 255, np.uint8)
    assert search.nearest(dark, light, 1, "l1")[0].item() == 255 << 24


@pytest.mark.parametrize("distance", ["l1", "l2"])
@pytest.mark.parametrize("way", WAYS)
def test_of_equally_distant_images_the_lower_index_enters(way, distance):
    memory = np.array([[9], [5], [5], [7], [5], [7]], dtype=np.uint8)
    distances, indices = found(way, np.array([[6]], dtype=np.uint8), memory, 5, distance)
    assert indices.tolist() == [[1, 2, 3, 4, 5]]
    assert distances.tolist() == [[1] * 5]
    assert found(way, np.array([[6]], dtype=np.uint8), memory, 2, distance)[1].tolist() == [[1, 2]]


@pytest.mark.parametrize("k", [0, 4])
def test_k_must_be_had(k):
    with pytest.raises(ValueError, match=f"k: {k} must lie between 1 and the number of images, 3"):
        search.nearest(np.zeros((1, 2), np.uint8), np.zeros((3, 2), np.uint8), k, "l2")


def test_low_precision_around_it_changes_nothing():
    generator = np.random.default_rng(0)
    queries, memory = (generator.integers(0, 256, (n, 300)).astype(np.uint8) for n in (4, 50))
    for distance in ("l1", "l2"):
        with torch.autocast("cpu", torch.bfloat16):
            assert same(found("plain", queries, memory, 9, distance), by_numpy(queries, memory, 9, distance))


def test_never_a_full_matrix_of_distances():
    """12,000 x 12,000 distances would be 1.2 GB in int64; the images are 0.8 MB. In a process of its own."""
    code = (
        "import resource, numpy as np; from models.nearest import search;"
        "x = np.random.default_rng(0).integers(0, 256, (12000, 64)).astype(np.uint8);"
        "search.nearest(x[:1], x, 1, 'l2'); search.nearest(x[:1], x, 1, 'l1');"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "search.nearest(x, x, 3, 'l2'); search.nearest(x[:2000], x, 3, 'l1');"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert int(result.stdout) < 300_000  # KiB


def test_importing_the_search_compiles_nothing():
    code = "import sys, models.networks.neighbours, models.nearest.search; print('numba' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
