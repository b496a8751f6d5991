"""Decoding a whole set: work that was cut off is not done again, and what comes of it has the same bytes."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.images import fitted
from pipeline.data.listing import Item, Listing
from pipeline.data.packing import decoding, journal
from pipeline.data.packing.boxes import placed
from pipeline.data.packing.decoding import Packed, pack
from pipeline.data.packing.intermediate import Pixels
from pipeline.data.packing.processes import in_processes
from pipeline.data.sources.folder import Images as Folder

ROOT = Path(__file__).parents[4]
COUNT = 40
SEED = random.randrange(1 << 32)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures of several forms; of the 16 x 16 JPEG files the store keeps the content."""
    folder = tmp_path_factory.mktemp("raw")
    for number in range(COUNT):
        file = folder / "ab"[number % 2] / f"{number:02d}.{'jpg' if number % 3 else 'png'}"
        file.parent.mkdir(exist_ok=True)
        size = (16, 16) if number % 4 else (20, 24)
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(file)
    (folder / "a" / "bad.png").write_bytes(b"no image")
    return folder


def listed(raw: Path) -> Listing:
    source = Folder(raw)
    scan = source.scan()
    hashes = {found.path: hashlib.sha256(source.read(found.path)).hexdigest() for found in scan.found}
    items = tuple(Item(found.path, found.stamp.size, hashes[found.path], found.label, None) for found in scan.found)
    return Listing("folder", scan.classes, items, ())


def packed(raw: Path, folder: Path, encoded: bool, **more: Any) -> Packed:
    return pack(listed(raw), Folder(raw), folder, 16, 3, encoded=encoded, **more)


def equal(one: Packed, other: Packed) -> bool:
    rows = np.flatnonzero(one.sizes[:, 0])
    return (
        one.bad == other.bad
        and one.changed == other.changed
        and np.array_equal(one.sizes, other.sizes)
        and np.array_equal(one.descriptors, other.descriptors)
        and np.array_equal(one.images[rows], other.images[rows])
    )


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MOST_IMAGES_A_BLOCK", 3)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that are read, in this process."""
    found: list[str] = []
    plain = Folder.read

    def read(self: Folder, path: str) -> bytes:
        found.append(path)
        return plain(self, path)

    monkeypatch.setattr(Folder, "read", read)
    return found


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("after", [0, 1, 5, 17, COUNT - 3])
def test_what_was_decoded_before_an_interrupt_is_not_decoded_again(
    raw: Path,
    tmp_path: Path,
    encoded: bool,
    after: int,
    small_blocks: None,
    monkeypatch: pytest.MonkeyPatch,
    reads: list[str],
) -> None:
    whole = packed(raw, tmp_path / "whole", encoded, workers=1)
    plain = decoding.describe
    told = 0

    def describe(pixels: np.ndarray) -> np.ndarray:
        nonlocal told
        if told >= after:
            raise KeyboardInterrupt
        told += len(pixels)
        return plain(pixels)

    monkeypatch.setattr(decoding, "describe", describe)
    with pytest.raises(KeyboardInterrupt):
        packed(raw, tmp_path / "cut", encoded, workers=1)
    monkeypatch.setattr(decoding, "describe", plain)
    reads.clear()
    again = packed(raw, tmp_path / "cut", encoded, workers=1)
    assert equal(again, whole)
    assert len(reads) == COUNT + 1 + COUNT + 1 - told  # to list them once, then those that were left


def test_an_error_that_cannot_be_sent_is_told_by_its_text() -> None:
    class Strange(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one)

    def work(order: int) -> int:
        raise Strange("what went wrong", "and more")

    with pytest.raises(RuntimeError, match="Strange: what went wrong"):
        list(in_processes(work, iter([1]), 2))


@pytest.mark.parametrize("encoded", [False, True])
def test_a_finished_work_is_not_done_again_another_one_is(
    raw: Path, tmp_path: Path, encoded: bool, reads: list[str]
) -> None:
    listing = listed(raw)
    first = pack(listing, Folder(raw), tmp_path, 16, 3, encoded=encoded, workers=1)
    reads.clear()
    assert equal(pack(listing, Folder(raw), tmp_path, 16, 3, encoded=encoded, workers=1), first)
    assert reads == []
    assert pack(listing, Folder(raw), tmp_path, 8, 3, encoded=encoded, workers=1).images.shape == (COUNT + 1, 8, 8, 3)
    assert len(reads) == COUNT + 1
    other = listing._replace(items=(*listing.items[:-1], listing.items[-1]._replace(sha256="0" * 64)))
    assert pack(other, Folder(raw), tmp_path, 8, 3, encoded=encoded, workers=1).changed == (COUNT,)


