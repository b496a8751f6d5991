"""What is found in a small set made by hand, as values, numbers, table, sentence and page."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.data.checks.descriptor import describe
from pipeline.data.checks.findings import Examined, Finding, examine
from pipeline.data.checks.leaks import find_leaks
from pipeline.data.checks.page import page
from pipeline.data.checks.summary import numbers, sentence, table
from tests.pipeline.data.checks.test_copies import scenes, shifted

NAMES = ["a", "b", "c", "d", "e", "f"]
SPLITS = np.array([0, 0, 2, 2, 1, 0])


def pixels() -> np.ndarray:
    """a; b blank; c equal to a; d a's mirror image; e another; f e shifted."""
    a, e = scenes(2)
    return np.stack([a, np.full_like(a, 250), a, a[:, ::-1], e, shifted(e)])


@pytest.fixture
def examined() -> Examined:
    images = pixels()
    hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    sizes = np.array([[32, 32], [9000, 40], [32, 32], [16, 30], [17, 68], [17, 67]], dtype=np.int32)
    return examine(hashes, ["x", "x", "y", "x", "x", "x"], describe(images), sizes, 32)


def test_all_kinds(examined: Examined) -> None:
    found = {(one.kind, one.image, one.other, one.detail) for one in examined.findings()}
    assert found == {
        ("exact copy", 0, 2, ""),
        ("mirrored copy", *sorted_pair(found, "mirrored copy"), ""),
        ("near copy", *sorted_pair(found, "near copy"), ""),
        ("label conflict", 0, 2, "x or y"),
        ("blank", 1, None, "brightness 250"),
        ("tiny", 3, None, "30 x 16"),
        ("huge", 1, None, "40 x 9000"),
        ("odd shape", 1, None, "40 x 9000"),
        ("odd shape", 4, None, "68 x 17"),
    }
    assert set(sorted_pair(found, "mirrored copy")) == {0, 3}
    assert set(sorted_pair(found, "near copy")) == {4, 5}


def sorted_pair(found: set[tuple[str, int, int | None, str]], kind: str) -> tuple[int, int]:
    (pair,) = [(image, other) for name, image, other, _ in found if name == kind]
    assert pair[1] is not None
    return pair[0], pair[1]


def test_small_images_are_compared_exactly_alone() -> None:
    image = scenes(1, side=8)
    found = examine(["0", "1", "1"], ["x"] * 3, describe(np.repeat(image, 3, axis=0)), np.full((3, 2), 8, np.int32), 8)
    assert [one.kind for one in found.findings()] == ["exact copy"]
    assert not found.searched


def test_one_pixel_is_not_blank() -> None:
    points = np.array([[[[1, 2]]], [[[3, 4]]]], dtype=np.uint8)
    assert list(examine(["0", "1"], ["x", "y"], describe(points), np.ones((2, 2), np.int32), 1).findings()) == []


def test_nothing_is_looked_for_in_vectors_of_numbers() -> None:
    found = examine(["0", "0", "1"], ["x", "y", "x"], None, np.ones((3, 2), np.int32), 32)
    assert list(found.findings()) == []
    leaks = find_leaks(np.array([0, 2, 1]), found.contents, found.pairs)
    assert not leaks
    assert numbers(found, [], leaks) == {}
    assert "not pictures" in sentence(found, [], leaks, 1, 1)
    assert "not pictures" in found.in_general


def test_numbers_table_and_sentence(examined: Examined) -> None:
    findings = list(examined.findings())
    leaks = find_leaks(SPLITS, examined.contents, examined.pairs)
    facts = numbers(examined, findings, leaks)
    assert facts["leaks"] == {"test_exact": 1, "test_near": 1, "validation_exact": 0, "validation_near": 1}
    assert facts["found"] == {
        "exact_copy": 1, "near_copy": 1, "mirrored_copy": 1, "label_conflict": 1, "blank": 1, "tiny": 1, "huge": 1,
        "odd_shape": 2,
    }  # fmt: skip
    assert facts["size"] == {
        "height": {"least": 16, "median": 24.5, "most": 9000}, "width": {"least": 30, "median": 36.0, "most": 68}
    }  # fmt: skip
    lines = table(findings, NAMES, [("train", "validation", "test")[split] for split in SPLITS]).splitlines()
    assert lines[:2] == ["kind,image,split,other,other_split,similarity,detail", "exact copy,a,train,c,test,1.0000,"]
    assert "blank,b,train,,,,brightness 250" in lines
    assert sentence(examined, findings, leaks, 2, 1) == (
        "2 of 2 test images have a copy in train or validation (1 exact); 1 of 1 validation images have one in train;"
        " 1 pair of copies under two labels;"
        " 1 exact copy, 1 near copy, 1 mirrored copy, 1 blank, 1 tiny, 1 huge, 2 odd shapes"
    )


def test_the_page_holds_the_pictures(examined: Examined) -> None:
    images = pixels()
    content = page([Finding("exact copy", 2, 0)], 1, list(examined.findings()), NAMES, lambda rows: images[list(rows)])
    sheet = np.asarray(Image.open(io.BytesIO(content)))
    enlarged = images[0].repeat(3, axis=0).repeat(3, axis=1)  # 32 pixels fit three times into a tile
    windows = np.lib.stride_tricks.sliding_window_view(sheet, enlarged.shape[:2], axis=(0, 1))
    corner = (windows[..., 0, 0] == enlarged[0, 0]).all(-1)
    places = [tuple(place) for place in np.argwhere(corner)]
    whole = [place for place in places if (windows[place].transpose(1, 2, 0) == enlarged).all()]
    assert len(whole) >= 4  # as the leak's two, and as the exact copy's two
    empty = page([], 0, [], NAMES, lambda rows: images[list(rows)])
    assert Image.open(io.BytesIO(empty)).height < sheet.shape[0]
