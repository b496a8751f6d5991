"""Values for a family's keys, as its entry describes them."""

from typing import Any, ClassVar, Literal

import pytest

from models import catalogue
from models.catalogue.examples import example, neutral, variants
from models.catalogue.settings import Settings, setting


class Inner(Settings):
    strength: float = setting("", ge=0, search=(0.1, 10, "log"))
    beta: float = setting("", ge=0)


class Everything(Settings):
    kind: ClassVar[str] = "no key"
    searched: float = setting("", ge=0, search=(0.0, 0.2))
    logarithmic: float = setting("", gt=0, search=(0.1, 10.0, "log"))
    between: float = setting("", gt=0, lt=1)
    above: int = setting("", ge=3)
    below: float = setting("", le=0)
    free: float = setting("")
    name: Literal["first", "second", "third"] = setting("")
    number: Literal[11, 13] = setting("")
    is_on: bool = setting("")
    optional: float | None = setting("", ge=0)
    inner: Inner = setting("")


def test_an_example_has_the_middle_of_each_range_and_is_valid():
    found = example(Everything)
    assert found == Everything(
        searched=0.1, logarithmic=found.logarithmic, between=0.5, above=4, below=-1, free=1, name="first", number=11,
        is_on=False, optional=1, inner=found.inner,
    )  # fmt: skip
    assert found.logarithmic == pytest.approx(1)
    assert found.inner.strength == pytest.approx(1)


def test_neutral_switches_everything_off():
    found = neutral(Everything)
    assert (found.searched, found.is_on, found.optional, found.inner) == (0, False, None, Inner(strength=0, beta=0))
    assert (found.between, found.above, found.name) == (0.5, 3, "first")  # these cannot be off


def test_variants_take_each_other_name_one_at_a_time():
    first = example(Everything)
    found = dict(variants(first))
    assert list(found) == ["name=second", "name=third", "is_on=true"]
    assert found["name=third"] == first.model_copy(update={"name": "third"})
    assert found["is_on=true"].name == "first"


def test_what_an_entry_says_nothing_of_is_named():
    class Strange(Settings):
        of: dict[str, Any] = setting("")

    with pytest.raises(TypeError, match=r"Strange\.of: no example is known"):
        example(Strange)


@pytest.mark.parametrize("family", [*catalogue.LOSSES.values(), catalogue.Regularization])
def test_the_catalogues_examples_are_valid(family):
    for made in (example(family), neutral(family) if family is catalogue.Regularization else example(family)):
        assert family(**made.model_dump()) == made


def test_a_network_without_a_small_instance_says_what_to_write():
    class Unfinished(catalogue.Network):
        width: int = setting("", ge=1)

    with pytest.raises(NotImplementedError, match=r"Unfinished: give it a `small\(\)`"):
        Unfinished.small_variants()
