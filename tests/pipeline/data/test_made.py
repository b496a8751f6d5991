"""Sets made by code: each image a function of its number and the settings, by arithmetic that has one result."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.raw import exact, made
from pipeline.data.raw.made import Made
from pipeline.data.sources import open_source
from pipeline.data.sources.shapes import DIALS

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{case} {d}": ("hard_cases", {"case": case, "dimensions": d})
       for case in ("parity", "ring", "modes") for d in (2, 9, 64)},
    **{figure: ("points", {"figure": figure, "classes": 2, "noise": 0.05})
       for figure in ("clusters", "ring", "xor", "spiral")},
    "columns": ("pose", {"side": 16, "target": "columns"}),
    "quaternion": ("pose", {"side": 16, "target": "quaternion"}),
    "shapes": ("shapes", {"side": 16, **dict.fromkeys(DIALS, 0.5)}),
}  # fmt: skip


def make(name: str, **changes: Any) -> Any:
    kind, settings = KINDS[name]
    return open_source(kind, None, Path(), {"images": 40, "seed": 0, **settings, **changes})


@pytest.mark.parametrize("path", ["shapes/000040", "shapes/x", "shapes/-00001", "points/000001", "shapes", ""])
def test_what_is_not_listed_is_not_there(path: str) -> None:
    source: Made = make("shapes")
    with pytest.raises(FileNotFoundError, match="not among the 40 images"):
        source.read(path)
    with pytest.raises(FileNotFoundError):
        list(source.contents(["shapes/000001", path]))


@pytest.mark.parametrize("name", KINDS)
def test_an_image_is_a_function_of_its_number(name: str) -> None:
    source: Made = make(name)
    found = source.scan().found
    paths = [item.path for item in found]
    contents = dict(source.contents(paths))
    assert len(set(paths)) == len(contents) == 40
    backwards = dict(make(name).contents(paths[::-3]))  # another order, and some alone
    assert backwards == {path: contents[path] for path in paths[::-3]}
    assert source.read(paths[7]) == contents[paths[7]]
    assert {len(content) for content in contents.values()} == {item.stamp.size for item in found}
    more = make(name, images=1500)  # beyond the blocks in which it is listed
    items = more.scan().found
    assert [item._replace(stamp=found[0].stamp) for item in items[:40]] == list(found)
    assert more.read(items[7].path) == contents[paths[7]]


@pytest.mark.parametrize("name", KINDS)
def test_the_seed_changes_the_set_and_its_stamp(name: str) -> None:
    source, other = make(name), make(name, seed=1)
    paths = [item.path for item in source.scan().found]
    assert source.stamp() == make(name).stamp() != other.stamp()
    assert source.scan().found[0].stamp != other.scan().found[0].stamp
    assert dict(source.contents(paths)) != dict(other.contents(paths))


@pytest.mark.parametrize("name", KINDS)
def test_decoded_pixels_are_the_content(name: str) -> None:
    source = make(name)
    height, width, channels = source.shape
    content = source.read(source.scan().found[3].path)
    decoded = source.decoder(height, channels)(content)
    assert decoded.pixels.tobytes() == content
    assert decoded.pixels.shape == (height, width, channels) == (decoded.height, decoded.width, channels)


def test_the_stamp_follows_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = make("shapes").stamp()
    changed = tmp_path / "exact.py"
    changed.write_bytes(Path(exact.__file__).read_bytes() + b"# changed\n")
    monkeypatch.setattr(made.exact, "__file__", str(changed))
    assert make("shapes").stamp() != before


def test_nothing_is_rendered_for_a_stamp_or_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    source = make("shapes")
    monkeypatch.setattr(type(source), "render", lambda *_: pytest.fail("rendered"))
    source.stamp()
    assert len(source.scan().found) == 40


# These bytes were made by x86-64 processors; what differs elsewhere is arithmetic that `exact` should not have used.
GOLDEN = {
    "parity 2": "821e444195f0ce7a",
    "ring 64": "f9fef3b30f161bdc",
    "modes 9": "5700899b607dab7a",
    "spiral": "9b596b8ea631abee",
    "columns": "451de97a671b2259",
    "shapes": "0fad950c5cb8b146",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_are_the_same_everywhere(name: str) -> None:
    source = make(name)
    scan = source.scan()
    digest = hashlib.sha256()
    for (_, content), item in zip(source.contents([item.path for item in scan.found]), scan.found, strict=True):
        digest.update(content)
        digest.update(repr((item.label, item.target, item.box)).encode())
    assert digest.hexdigest()[:16] == GOLDEN[name]


# --- exact arithmetic -------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_cosine_and_sine(turns: list[float]) -> None:
    values = np.array(turns)
    cosine, sine = exact.cos_sin(values)
    np.testing.assert_allclose(cosine, np.cos(2 * np.pi * values), atol=1e-12)
    np.testing.assert_allclose(sine, np.sin(2 * np.pi * values), atol=1e-12)
    single, _ = exact.cos_sin(values.astype(np.float32) / 100)
    assert single.dtype == np.float32


def test_bells_are_nearly_normal() -> None:
    values = exact.bells(0, "test", np.arange(40_000), 2) / exact.BELL_UNIT
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.01
    for limit, share in ((1, 0.6827), (2, 0.9545)):
        assert abs((abs(values) < limit).mean() - share) < 0.01
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.02


@pytest.mark.parametrize("dimensions", [1, 2, 3, 64])
def test_directions_are_unit_vectors_to_all_sides(dimensions: int) -> None:
    vectors = exact.directions(0, "test", np.arange(4000), dimensions)
    np.testing.assert_allclose((vectors**2).sum(1), 1, atol=1e-12)
    assert abs(vectors.mean(0)).max() < 0.06
    np.testing.assert_allclose(vectors.T @ vectors / 4000, np.eye(dimensions) / dimensions, atol=0.03)
