"""Sheets: the pixels are there, enlarged without blur, and the bytes repeat."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline import pictures
from pipeline.pictures import Cell, Mistaken, contact_sheet, grid_sheet
from pipeline.plane import AXES, HUES, are_points

DIGITS = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8, 1)


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_small_images_are_enlarged_pixel_by_pixel() -> None:
    sheet = opened(contact_sheet([("zero", DIGITS), ("none", DIGITS[:0])]))
    expected = np.repeat(np.repeat(DIGITS[1], 6, 0), 6, 1)
    y, x = next(
        (y, x)
        for y in range(40)
        for x in range(sheet.shape[1] - 48)
        if (sheet[y, x : x + 48] == expected[0]).all() and (sheet[y : y + 48, x : x + 48] == expected).all()
    )
    assert y > 0
    assert x > 0


def test_rows_break_at_columns() -> None:
    one, two = (opened(contact_sheet([("a", DIGITS)], columns=columns)) for columns in (3, 2))
    assert two.shape[0] > one.shape[0]
    assert two.shape[1] < one.shape[1]


def test_equal_input_gives_equal_bytes_and_no_date() -> None:
    rows = [("long caption " * 20, DIGITS), ("日本\n\udcff ü", DIGITS)]
    content = contact_sheet(rows)
    assert content == contact_sheet(rows)
    assert set(Image.open(io.BytesIO(content)).info) == set()


def test_large_images_are_reduced() -> None:
    """Forty classes of a dozen photographs must fit into memory, and into the report."""
    half = np.zeros((1, 1000, 500, 3), np.uint8)
    half[:, :, 250:] = (200, 0, 0)
    sheet = opened(contact_sheet([("", half)]))
    assert max(sheet.shape) < 300
    black, red = (sheet == 0).all(-1).sum(), (sheet == (200, 0, 0)).all(-1).sum()
    assert black == pytest.approx(160 * 40, rel=0.1)
    assert red == pytest.approx(160 * 40, rel=0.1)


def test_a_grid_has_its_cells_under_their_headings() -> None:
    rows = [("first", [Cell("", DIGITS[:2])]), ("second", [Cell("1", DIGITS[:2]), Cell("2", DIGITS[1:])])]
    content = grid_sheet(("low", "high"), rows)
    assert content == grid_sheet(("low", "high"), rows)
    sheet = opened(content)[..., 0]
    enlarged = np.repeat(np.repeat(DIGITS[..., 0], 6, 1), 6, 2)
    places = [
        [(y, x) for y, x in zip(*np.nonzero(sheet == tile[0, 0]), strict=True) if same(sheet, y, x, tile)]
        for tile in enlarged
    ]
    assert [len(place) for place in places] == [2, 3, 1]  # each image as often as it was given
    (top, left), (below, beneath) = places[0]
    assert left == beneath
    assert below > top + 48
    assert {y for y, _ in places[1]} == {top, below}
    assert max(x for _, x in places[1]) > places[1][0][1]


def same(sheet: NDArray[np.uint8], y: int, x: int, tile: NDArray[np.uint8]) -> bool:
    return np.array_equal(sheet[y : y + len(tile), x : x + len(tile)], tile)


# --- points of the plane ----------------------------------------------------------------------------------------------


def points(*places: tuple[int, int]) -> NDArray[np.uint8]:
    return np.array(places, np.uint8).reshape(-1, 1, 1, 2)


def where(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """The middle of a colour, as shares of the 480 pixels of the plane from its left and from below."""
    rows, columns = (sheet[16:496, 16:496] == colour).all(-1).nonzero()
    return float(columns.mean()) / 480, 1 - float(rows.mean()) / 480


def test_points_lie_where_their_numbers_say_in_the_colour_of_their_caption() -> None:
    rows = [("left, high", points((0, 255))), ("right of the middle", points((191, 127))), ("none", points())]
    sheet = opened(contact_sheet(rows))
    blue, orange = HUES[:2]
    assert where(sheet, blue) == pytest.approx((0.03, 0.97), abs=0.01)
    assert where(sheet, orange) == pytest.approx((0.03 + 0.94 * 191 / 255, 0.5), abs=0.01)
    legend = sheet[:, 500:]
    assert all((legend == colour).all(-1).any() for colour in HUES[:3])
    assert contact_sheet(rows) == contact_sheet(rows)


def test_a_grid_shows_the_points_of_a_cell_in_one_plane_by_label() -> None:
    labels = np.array([0, 1, 0])
    cells = [Cell("", points((0, 255), (255, 0), (0, 0)), labels), Cell("moved", points((255, 255)))]
    content = grid_sheet(("as stored", "high"), [("three", cells)])
    assert content == grid_sheet(("as stored", "high"), [("three", cells)])
    sheet = opened(content)
    assert opened(grid_sheet(("as stored",), [("three", cells[:1])])).shape[1] < sheet.shape[1]
    corners = np.argwhere((sheet == AXES).all(-1))
    top, left = corners.min(0)
    plane = sheet[top : top + 182, left : left + 182]
    blue, orange = ((plane == hue).all(-1) for hue in HUES[:2])
    assert blue[:91, :91].any()  # above, left
    assert blue[91:, :91].any()
    assert not blue[:, 91:].any()
    assert orange[91:, 91:].any()
    assert not orange[:91].any()


def test_one_point_is_shown_in_its_plane() -> None:
    alone = opened(pictures.small_png(points((255, 0))[0]))
    rows, columns = (alone == pictures._WRONG).all(-1).nonzero()
    assert columns.mean() > 58
    assert rows.mean() > 58  # right, below
    assert are_points(points((1, 2)))
    assert not are_points(DIGITS)
    sheet = opened(pictures.mistakes([Mistaken(points((9, 9))[0], "p", 0, 1, 0.1, 0.9)], ("a", "b")))
    assert (sheet[14:142, 14:142] == pictures._WRONG).all(-1).any()


# --- mistakes ---------------------------------------------------------------------------------------------------------


def image(value: int, side: int = 8, channels: int = 1) -> NDArray[np.uint8]:
    return np.full((side, side, channels), value, np.uint8)


def mistaken(value: int) -> Mistaken:
    return Mistaken(image(value), f"{value}.png", 0, 1, 0.1, 0.9)


def test_no_mistakes_make_a_picture_that_says_so():
    assert opened(pictures.mistakes([], ("a", "b"))).min() < 100


def test_the_sheet_shows_every_image_in_order():
    sheet = opened(pictures.mistakes([mistaken(value) for value in (10, 90, 170)], ("a", "b"), columns=2))
    assert [sheet[14 + 50, 14 + 50, 0], sheet[14 + 50, 14 + 142 + 50, 0]] == [10, 90]
    assert 170 in sheet[sheet.shape[0] // 2 :, :142, 0]


def test_a_large_image_is_reduced_and_a_small_one_is_not():
    assert Image.open(io.BytesIO(pictures.small_png(image(1, 500, 3)))).size == (128, 128)
    assert Image.open(io.BytesIO(pictures.small_png(image(1, 8)))).size == (8, 8)


def test_small_images_keep_every_pixel():
    original = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(opened(pictures.small_png(original)), original)


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100 %"), (0.999, ">99 %"), (0.5, "50 %"), (0.001, "<1 %"), (0.0, "0 %")]
)
def test_percentages_never_round_to_certainty(share: float, text: str):
    assert pictures.percent(share) == text


def test_the_sheet_of_mistakes_enlarges_small_images_and_reduces_large_ones():
    for side in (8, 500):
        wrong = Mistaken(image(77, side, 3), "x.png", 0, 1, 0.1, 0.9)
        assert (opened(pictures.mistakes([wrong], ("a", "b"))) == 77).all(-1).sum() == 128 * 128
