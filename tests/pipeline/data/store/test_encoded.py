"""Images kept as JPEG: read as an array is, whatever the threads; damage is named, whatever it is."""

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.store import Split, open_split, reading_ahead, write_split
from pipeline.data.store import encoded as module
from pipeline.data.store.encoded import BYTES, OFFSETS, EncodedImages, encode, open_encoded, write_encoded
from pipeline.errors import Mistake

COUNT = 24
EMPTY = np.array([], dtype=np.int64)


def smooth(channels: int, count: int = COUNT, side: int = 16) -> NDArray[np.uint8]:
    """Images without sharp edges, which JPEG hardly changes."""
    y, x = np.mgrid[:side, :side] / side
    phases = np.arange(count)[:, None, None, None] + np.arange(channels)
    return (128 + 90 * np.sin(3 * (x + y)[None, :, :, None] + phases)).astype(np.uint8)


def packed(folder: Path, channels: int = 3) -> list[bytes]:
    """The images' files one after another, as packing leaves them, written as a split; what it is made of."""
    files = [encode(image) for image in smooth(channels)]
    everything = folder / "everything"
    everything.parent.mkdir(parents=True, exist_ok=True)
    everything.write_bytes(b"".join(files))
    lengths = np.array([len(file) for file in files])
    images = EncodedImages(everything, np.cumsum(lengths) - lengths, lengths, (16, 16, channels))
    names = [f"{number}.jpg" for number in range(COUNT)]
    write_split(folder / "split", images, np.zeros(COUNT, np.int64), names, ("a",), ["0" * 64] * COUNT)
    return files


def by_pil(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image).reshape(image.height, image.width, -1)


@pytest.fixture
def split(tmp_path: Path) -> Split:
    packed(tmp_path)
    return open_split(tmp_path / "split")


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_that_pil_decodes_and_near_the_original(tmp_path: Path, channels: int) -> None:
    files = packed(tmp_path, channels)
    images = open_split(tmp_path / "split").images
    assert images.shape == (COUNT, 16, 16, channels)
    expected = np.stack([by_pil(file) for file in files])
    np.testing.assert_array_equal(images[:], expected)
    assert np.abs(expected.astype(int) - smooth(channels)).max() <= 10


@pytest.mark.parametrize(
    "rows",
    [
        3,
        -1,
        slice(2, 5),
        slice(None, None, 7),
        np.array([5, 5, 1]),
        np.arange(COUNT)[::-1],
        np.arange(COUNT) > 12,
        EMPTY,
    ],
)
def test_it_is_read_as_an_array_is(split: Split, rows: object) -> None:
    np.testing.assert_array_equal(split.images[rows], split.images[:][rows])


