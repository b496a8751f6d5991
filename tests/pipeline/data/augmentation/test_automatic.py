"""TrivialAugment and RandAugment: which operations, how many, how strong."""

import numpy as np
import pytest

from pipeline.data.augmentation.automatic import CHOICES, GREATEST, operations
from pipeline.data.augmentation.strengths import Numbers, Variants
from pipeline.params import Augment
from pipeline.params.augmentation import DETAILS, WHOLE_SET
from tests.pipeline.data.test_augmentation import OFF, pixels, policy


def drawn(kind: str, count: int, magnitude: float) -> np.ndarray:
    """Strengths as shares of the greatest: (operations, keys, samples)."""
    settings = OFF.with_changes({"automatic_magnitude": magnitude})
    found = operations(Numbers(0, 3, np.arange(6000), Variants((settings,))), kind, count)
    return np.array([[one.strength(key) / greatest for key, greatest in GREATEST.items()] for one in found])


def test_every_operation_is_a_transform_of_augment():
    for key, greatest in GREATEST.items():
        assert key in Augment.model_fields
        assert key not in (*WHOLE_SET, *DETAILS)
        OFF.model_validate({**OFF.model_dump(), key: greatest})


def test_trivial_is_one_operation_of_a_strength_up_to_the_magnitude():
    (found,) = drawn("trivial", 5, 0.8)
    assert ((found > 0).sum(0) <= 1).all()
    shares = (found > 0).mean(1)
    assert shares == pytest.approx(1 / len(CHOICES), abs=0.016)  # 4.5 standard deviations
    strengths = found[found > 0]
    assert np.quantile(strengths, [0.25, 0.5, 0.75]) == pytest.approx([0.2, 0.4, 0.6], abs=0.03)
    assert strengths.max() <= 0.8


def test_rand_is_several_operations_of_the_magnitude():
    found = drawn("rand", 3, 0.4)
    assert len(found) == 3
    assert found[found > 0] == pytest.approx(0.4)
    assert ((found > 0).sum(1) <= 1).all()
    assert (found > 0).any(1).mean() == pytest.approx(1 - 1 / len(CHOICES), abs=0.02)
    together = (found > 0).any(1).all(0).mean()  # they are chosen on their own
    assert together == pytest.approx((1 - 1 / len(CHOICES)) ** 3, abs=0.03)


@pytest.mark.parametrize("kind", ["trivial", "rand"])
def test_operations_come_on_top_of_the_policy(kind):
    base = {"horizontal_flip": True, "brightness": 0.2, "cutout_size": 3}
    samples = list(range(40))
    without = pixels(policy(OFF.with_changes(base)), 0, samples)
    found = pixels(policy(OFF.with_changes({**base, "automatic": kind, "automatic_operations": 1})), 0, samples)
    same = (found == without).all((1, 2, 3))
    assert 0 < same.sum() < 20  # "nothing" was chosen for some
    off = OFF.with_changes({**base, "automatic": kind, "automatic_magnitude": 0.0})
    assert np.array_equal(pixels(policy(off), 0, samples), without)


def test_an_operation_goes_either_way():
    found = next(operations(Numbers(0, 0, np.arange(4000), Variants((OFF,))), "rand", 1))
    amounts = found.amount("rotation_degrees", "rotation")[:, 0]
    turned = amounts[amounts != 0]
    assert set(np.abs(turned)) == {15.0}  # half of the greatest
    assert (turned > 0).mean() == pytest.approx(0.5, abs=0.12)


def test_operations_draw_numbers_of_their_own():
    own = Numbers(0, 0, np.arange(50), Variants((OFF,)))
    layers = (own, *operations(own, "rand", 3))
    for draw in (lambda layer: layer.uniform("crop", 2), lambda layer: layer.normal("crop", 2)):
        drawn = [draw(layer).tobytes() for layer in layers]
        assert len(set(drawn)) == len(layers)
    assert len({layer.keys("crop").tobytes() for layer in layers}) == len(layers)
    assert len({layer.coin("crop").tobytes() for layer in layers}) == len(layers)
