"""Damaged bytes in every format: read as before or refused, never a crash, a hang, or memory without bounds."""

import gzip
import io
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipeline.data.raw.archive import Archive
from pipeline.data.raw.table import read_columns
from pipeline.errors import Mistake
from tests.pipeline.data import archives

FILES = {f"{label}/{'long' * 30}{n}.png": archives.png(n, 4) for label in "ab" for n in range(3)} | {"c/é.png": b""}
WHOLE = {kind: pack(FILES) for kind, pack in archives.ARCHIVES.items()}
_MOST_BYTES = 64 << 20


def csv() -> bytes:
    return b'path,label\n"a, b/1.png",cat\nc/2.png,dog\n'


def a_parquet(compression: str) -> bytes:
    stream = io.BytesIO()
    table = pa.table({"path": [f"{n}.png" for n in range(50)], "label": pa.array(["a", "b"] * 25).dictionary_encode()})
    parquet.write_table(table, stream, compression=compression, row_group_size=20)
    return stream.getvalue()


TABLES = {"csv": csv(), **{f"parquet {name}": a_parquet(name) for name in ("none", "snappy", "zstd", "gzip")}}


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Cut off, bytes changed, a piece left out or doubled."""
    cut = draw(st.none() | st.floats(0, 1))
    flips = draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=8))
    piece = draw(st.none() | st.tuples(st.floats(0, 1), st.integers(1, 600), st.sampled_from([0, 2])))

    def damage(content: bytes) -> bytes:
        changed = bytearray(content)
        for place, mask in flips:
            changed[int(place * len(changed))] ^= mask
        if piece is not None:
            start = int(piece[0] * len(changed))
            changed[start : start + piece[1]] = changed[start : start + piece[1]] * piece[2]
        return bytes(changed if cut is None else changed[: int(cut * len(changed))])

    return damage


def within_bounds(read: Callable[[], None]) -> None:
    """Whatever is read, nothing but a Mistake that names the place comes of it, and few bytes are taken for it."""
    tracemalloc.start()
    try:
        read()
        told = "here: "
    except Mistake as mistake:
        told = str(mistake)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert told.startswith("here: ")
    assert peak < _MOST_BYTES


def read_all(file: Path) -> None:
    """List and read; what is read without a checksum may be other bytes, but as many as it says."""
    archive = Archive(file, "here")
    files = [file for files in archive.walk().folders.values() for file in files if file.problem is None]
    sizes = {file.path: file.stamp.size for file in files}
    for path, content in archive.contents(sizes):
        assert len(content) == sizes[path]


def read_table(content: bytes) -> None:
    rows = read_columns(content, "here", {"path": "image", "label": "label"})
    assert len(rows.columns["path"]) == len(rows.columns["label"]) == len(rows) > 0


def fuzz(examples: int) -> settings:
    of_each_example = [HealthCheck.function_scoped_fixture]  # the folder may be shared: its one file is written anew
    return settings(max_examples=examples, deadline=10_000, suppress_health_check=of_each_example, derandomize=True)


@pytest.mark.parametrize("kind", WHOLE)
@fuzz(60)
@given(damage=damages())
def test_damaged_archives(kind: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = tmp_path / "set"
    file.write_bytes(damage(WHOLE[kind]))
    within_bounds(lambda: read_all(file))


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstandard.compress])
@fuzz(40)
@given(damage=damages())
def test_damaged_tars_in_sound_compression(
    compress: Callable[[bytes], bytes], damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """Damage that no checksum of the compression tells."""
    file = tmp_path / "set"
    file.write_bytes(compress(damage(WHOLE["tar"])))
    within_bounds(lambda: read_all(file))


@fuzz(100)
@given(
    start=st.sampled_from([b"PK\x03\x04", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b""]), rest=st.binary()
)
def test_anything_after_the_first_bytes(start: bytes, rest: bytes, tmp_path: Path) -> None:
    file = tmp_path / "set"
    file.write_bytes(start + rest)
    within_bounds(lambda: read_all(file))


@pytest.mark.parametrize("kind", TABLES)
@fuzz(60)
@given(damage=damages())
def test_damaged_tables(kind: str, damage: Callable[[bytes], bytes]) -> None:
    within_bounds(lambda: read_table(damage(TABLES[kind])))


@pytest.mark.long
@pytest.mark.parametrize("kind", WHOLE)
@settings(parent=fuzz(3000), derandomize=False)
@given(damage=damages())
def test_many_damaged_archives(kind: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = tmp_path / "set"
    file.write_bytes(damage(WHOLE[kind]))
    within_bounds(lambda: read_all(file))


@pytest.mark.long
@pytest.mark.parametrize("kind", TABLES)
@settings(parent=fuzz(3000), derandomize=False)
@given(damage=damages())
def test_many_damaged_tables(kind: str, damage: Callable[[bytes], bytes]) -> None:
    within_bounds(lambda: read_table(damage(TABLES[kind])))
