"""Planted copies are found, different pictures are not, and the search agrees with comparing all with all."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.data.checks import copies
from pipeline.data.checks.copies import SIMILAR, near_copies, similarity
from pipeline.data.checks.descriptor import describe, unpack

COUNT = 300


def scenes(count: int, seed: int = 0, side: int = 32) -> np.ndarray:
    """Pictures with structure at all scales, as photographs have: noise with a spectrum that falls with frequency."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.fft2(generator.standard_normal((count, side, side))) / frequency**1.2
    grey = np.fft.ifft2(spectrum).real
    grey = 127 + 45 * grey / grey.std((1, 2), keepdims=True)
    tint = generator.uniform(0.8, 1.2, (count, 1, 1, 3))
    return np.clip(grey[..., None] * tint, 0, 255).astype(np.uint8)


def recompressed(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(stream))


def shifted(image: np.ndarray) -> np.ndarray:
    return np.roll(image, (1, -1), (0, 1))


PLANTED = {
    "recompressed": recompressed,
    "shifted": shifted,
    "brighter": lambda image: np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8),
    "more contrast": lambda image: np.clip((image.astype(int) - 127) * 1.3 + 127, 0, 255).astype(np.uint8),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored and recompressed": lambda image: recompressed(np.ascontiguousarray(image[:, ::-1])),
    "grey": lambda image: np.repeat(np.asarray(Image.fromarray(image).convert("L"))[..., None], 3, axis=2),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_copies_are_found_and_nothing_else(kind: str) -> None:
    originals = scenes(COUNT)
    planted = np.stack([PLANTED[kind](image) for image in originals[:40]])
    found = near_copies(describe(np.concatenate([originals, planted])))
    right = {(index, COUNT + index) for index in range(40)}
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs <= right
    assert len(pairs) >= 39
    assert found.mirrored.all() if kind.startswith("mirrored") else not found.mirrored.any()
    assert found.similarity.min() >= found.threshold == SIMILAR


def test_different_pictures_are_no_copies() -> None:
    assert len(near_copies(describe(scenes(2000, seed=5))).first) == 0


def test_other_colours_make_another_picture() -> None:
    red = scenes(1)
    red[..., 0], red[..., 2] = 220, 0
    green = np.ascontiguousarray(red[..., [1, 0, 2]])
    images = unpack(describe(np.concatenate([red, red, green])))
    assert similarity(images, np.array([[0, 1]]), False) == pytest.approx(1.0, abs=1e-6)
    assert similarity(images, np.array([[0, 2]]), False) == 0.0


def test_the_search_finds_what_comparing_all_with_all_finds() -> None:
    originals = scenes(COUNT, seed=3)
    noise = np.random.default_rng(1).normal(0, 12, originals[:60].shape)
    images = np.concatenate([originals, np.clip(shifted(originals[:60]) + noise, 0, 255).astype(np.uint8)])
    descriptors = describe(images)
    every = np.stack(np.triu_indices(len(images), 1), axis=1)
    scores = similarity(unpack(descriptors), every, False)
    right = {(int(a), int(b)) for a, b in every[scores >= SIMILAR]}
    found = near_copies(descriptors)
    assert len(right) >= 40
    assert len(right & set(zip(found.first.tolist(), found.second.tolist(), strict=True))) >= 0.9 * len(right)


def test_flat_images_are_left_out_and_few_are_enough() -> None:
    flat = np.full((50, 32, 32, 3), 200, dtype=np.uint8)
    assert len(near_copies(describe(flat)).first) == 0
    for count in (0, 1):
        assert len(near_copies(describe(scenes(count))).first) == 0
    assert near_copies(describe(np.repeat(scenes(1), 2, axis=0))).first.tolist() == [0]


def test_among_look_alikes_only_what_is_much_closer_is_a_copy() -> None:
    """A hundred and fifty drawings of one thing: alike, but no copies; one of them is planted twice."""
    one = scenes(1, side=16)[0].astype(float)
    noise = np.random.default_rng(0).normal(0, 10, (150, 16, 16, 1))
    images = np.clip(one + noise, 0, 255).astype(np.uint8)
    images = np.concatenate([images, np.clip(images[:1].astype(int) + 3, 0, 255).astype(np.uint8)])
    found = near_copies(describe(images))
    assert found.threshold > 0.9
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(0, 150)]


def test_look_alikes_bound_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_MOST_MET", 4)
    same = np.repeat(scenes(1), 500, axis=0)
    met = copies._that_meet(copies._coefficients(unpack(describe(same)).thumbnails), False)
    assert len(met) <= 500 * 4 * 4 * 2**copies._CLOSE_CALLS / 2
    assert set(met.ravel().tolist()) == set(range(500))


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    originals = scenes(50)
    descriptors = describe(np.concatenate([originals, shifted(originals)]))
    whole = near_copies(descriptors)
    monkeypatch.setattr(copies, "_ROWS", 7)
    for one, other in zip(near_copies(descriptors), whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
