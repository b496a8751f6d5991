"""Packed images: what is written is read back, in order, without ever running code; damage is named."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pipeline.data.store import CLASSES, open_split, read_classes, rows_a_block, write_split
from pipeline.data.store.arrays import write_header
from pipeline.errors import Mistake

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)


def write(folder: Path, rows: list[int]) -> None:
    labels: NDArray[np.int64] = np.array(rows, dtype=np.int64) % 2
    names = [f"{row}.png" for row in rows]
    write_split(folder, IMAGES, labels, names, ("even", "odd"), [f"{row:064x}" for row in rows], np.array(rows))


@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 20])
def test_the_chosen_rows_come_back_in_their_order(
    tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.store.arrays._BLOCK_BYTES", block_bytes)
    rows = [7, 2, 9, 2, 0]
    write(tmp_path / "split", rows)
    split = open_split(tmp_path / "split")
    np.testing.assert_array_equal(split.images, IMAGES[rows])
    assert split.labels.tolist() == [1, 0, 1, 0, 0]
    assert split.paths() == [f"{row}.png" for row in rows]
    assert isinstance(split.images, np.memmap)
    assert not split.images.flags.writeable
    index = pq.read_table(tmp_path / "split/index.parquet").to_pylist()
    assert index[0] == {"path": "7.png", "label": "odd", "sha256": f"{7:064x}"}


def test_targets_and_boxes_come_back_with_their_images(tmp_path: Path) -> None:
    targets, boxes = np.arange(20, dtype=np.float64).reshape(10, 2), np.arange(40, dtype=np.float32).reshape(10, 4)
    rows = np.array([3, 1])
    names, hashes = ["3.png", "1.png"], ["0" * 64] * 2
    zeros = np.zeros(2, dtype=np.int64)
    write_split(tmp_path / "s", IMAGES, zeros, names, (), hashes, rows, targets=targets[rows], boxes=boxes[rows])
    split = open_split(tmp_path / "s")
    np.testing.assert_array_equal(split.targets, targets[[3, 1]])
    np.testing.assert_array_equal(split.boxes, boxes[[3, 1]])
    assert pq.read_table(tmp_path / "s/index.parquet").column("label").to_pylist() == [None, None]
    with pytest.raises(ValueError, match="10 entries for 2 images"):
        write_split(tmp_path / "t", IMAGES, zeros, names, (), hashes, rows, targets=targets)


def test_a_block_is_never_empty() -> None:
    assert rows_a_block((10_000, 10_000, 3)) == 1
    assert rows_a_block((1, 1, 1)) == 16 << 20


def test_the_room_of_an_array_is_taken_with_its_header(tmp_path: Path) -> None:
    """A full disk is then told before hours of decoding, not after."""
    with (tmp_path / "x.npy").open("wb") as stream:
        write_header(stream, (1000, 32, 32, 3))
    assert (tmp_path / "x.npy").stat().st_blocks * 512 >= 1000 * 32 * 32 * 3


def test_nothing_that_is_read_can_run_code(tmp_path: Path) -> None:
    write(tmp_path / "split", [0, 1])
    np.save(tmp_path / "split/labels.npy", np.array([0, 1], dtype=object), allow_pickle=True)
    with pytest.raises(Mistake, match=r"labels\.npy: damaged"):
        open_split(tmp_path / "split")


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("images.npy", IMAGES[:3], r"labels\.npy: damaged \(int64 \(2,\) does not belong to 3 images"),
        ("images.npy", IMAGES[:2].astype(np.float32), r"images\.npy: damaged \(float32 .*, not images"),
        ("images.npy", IMAGES[0, 0, 0], r"images\.npy: damaged \(uint8 \(3,\), not images"),
        ("labels.npy", np.zeros(2, np.float64), r"labels\.npy: damaged \(float64"),
        ("labels.npy", None, "not found; `dvc repro prepare` makes it"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str, array: NDArray[np.uint8] | None, said: str) -> None:
    write(tmp_path / "split", [0, 1])
    (tmp_path / "split" / name).unlink()
    if array is not None:
        np.save(tmp_path / "split" / name, array)
    with pytest.raises(Mistake, match=said):
        open_split(tmp_path / "split")


@pytest.mark.parametrize(("content", "said"), [(None, "not found"), ("[", "damaged")])
def test_classes_that_cannot_be_read(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / CLASSES).write_text(content)
    with pytest.raises(Mistake, match=rf"classes\.json: {said}"):
        read_classes(tmp_path)
