"""What is hidden or put beside an image: how much, where, and with what."""

import numpy as np
import pytest

from pipeline.data.augmentation.patches import erased
from pipeline.data.augmentation.strengths import Numbers, Variants
from tests.pipeline.data.test_augmentation import IMAGES, OFF, STATISTICS, pixels, policy

GREY = np.full((300, 32, 32, 3), 128, dtype=np.uint8)


def changed(changes: dict[str, object], epoch: int = 0) -> np.ndarray:
    """Which pixels of grey images are no longer grey: (300, 32, 32)."""
    from pipeline.data.augmentation import Policy

    found = pixels(Policy(OFF.with_changes(changes), STATISTICS, 32, 0), epoch, list(range(300)), GREY)
    return np.abs(found - 128 / 255).max(3) > 1e-6


def test_erased_rectangles_have_the_area_and_the_aspect_of_the_paper():
    numbers = Numbers(0, 0, np.arange(4000), Variants((OFF.with_changes({"erasing": 0.4}),)))
    top, bottom, left, right = erased(numbers, 100).T
    assert min(top.min(), left.min()) == 0
    assert max(bottom.max(), right.max()) == 100
    share = (bottom - top) * (right - left) / 100**2
    assert share.max() == pytest.approx(0.4, abs=0.01)
    assert np.median(share) == pytest.approx(0.2, abs=0.015)
    large = share > 0.05  # where rounding to pixels matters little
    aspect = (bottom - top)[large] / (right - left)[large]
    assert aspect.min() == pytest.approx(0.3, rel=0.1)
    assert aspect.max() == pytest.approx(1 / 0.3, rel=0.1)


@pytest.mark.parametrize("fill", ["mean", "noise"])
def test_an_erased_rectangle_is_one_block_of_its_fill(fill):
    augment = OFF.with_changes({"erasing": 0.4, "erasing_fill": fill, "normalization": "channel"})
    plain = pixels(policy(OFF.with_changes({"normalization": "channel"})), 0, list(range(40)))
    found = pixels(policy(augment), 0, list(range(40)))
    seen = found * np.array(STATISTICS.std) + np.array(STATISTICS.mean)
    for before, after, colours in zip(plain, found, seen, strict=True):
        mask = (before != after).any(2)
        if mask.any():
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert colours[mask].min() > -1e-6
            assert colours[mask].max() < 1 + 1e-6
            if fill == "mean":
                assert (after[mask] == 0).all()
            elif mask.sum() > 4:
                assert colours[mask].std() > 0.1


def test_distractors_are_as_many_and_as_large_as_asked():
    one = changed({"distractors": 1, "distractor_size": 0.25})
    share = one.mean((1, 2))
    assert share.max() <= 0.25**2 + 0.02
    assert 0 < np.median(share) < 0.04
    three, six = (changed({"distractors": count, "distractor_size": 0.25}).mean() for count in (3, 6))
    assert one.mean() < three < six
    assert three == pytest.approx(3 * one.mean(), rel=0.25)


def test_a_border_is_a_frame_of_up_to_the_strength():
    mask = changed({"border": 0.25})
    widths = set()
    for image in mask:
        width = int(image[16].argmin())  # of the left edge, in the middle row
        widths.add(width)
        assert not image[width : 32 - width, width : 32 - width].any()
        assert image[:width].all()
        assert image[:, 32 - width :].all()
    assert widths == set(range(9))


def test_a_borders_stripes_have_two_colours():
    found = pixels(policy(OFF.with_changes({"border": 0.5})), 0, list(range(40)), np.full_like(IMAGES, 77))
    for image in found:
        colours = np.unique(image[np.abs(image - 77 / 255).max(2) > 1e-6], axis=0)
        assert len(colours) <= 2
