"""Shapes: a dial at 0 changes nothing, one turned up changes more; boxes are those of the pixels."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.sources import open_source
from pipeline.data.sources.shapes import DIALS, SHAPES

STILL = dict.fromkeys(DIALS, 0.0)


def made(images: int = 80, side: int = 32, seed: int = 0, **dials: float) -> Any:
    return open_source("shapes", None, Path(), {"images": images, "side": side, "seed": seed, **STILL, **dials})


def pixels(source: Any) -> NDArray[np.int64]:
    return source.render(np.arange(source.images)).astype(np.int64)


def boxes(source: Any) -> NDArray[np.float64]:
    return np.array([item.box for item in source.scan().found])


def mask(images: NDArray[np.int64], share: float = 0.5) -> NDArray[np.bool_]:
    """Where a plain shape covers more than a share of a pixel."""
    ground, fill = images[:, :1, :1], images.max(axis=(1, 2), keepdims=True)
    return (images - ground)[..., 0] > share * (fill - ground)[..., 0]


def test_with_all_dials_at_zero_every_image_of_a_class_is_the_same() -> None:
    images, labels = pixels(made()), [item.label for item in made().scan().found]
    assert sorted(set(labels)) == list(SHAPES)
    assert len(SHAPES) >= 6
    for name in SHAPES:
        assert len(np.unique(images[[label == name for label in labels]].reshape(10, -1), axis=0)) == 1
    assert len(np.unique(images.reshape(80, -1), axis=0)) == len(SHAPES)
    np.testing.assert_array_equal(images, pixels(made(seed=5)))


@pytest.mark.parametrize("dial", DIALS)
def test_a_dial_turned_up_changes_more(dial: str) -> None:
    still = pixels(made())
    away = [abs(pixels(made(**{dial: value})) - still).mean() for value in (0.0, 0.01, 0.25, 0.5, 1.0)]
    assert away[0] == 0
    assert all(less < more for less, more in pairwise(away))
    assert away[1] < 0.15 * away[-1]  # it begins without a jump


@pytest.mark.parametrize("dial", DIALS)
def test_a_dial_does_what_its_name_says(dial: str) -> None:
    changed, still = pixels(made(**{dial: 1.0})), pixels(made())
    inside, outside = mask(still, 0.999), ~mask(still, 0.01)
    differs = (changed != still).any(axis=3)
    if dial in ("viewpoint", "deformation"):  # the same two colours, elsewhere
        plain = still[0].reshape(-1, 3)
        assert set(map(tuple, changed.reshape(-1, 3))) >= {tuple(plain[0]), tuple(plain.max(axis=0))}
        assert (boxes(made(**{dial: 1.0})) != boxes(made())).any(axis=1).all()
    elif dial == "clutter":
        assert not differs[inside].any()
        assert differs[outside].mean() > 0.99
    elif dial == "intra_class":
        assert differs[inside].mean() > 0.95
        assert not differs[:, :3].any()
    elif dial == "illumination":
        assert differs.mean() > 0.95
    else:
        hidden = differs[inside].mean()  # of the shapes' pixels
        assert 0.35 < hidden < 0.75


@pytest.mark.parametrize(
    "dials", [{}, {"viewpoint": 1.0}, {"deformation": 1.0}, {"viewpoint": 0.6, "deformation": 0.6}]
)
def test_boxes_hold_what_is_drawn(dials: dict[str, float]) -> None:
    source = made(images=400, side=48, **dials)
    touched = mask(pixels(source), 0.02)
    rows, columns = touched.any(axis=2), touched.any(axis=1)
    drawn = np.stack(
        [columns.argmax(1), rows.argmax(1), 48 - columns[:, ::-1].argmax(1), 48 - rows[:, ::-1].argmax(1)], axis=1
    )
    within = (drawn - boxes(source)) * (1, 1, -1, -1)
    star = np.arange(400) % len(SHAPES) == list(SHAPES).index("star")
    assert within.min() > -1.6  # a pixel is whole, and an outline a ramp of one sample
    assert within[~star].max() < 2.0
    assert within[star].max() < 4.0  # the tip of a bent star may be too thin to cover any pixel
    assert abs(within).mean() < 0.7


def test_proportions_move_the_box() -> None:
    source = made(images=400, side=48, intra_class=1.0)
    images, found = pixels(source), boxes(source)
    touched = abs(images - images[:, :1, :1]).max(axis=3) > 12
    widths = (48 - touched.any(1)[:, ::-1].argmax(1)) - touched.any(1).argmax(1)
    assert abs(widths - (found[:, 2] - found[:, 0])).max() < 2.5
    assert np.ptp(found[:, 2] - found[:, 0]) > 5


def test_the_pixels_of_the_plain_shapes() -> None:
    """Areas, in units of the square that each shape's unit disc is in."""
    images = pixels(made(images=8, side=96))
    ground, fill = images[:, :1, :1, 0], images[..., 0].max(axis=(1, 2), keepdims=True)
    cover = (images[..., 0] - ground) / (fill - ground)
    area = dict(zip(SHAPES, cover.sum(axis=(1, 2)) / (0.66 * 48) ** 2, strict=True))
    inner, tip = 0.45, 1.0
    expected = {
        "circle": np.pi * 0.88**2,
        "cross": 4 * 0.56 * 0.88 - 0.56**2,
        "heart": 1 + np.pi * 0.5**2,
        "ring": np.pi * (0.88**2 - 0.55**2),
        "square": (2 * 0.74) ** 2,
        "star": 10 * 0.5 * inner * tip * np.sin(np.pi / 5),
        "triangle": 3 * 3**0.5 / 4,
    }
    for name, value in expected.items():
        assert area[name] == pytest.approx(value, rel=0.02), name
    assert 0.5 < area["crescent"] < area["circle"] - 0.5