def test_a_number_out_of_range(split: Split) -> None:
    with pytest.raises(IndexError):
        split.images[COUNT]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(split: Split, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = np.stack([split.images[row] for row in range(COUNT)])
    monkeypatch.setattr(module, "_threads", lambda: threads)
    np.testing.assert_array_equal(split.images[:], one_by_one)


def test_chosen_images_are_written_byte_for_byte(tmp_path: Path) -> None:
    files = packed(tmp_path)
    images = open_encoded(tmp_path / "split")
    (tmp_path / "some").mkdir()
    write_encoded(tmp_path / "some", images, np.array([7, 2, 7]))
    assert (tmp_path / "some" / BYTES).read_bytes() == files[7] + files[2] + files[7]
    again = open_encoded(tmp_path / "some")
    np.testing.assert_array_equal(again[:], images[np.array([7, 2, 7])])


# --- reading ahead ----------------------------------------------------------------------------------------------------


def decoding() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decoding")]


def test_what_is_read_ahead_is_the_same_in_any_order(split: Split) -> None:
    requests = [np.array([3, 1, 2]), slice(0, 9), np.arange(COUNT), np.array([0])]
    expected = [split.images[request] for request in requests]
    with reading_ahead(split.images, requests) as ahead:
        assert ahead.shape == split.images.shape
        for request, images in zip(requests, expected, strict=True):
            np.testing.assert_array_equal(ahead[request], images)
    with reading_ahead(split.images, requests) as ahead:  # what was not announced is served as well
        for place in (1, 0, 0, 3, 2, 1):
            np.testing.assert_array_equal(ahead[requests[place]], expected[place])


def test_batches_are_decoded_while_others_are_used(split: Split) -> None:
    asked: list[int] = []

    def requests() -> object:
        for number in range(5):
            asked.append(number)
            yield np.array([number])

    with reading_ahead(split.images, requests()) as ahead:
        assert asked == [0, 1]
        ahead[np.array([0])]
        assert asked == [0, 1, 2]


def test_no_thread_is_left_when_it_ends_or_is_left_alone(split: Split) -> None:
    with reading_ahead(split.images, [np.arange(COUNT)] * 9) as ahead:
        ahead[np.arange(COUNT)]
        assert decoding()
    assert not decoding()
    with pytest.raises(KeyboardInterrupt), reading_ahead(split.images, [np.arange(COUNT)] * 9):
        raise KeyboardInterrupt
    assert not decoding()


def test_an_array_is_given_as_it_is() -> None:
    array = np.zeros((3, 2, 2, 1), dtype=np.uint8)
    with reading_ahead(array, [slice(0, 3)]) as ahead:
        assert ahead is array


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    files = packed(tmp_path)
    start = len(b"".join(files[:5]))
    content = bytearray((tmp_path / "split" / BYTES).read_bytes())
    content[start : start + 20] = bytes(20)
    (tmp_path / "split" / BYTES).write_bytes(content)
    images = open_split(tmp_path / "split").images
    images[np.array([4, 6])]
    for rows in (5, slice(None)):
        with pytest.raises(Mistake, match=r"images\.bin: damaged \(image 5: .*\); delete .*, then `dvc checkout`"):
            images[rows]
    with reading_ahead(images, [slice(None)]) as ahead, pytest.raises(Mistake, match="image 5"):
        ahead[:]


def test_an_image_of_another_size(tmp_path: Path) -> None:
    files = [encode(image) for image in smooth(3)]
    files[3] = encode(smooth(3, side=24)[0])
    offsets = np.cumsum([0, *map(len, files)])
    (tmp_path / BYTES).write_bytes(b"".join(files))
    np.save(tmp_path / OFFSETS, offsets)
    with pytest.raises(Mistake, match="image 3: 24 x 24 pixels, not 16 x 16"):
        open_encoded(tmp_path)[3]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (OFFSETS, None, r"offsets\.npy: not found"),
        (OFFSETS, np.array([0, 5, 3]), "does not fit"),
        (OFFSETS, np.array([0, 2**62, -(2**62)]), "does not fit"),
        (OFFSETS, np.array([1, 2]), "does not fit"),
        (OFFSETS, np.array([0]), "not the places of images"),
        (OFFSETS, np.array([0.0, 1.0]), "not the places of images"),
        (OFFSETS, np.array([0, 1], dtype=object), "damaged"),
        ("labels.npy", np.zeros(3, np.int64), "does not belong to 24 images"),
        ("labels.npy", None, r"labels\.npy: not found"),
        ("boxes.npy", np.zeros((COUNT, 3), np.float32), "does not belong to 24 images"),
        ("targets.npy", np.zeros((COUNT, 3), np.float32), "does not belong to 24 images"),
    ],
)
def test_an_index_that_does_not_fit_is_named(tmp_path: Path, name: str, content: NDArray | None, said: str) -> None:
    packed(tmp_path)
    (tmp_path / "split" / name).unlink(missing_ok=True)
    if content is not None:
        np.save(tmp_path / "split" / name, content, allow_pickle=True)
    with pytest.raises(Mistake, match=said):
        open_split(tmp_path / "split")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_any_byte_is_told_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    if not (tmp_path / "split").exists():
        packed(tmp_path)
    name = data.draw(st.sampled_from([BYTES, OFFSETS, "labels.npy"]))
    file = tmp_path / "split" / name
    whole = file.read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    file.write_bytes(content)
    try:
        found = open_split(tmp_path / "split")
        assert found.images[:].shape == found.images.shape
        assert found.labels.shape == found.images.shape[:1]
    except Mistake as mistake:
        told = str(mistake)
    else:
        told = name
    finally:
        file.write_bytes(whole)
    assert name in told or BYTES in told  # any other exception fails the test
