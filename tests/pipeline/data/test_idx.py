"""The MNIST family's files: as published, as people name them, with headers that lie."""

import gzip
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.raw.base import TEST, TRAIN
from pipeline.data.sources.idx import HOMES, Images
from pipeline.errors import Mistake
from tests.pipeline.data import official


def put(folder: Path, gz: bool = True, **changes: bytes | None) -> Path:
    """The four files in a folder; changes: by train_images and so on, other content or none."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in official.mnist().items():
        split, kind, *_ = name.split("-")
        content = changes.get(f"{split}_{kind}", official.idx(values))
        if content is not None:
            (folder / (f"{name}.gz" if gz else name)).write_bytes(official.packed(content) if gz else content)
    return folder


def opened(folder: Path, dataset: Any = "mnist", transposed: bool = False) -> Images:
    return Images(folder, dataset=dataset, transposed=transposed)


def refused(source: Images) -> str:
    with pytest.raises(Mistake) as caught:
        source.scan()
    return str(caught.value)


@pytest.mark.parametrize("gz", [True, False])
def test_every_image_and_label_comes_back(tmp_path: Path, gz: bool) -> None:
    source = opened(put(tmp_path, gz))
    arrays = official.mnist()
    assert source.sequential == gz
    scan = source.scan()
    assert scan.classes == tuple("0123456789")
    assert [(found.path, found.split) for found in scan.found] == [(f"train/{n:05d}", TRAIN) for n in range(60)] + [
        (f"test/{n:05d}", TEST) for n in range(20)
    ]
    labels = np.concatenate([arrays["train-labels-idx1-ubyte"], arrays["t10k-labels-idx1-ubyte"]])
    assert [found.label for found in scan.found] == [str(label) for label in labels]
    images = np.concatenate([arrays["train-images-idx3-ubyte"], arrays["t10k-images-idx3-ubyte"]])
    contents = dict(source.contents([found.path for found in reversed(scan.found)]))
    decode = source.decoder(28, 1)
    for found, image in zip(scan.found, images, strict=True):
        np.testing.assert_array_equal(decode(contents[found.path]).pixels[:, :, 0], image)
        assert found.stamp.size == len(contents[found.path])
    assert opened(tmp_path).read("test/00003") == contents["test/00003"]
    assert opened(tmp_path).decoder(32, 3)(contents["test/00003"]).pixels.shape == (32, 32, 3)


def test_emnist_lies_on_its_side_and_has_names_of_its_own(tmp_path: Path) -> None:
    arrays = official.mnist()
    for values, published in zip(
        arrays.values(), ("train-images", "train-labels", "test-images", "test-labels"), strict=True
    ):
        stem = f"emnist-letters-{published}-{'idx3' if values.ndim == 3 else 'idx1'}-ubyte.gz"
        shifted = values if values.ndim == 3 else values + 1  # its letters are 1 to 26
        (tmp_path / stem).write_bytes(official.packed(official.idx(shifted)))
    source = opened(tmp_path, "other", transposed=True)
    assert source.scan().classes == tuple(map(str, range(1, 11)))
    image = source.decoder(28, 1)(source.read("train/00005")).pixels[:, :, 0]
    np.testing.assert_array_equal(image, arrays["train-images-idx3-ubyte"][5].T)


@pytest.mark.parametrize("dataset", HOMES)
def test_class_names_by_set(tmp_path: Path, dataset: str) -> None:
    scan = opened(put(tmp_path), dataset).scan()
    assert scan.classes == HOMES[dataset].classes
    assert scan.found[13].label == HOMES[dataset].classes[3]


def test_the_unpacked_form_is_taken_where_both_lie(tmp_path: Path) -> None:
    put(tmp_path, gz=True)
    assert not opened(put(tmp_path, gz=False)).sequential


def test_missing_and_doubtful_files_are_told(tmp_path: Path) -> None:
    message = refused(opened(tmp_path / "nowhere"))
    assert message.splitlines()[0] == (
        f"data.path: {tmp_path}/nowhere: train-images-idx3-ubyte.gz: missing; put there all four files, packed or not"
    )
    assert len(message.splitlines()) == 4
    assert "t10k-labels-idx1-ubyte.gz: missing" in refused(opened(put(tmp_path / "three", t10k_labels=None)))
    (put(tmp_path / "both") / "emnist-train-images-idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(Mistake, match=r"both emnist-train-images-idx3-ubyte\.gz and train-images-idx3-ubyte\.gz"):
        opened(tmp_path / "both")


def test_other_has_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    message = refused(Images(None, dataset="other", transposed=False))
    assert "data/raw/idx/other: train-images-idx3-ubyte.gz: missing; set data.path to the folder that holds" in message


def header(*shape: int, type: int = 8) -> bytes:
    return bytes((0, 0, type, len(shape))) + struct.pack(f">{len(shape)}I", *shape)


PIXELS = bytes(60 * 28 * 28)


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (header(60, 28, 28) + PIXELS[:-1], "its header says 60 x 28 x 28 bytes, but 47039 follow; fetch it again"),
        (header(60, 28, 28) + PIXELS + b"x", "its header says 60 x 28 x 28 bytes, but "),
        (header(2**32 - 1, 4096, 4096) + PIXELS, "its header says 4294967295 x 4096 x 4096 bytes, but 47040 follow"),
        (header(60, 2**31, 28) + PIXELS, "its header says 60 x 2147483648 x 28; fetch it again"),
        (header(60, 0, 28) + PIXELS, "its header says 60 x 0 x 28"),
        (header(0, 28, 28), "its header says 0 x 28 x 28"),
        (header(60, 28) + PIXELS, "begins with 00 00 08 02: no IDX file of images (N x rows x columns)"),
        (header(60, 28, 28, type=0x0D) + PIXELS, "begins with 00 00 0d 03: no IDX file of images"),
        (b"<html><body>Not found</body></html>", "begins with 3c 68 74 6d: no IDX file"),
        (header(60, 28, 28)[:9], "cut short after 9 bytes"),
        (b"", "cut short after 0 bytes"),
        (header(50, 28, 28) + bytes(50 * 28 * 28), "50 images, but 60 labels in train-labels-idx1-ubyte"),
        (header(60, 14, 28) + bytes(60 * 14 * 28), "images of (28, 28) pixels, those of train (14, 28)"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, gz: bool, content: bytes, expected: str) -> None:
    message = refused(opened(put(tmp_path, gz, train_images=content)))
    assert message.startswith(f"data.path: {tmp_path}: ")
    assert expected in message


def test_labels_out_of_range(tmp_path: Path) -> None:
    labels = official.mnist()["train-labels-idx1-ubyte"].copy()
    labels[17] = 11
    message = refused(opened(put(tmp_path, train_labels=official.idx(labels))))
    assert "train-labels-idx1-ubyte.gz: label 11 of image 17, but mnist has 10 classes (0 to 9)" in message
    assert "set data.idx.dataset to other" in message
    assert len(opened(tmp_path, "other").scan().classes) == 11


def test_gzip_that_is_cut_short_or_damaged(tmp_path: Path) -> None:
    file = put(tmp_path) / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    for content, expected in [
        (whole[:1000], "cut short after"),
        (whole[:-8] + b"\0" * 8, "damaged gzip"),
        (whole[:500] + b"\xff" * 40 + whole[540:], "damaged gzip"),
        (whole + b"rubbish", "damaged gzip"),
    ]:
        file.write_bytes(content)
        assert expected in refused(opened(tmp_path))


def test_a_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    """128 MB of zeros behind a header that says 200 MB."""
    put(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(file, "wb", compresslevel=9) as stream:
        stream.write(header(50_000, 64, 64))
        for _ in range(128):
            stream.write(bytes(1 << 20))
    tracemalloc.start()
    assert "grows beyond 67108864 bytes: taken for a decompression bomb" in refused(opened(tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(official.mnist())),
    at=st.integers(0, 40),
    piece=st.binary(max_size=20),
    cut=st.integers(0, 20),
    gz=st.booleans(),
)
def test_damage_anywhere_ends_in_a_mistake_or_leaves_images(
    tmp_path: Path, name: str, at: int, piece: bytes, cut: int, gz: bool
) -> None:
    for file, values in official.mnist().items():
        content = official.idx(values)
        if file == name:
            content = content[:at] + piece + content[at + cut :]
        (tmp_path / file).write_bytes(official.packed(content) if gz else content)
    source = opened(tmp_path)
    assert source.sequential == gz  # by the content, whatever the name says
    try:
        scan = source.scan()
    except Mistake:
        return
    decode = source.decoder(8, 1)
    for found in scan.found[:: len(scan.found) // 3]:
        assert decode(source.read(found.path)).pixels.shape == (8, 8, 1)