def test_pixels_that_are_lost_are_not_believed_in_after_another_kill(
    raw: Path, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is made anew, and the process is killed before anything else: the old records must be gone by then."""
    listing = listed(raw)
    whole = pack(listing, Folder(raw), tmp_path / "x", 16, 3, workers=1)
    pixels = np.array(whole.images)
    (tmp_path / "x" / "pixels.npy").unlink()
    plain = Pixels.begin

    def begin(self: Pixels, records: list[Any]) -> None:
        plain(self, records)
        raise KeyboardInterrupt

    monkeypatch.setattr(Pixels, "begin", begin)
    with pytest.raises(KeyboardInterrupt):
        pack(listing, Folder(raw), tmp_path / "x", 16, 3, workers=1)
    monkeypatch.setattr(Pixels, "begin", plain)
    np.testing.assert_array_equal(pack(listing, Folder(raw), tmp_path / "x", 16, 3, workers=1).images, pixels)


def test_where_no_room_can_be_taken_ahead_it_goes_on_just_as_well(
    raw: Path, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    """As on macOS. The last image of the listing is one that is never written."""
    monkeypatch.delattr(os, "posix_fallocate")
    listing = listed(raw)
    last = listing.items[-1]._replace(problem="gone")
    listing = listing._replace(items=(*listing.items[:-1], last))
    whole = pack(listing, Folder(raw), tmp_path / "x", 16, 3, workers=1)
    lines = (tmp_path / "x" / "journal").read_bytes().splitlines(keepends=True)
    (tmp_path / "x" / "journal").write_bytes(b"".join(lines[:5]))
    reads.clear()
    assert equal(pack(listing, Folder(raw), tmp_path / "x", 16, 3, workers=1), whole)
    assert len(reads) == COUNT - 4 * 3


def test_an_archive_without_its_images_takes_no_more_memory_than_a_block(raw: Path, tmp_path: Path) -> None:
    class Emptied(Folder):
        sequential = True

        def contents(self, paths: Any) -> Any:
            return iter(())

    listing = listed(raw)
    work = decoding._Work(listing, Emptied(raw), Pixels(tmp_path, (COUNT + 1, 16, 16, 3)), 16, 3)
    assert [len(order.rows) for order in work.orders(list(range(COUNT + 1)), 1)] == [COUNT + 1]
    assert [len(order.rows) for order in work._arriving(list(range(COUNT + 1)), 20)] == [20, 20, 1]
    assert pack(listing, Emptied(raw), tmp_path, 16, 3).changed == tuple(range(COUNT + 1))


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("what", ["journal", "data"])
def test_whatever_a_power_cut_has_taken_is_made_again(
    raw: Path, tmp_path: Path, encoded: bool, what: str, small_blocks: None
) -> None:
    """The journal, or what it speaks of, ends anywhere: the end of a file may never have reached the disk."""
    listing = listed(raw)
    whole = pack(listing, Folder(raw), tmp_path / "x", 16, 3, encoded=encoded, workers=1)
    file = tmp_path / "x" / ("journal" if what == "journal" else ("images.bin" if encoded else "pixels.npy"))
    content = file.read_bytes()
    pixels = np.array(whole.images[np.flatnonzero(whole.sizes[:, 0])])
    for end in sorted({0, 1, len(content) - 1, *random.Random(0).sample(range(len(content)), 12)}):
        file.write_bytes(content[:end])
        again = pack(listing, Folder(raw), tmp_path / "x", 16, 3, encoded=encoded, workers=1)
        np.testing.assert_array_equal(again.images[np.flatnonzero(again.sizes[:, 0])], pixels)
        assert again.bad == whole.bad


def test_a_damaged_journal_counts_up_to_the_damage(
    raw: Path, tmp_path: Path, small_blocks: None, reads: list[str]
) -> None:
    listing = listed(raw)
    whole = pack(listing, Folder(raw), tmp_path, 16, 3, workers=1)
    content = bytearray((tmp_path / "journal").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "journal").write_bytes(content)
    reads.clear()
    assert equal(pack(listing, Folder(raw), tmp_path, 16, 3, workers=1), whole)
    assert 0 < len(reads) < COUNT


def test_a_journal_that_cannot_be_written_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the end only, hours later."""
    monkeypatch.setattr(journal, "_SYNC_SECONDS", 0.01)
    (tmp_path / "data").touch()
    (tmp_path / "journal").mkdir()  # what no record can be appended to

    def work() -> None:
        with journal.Journal(tmp_path / "none", tmp_path / "data", {}) as log:
            log._file = tmp_path / "journal"
            log.add({"rows": [0]})
            until(lambda: log._error is not None)
            log.add({"rows": [1]})
            pytest.fail("went on")

    with pytest.raises(IsADirectoryError):
        work()


# --- kill -9 ----------------------------------------------------------------------------------------------------------

SLOW = """
import sys, time
from pathlib import Path
from tests.pipeline.data.packing import test_packing as this
from pipeline.data.packing import decoding, journal
from pipeline.data.sources.folder import Images as Folder

decoding._MOST_IMAGES_A_BLOCK = 2
journal._SYNC_SECONDS = 0.02
raw, folder, encoded = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True"
listing = this.listed(raw)
plain = Folder.read
Folder.read = lambda self, path: time.sleep(0.02) or plain(self, path)
print("started", flush=True)
decoding.pack(listing, Folder(raw), folder, 16, 3, encoded=encoded, workers=2)
print("ended", flush=True)
"""


def begun(raw: Path, folder: Path, encoded: bool) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(raw), str(folder), str(encoded)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


@pytest.mark.parametrize("encoded", [False, True])
def test_killed_at_ten_random_moments_it_ends_in_the_same_bytes(raw: Path, tmp_path: Path, encoded: bool) -> None:
    print(f"seed {SEED}")
    draw = random.Random(SEED)
    done: list[int] = []
    log = tmp_path / "killed" / "journal"
    for number in range(10):
        before = log.stat().st_size if log.exists() else 0
        process = begun(raw, tmp_path / "killed", encoded)
        if number % 2:  # once something more is done, or all of it
            until(lambda: (log.exists() and log.stat().st_size > before) or process.poll() is not None)  # noqa: B023
        time.sleep(draw.uniform(0, 0.25))
        with suppress(ProcessLookupError):  # it had ended
            os.killpg(process.pid, signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()
        process.wait()
        records = journal._read(log)[1:]
        done.append(sum(len(record["rows"]) for record in records))
    assert done == sorted(done)  # nothing is lost
    assert done[-1] > 0
    again = packed(raw, tmp_path / "killed", encoded, workers=2)
    assert equal(again, packed(raw, tmp_path / "whole", encoded, workers=1))


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)


# --- boxes ------------------------------------------------------------------------------------------------------------


@st.composite
def boxed(draw: st.DrawFn) -> tuple[int, int, tuple[int, int, int, int]]:
    """Height and width of an image, and a box with whole edges in its centre square."""
    height, width = draw(st.integers(8, 60)), draw(st.integers(8, 60))
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    x = sorted(draw(st.lists(st.integers(left, left + side), min_size=2, max_size=2, unique=True)))
    y = sorted(draw(st.lists(st.integers(top, top + side), min_size=2, max_size=2, unique=True)))
    return height, width, (x[0], y[0], x[1], y[1])


@given(boxed(), st.integers(4, 64))
def test_a_box_moves_as_the_pixels_in_it(case: tuple[int, int, tuple[int, int, int, int]], size: int) -> None:
    """A white rectangle, fitted as every image is: it is bright where the box is, to a pixel of what is stored."""
    height, width, box = case
    pixels = np.zeros((height, width, 1), dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    seen = fitted(pixels, size, 1)[:, :, 0].astype(np.float64) / 255
    found, problems = placed([box], np.array([[height, width]], dtype=np.int32), size)
    assert not problems
    left, top, right, bottom = found[0].tolist()
    scale = size / min(height, width)
    assert right - left == pytest.approx((box[2] - box[0]) * scale, abs=1e-4)
    assert bottom - top == pytest.approx((box[3] - box[1]) * scale, abs=1e-4)
    if scale >= 1:  # reduced, a narrow box may vanish between the pixels' roundings
        xs, ys = seen.max(0), seen.max(1)
        for edge, bright in ((left, xs), (top, ys)):
            assert not (bright[: max(0, int(np.floor(edge - scale - 1)))] > 0.5).any()
        for edge, bright in ((right, xs), (bottom, ys)):
            assert not (bright[int(np.ceil(edge + scale + 1)) :] > 0.5).any()
        centre = int((top + bottom) / 2), int((left + right) / 2)
        assert seen[min(centre[0], size - 1), min(centre[1], size - 1)] > 0.4


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=4, max_size=4))
def test_any_numbers_for_a_box_are_moved_or_told(numbers: list[float]) -> None:
    left, top, right, bottom = numbers
    found, problems = placed([(left, top, right, bottom)], np.array([[30, 40]], dtype=np.int32), 15)
    assert found.shape == (1, 4)
    if not problems:
        assert np.isfinite(found).all()
        assert 0 <= found[0, 0] < found[0, 2] <= 15
        assert 0 <= found[0, 1] < found[0, 3] <= 15


def test_a_box_that_is_too_thin_to_be_stored_is_told() -> None:
    found, problems = placed([(100, 100, 100 + 1e-6, 150)], np.array([[256, 256]], dtype=np.int32), 256)
    assert found.dtype == np.float32
    assert list(problems) == [0]


def test_an_image_without_a_box_among_others() -> None:
    _, problems = placed([(0, 0, 5, 5), None], np.array([[9, 9], [9, 9]], dtype=np.int32), 9)
    assert problems == {1: "without a box, while others have one"}
