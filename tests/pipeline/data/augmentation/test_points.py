"""Augmentation of points of the plane, which are images of one pixel: what moves them, and what would blank them."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.data.augmentation import Policy, fit_statistics, render
from pipeline.data.augmentation.examples import examples
from pipeline.errors import Mistake
from pipeline.params import Augment
from pipeline.params.augmentation import COVERING, DETAILS, WHOLE_SET
from tests.pipeline.data.test_augmentation import ALL, OFF

POINTS = np.random.default_rng(0).integers(0, 256, (20, 1, 1, 2), dtype=np.uint8)
STATISTICS = fit_statistics(POINTS)
STRENGTHS = [key for key in Augment.model_fields if key not in (*WHOLE_SET, *DETAILS)]
MOVING = {"brightness", "contrast", "noise"}


def seen(augment: Augment) -> NDArray[np.float32]:
    """What the network sees of the points: (20, 2)."""
    batch, maps = Policy(augment, STATISTICS, 1, 0).augmented(POINTS, 0, np.arange(20))
    found: NDArray[np.float32] = render(torch.from_numpy(batch), maps).numpy()[:, :, 0, 0]
    return found


def test_points_are_normalized_by_channel() -> None:
    scaled = POINTS.reshape(20, 2) / 255
    expected = (scaled - scaled.mean(0)) / scaled.std(0)
    np.testing.assert_allclose(seen(OFF.with_changes({"normalization": "channel"})), expected, atol=1e-5)


@pytest.mark.parametrize("key", STRENGTHS)
def test_a_transform_moves_a_point_leaves_it_or_is_refused(key: str) -> None:
    augment = OFF.with_changes({key: getattr(ALL, key) or 1})
    if key in COVERING:
        with pytest.raises(Mistake, match=rf"augment\.{key}: would blank images of one pixel; set it to 0"):
            seen(augment)
    else:
        assert np.allclose(seen(augment), seen(OFF), atol=1e-6) == (key not in MOVING)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"automatic": "trivial"}, r"augment\.automatic: .*set it to none"),
        ({"per_class": {"a": {"border": 0.1}}}, r"augment\.per_class\.a\.border: .*set it to 0"),
        ({"per_image": {"points/0": {"erasing": 0.1}}}, r"augment\.per_image\.points/0\.erasing: .*set it to 0"),
    ],
)
def test_what_would_blank_a_point_is_refused_wherever_it_is_set(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(Mistake, match=named):
        OFF.with_changes(changes).seen(1)
    assert OFF.with_changes(changes).seen(2) == 2


def test_the_sheet_of_transforms_has_those_that_move_points() -> None:
    table = examples(1, 2)
    assert set(table) == MOVING
    for strengths in table.values():
        for example in strengths:
            assert not np.array_equal(seen(OFF.with_changes(example.changes)), seen(OFF))
