"""Pictures: equal bytes for equal input, whatever the settings around them; the right cell in the right place."""

import io
import math
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline import figures, pictures
from pipeline.pictures import Mistaken

HISTORY = {
    "epoch": [1.0, 2.0, 3.0],
    "train_loss": [1.0, 0.5, 0.3],
    "val_loss": [1.1, math.nan, math.inf],
    "train_accuracy": [0.5, 0.7, 0.8],
    "val_accuracy": [0.4, 0.6, 0.7],
    "lr": [0.1, 0.05, 0.0],
}
HEADER = "epoch,step,train_loss,train_accuracy,val_loss,val_accuracy,lr"
COUNTS = np.array([[5, 3], [0, 5]])
HOSTILE = ("$x_1$", "猫", "a\nb", "\udcff", "n" * 200, "<b>&amp;")


def image(value: int, side: int = 8, channels: int = 1) -> NDArray[np.uint8]:
    return np.full((side, side, channels), value, np.uint8)


def mistaken(value: int, actual: int = 0, predicted: int = 1) -> Mistaken:
    return Mistaken(image(value), f"{value}.png", actual, predicted, 0.1, 0.9)


PICTURES: dict[str, Callable[[], bytes]] = {
    "confusion": lambda: figures.confusion_matrix(COUNTS, ("cat", "dog")),
    "confusion, dark": lambda: figures.confusion_matrix(COUNTS, ("cat", "dog"), dark=True),
    "learning curves": lambda: figures.learning_curves(HISTORY),
    "learning curves, dark": lambda: figures.learning_curves(HISTORY, dark=True),
    "mistakes": lambda: pictures.mistakes([mistaken(30), mistaken(200)], ("cat", "dog")),
    "one image": lambda: pictures.small_png(image(9, channels=3)),
}


def pixels(png: bytes) -> NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.int64)


def chunks(png: bytes) -> list[bytes]:
    kinds, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kinds.append(png[at + 4 : at + 8])
        at += 12 + length
    return kinds


@pytest.mark.parametrize("name", PICTURES)
def test_equal_input_gives_equal_bytes_whatever_a_users_matplotlibrc_says(name: str):
    first = PICTURES[name]()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "savefig.dpi": 40, "lines.linewidth": 9}):
        assert PICTURES[name]() == first
        assert matplotlib.rcParams["font.size"] == 30  # and it is left as it was


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_say_nothing_of_when_or_by_what_they_were_drawn(name: str):
    assert set(chunks(PICTURES[name]())) <= {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"pHYs", b"tRNS"}


def test_dark_pictures_are_dark():
    light, dark = (pixels(figures.confusion_matrix(COUNTS, ("a", "b"), dark=dark))[0, 0] for dark in (False, True))
    assert light.min() > 240
    assert dark.max() < 60


def centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(rows.mean() / mask.shape[0]), float(columns.mean() / mask.shape[1])


def test_a_mistake_is_red_and_stands_in_its_row_and_column():
    rgb = pixels(figures.confusion_matrix(COUNTS, ("a", "b")))
    red = (rgb[..., 0] > 150) & (rgb[..., 2] < 120)
    row, column = centre(red)
    assert row < 0.5 < column  # actual a, predicted b: top right


def test_the_diagonal_is_blue_and_fades_with_the_share_recognised():
    rgb = pixels(figures.confusion_matrix(np.array([[1, 9], [0, 10]]), ("a", "b")))
    strong = (rgb[..., 2] > 200) & (rgb[..., 0] < 90)
    row, column = centre(strong)
    assert row > 0.5
    assert column > 0.5


def test_a_single_mistake_among_thousands_can_be_seen():
    clean = figures.confusion_matrix(np.diag([5000, 5000, 5000]), "abc")
    counts = np.diag([5000, 5000, 5000])
    counts[0, 1], counts[2, 0] = 400, 1
    rgb, before = pixels(figures.confusion_matrix(counts, "abc")), pixels(clean)
    tinted = (rgb[..., 0] - rgb[..., 1] > 15) & (before.min(axis=2) > 250)
    assert tinted[rgb.shape[0] * 2 // 3 :, : rgb.shape[1] // 2].sum() > 1000  # bottom left cell


def test_a_hundred_classes_have_room_for_their_names():
    names = [f"some_class_{number}" for number in range(100)]
    png = figures.confusion_matrix(np.eye(100, dtype=np.int64) * 7, names)
    height, width, _ = pixels(png).shape
    assert min(height, width) > 100 * 12  # pixels a row, at 6.5 points and 120 dots an inch
    assert len(png) < 600_000


def test_beyond_some_number_of_classes_the_picture_grows_no_further(monkeypatch: pytest.MonkeyPatch):
    """A side of more than 65,535 pixels cannot be drawn at all, and the report holds the picture."""
    assert 0.115 * figures._LARGEST_WITH_NAMES * 120 < 5000  # pixels a side
    monkeypatch.setattr(figures, "_LARGEST_WITH_NAMES", 40)
    named = pixels(figures.confusion_matrix(np.diag([1] * 20 + [0] * 20), [f"{number:03}" for number in range(40)]))
    rgb = pixels(figures.confusion_matrix(np.diag([1] * 60 + [0] * 60), [f"{number:03}" for number in range(120)]))
    assert rgb.shape == named.shape
    blue = (rgb[..., 2] > 200) & (rgb[..., 0] < 200)
    row, column = centre(blue)
    assert row < 0.5
    assert column < 0.5


def test_any_class_name_can_be_drawn_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.confusion_matrix(np.eye(len(HOSTILE), dtype=np.int64), HOSTILE)
        pictures.mistakes([mistaken(5, actual, 0) for actual in range(1, len(HOSTILE))], figures.labels(HOSTILE))


def test_a_name_the_font_cannot_write_is_shown_by_its_number():
    assert figures.labels(HOSTILE)[:4] == ["$x_1$", "class 1", "class 2", "class 3"]
    assert figures.labels(HOSTILE)[4].endswith("n…")


@pytest.mark.parametrize("epochs", [1, 300])
def test_short_and_long_trainings_are_drawn(epochs: int):
    history = {name: [0.5] * epochs for name in HISTORY} | {"epoch": [float(i) for i in range(epochs)]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(figures.learning_curves(history)).std() > 1


def test_learning_curves_are_read_back_with_gaps(tmp_path: Path):
    file = tmp_path / "learning_curves.csv"
    file.write_text(f"{HEADER}\n1,10,0.5,0.6,,0.7,0.1\n2,20,0.4,0.7,inf,0.8,0.0\n")
    history = figures.read_learning_curves(file)
    assert history["step"] == [10, 20]
    assert math.isnan(history["val_loss"][0])
    assert history["val_loss"][1] == math.inf


@pytest.mark.parametrize(
    "text", ["", "epoch,loss\n1,2\n", "epoch,step,train_loss,train_accuracy,val_loss,val_accuracy,lr\n"]
)
def test_a_file_without_learning_curves_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "learning_curves.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match="needs the columns"):
        figures.read_learning_curves(file)
