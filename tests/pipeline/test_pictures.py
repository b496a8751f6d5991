"""Sheets: the pixels are there, enlarged without blur, and the bytes repeat."""

import io

import numpy as np
from PIL import Image

from pipeline.pictures import contact_sheet

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


def test_large_images_keep_their_size() -> None:
    sheet = opened(contact_sheet([("", np.zeros((1, 300, 300, 3), np.uint8))]))
    assert (sheet == 0).all(-1).sum() >= 300 * 300
