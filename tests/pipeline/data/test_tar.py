"""The tar reader beside Python's, and against archives that mean no good."""

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.raw.tar import Member, members
from pipeline.data.raw.unpacked import Unpacked
from pipeline.errors import Mistake
from tests.pipeline.data import official


def opened(folder: Path, content: bytes) -> Unpacked:
    file = folder / "x.tar"
    file.write_bytes(content)
    return Unpacked(file, "x.tar")


def refused(content: Unpacked) -> str:
    with pytest.raises(Mistake) as caught:
        list(members(content))
    return str(caught.value)


NAMES = {
    "plain.jpg": b"a",
    "./with/folders/b.jpg": b"",
    "x" * 90 + "/" + "y" * 120 + ".jpg": b"long name" * 100,
    "日本/語.jpg": bytes(512),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_same_members_as_pythons_tarfile_reads(tmp_path: Path, format: int, pack: type[bytes]) -> None:
    content = opened(tmp_path, pack(official.tarred([("with", None), *NAMES.items()], format)))
    found = {member.name: content.exactly(member.offset, member.size) for member in members(content)}
    assert found == {name.removeprefix("./"): data for name, data in NAMES.items()}


def test_sizes_beyond_eight_gib(tmp_path: Path) -> None:
    """ImageNet's training tar is 138 GB; a hole in the file stands for the content."""
    size = 9 << 30
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo("large.tar")
        info.size = size
        head = info.tobuf(format)
        file = tmp_path / "large"
        with file.open("wb") as stream:
            stream.write(head)
            stream.seek(size, io.SEEK_CUR)
            stream.write(official.tarred([("after.jpg", b"b")]))
        assert list(members(Unpacked(file, "large"))) == [
            Member("large.tar", len(head), size),
            Member("after.jpg", len(head) + size + 512, 1),
        ]


def member(kind: bytes = tarfile.REGTYPE, name: str = "a.jpg", size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, "/etc/passwd"
    return info.tobuf(tarfile.GNU_FORMAT)


END = bytes(1024)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (member(tarfile.SYMTYPE), "x.tar: a.jpg: a symbolic link, no file"),
        (member(tarfile.LNKTYPE), "x.tar: a.jpg: a hard link, no file"),
        (member(tarfile.CHRTYPE), "a device"),
        (member(tarfile.FIFOTYPE), "x.tar: a.jpg: a named pipe, no file"),
        (member(tarfile.GNUTYPE_SPARSE), "x.tar: a.jpg: a sparse file, no file"),
        (member(name="/etc/passwd"), "x.tar: /etc/passwd: leads out of the archive"),
        (member(name="a/../../b.jpg"), "leads out of the archive"),
        (member(size=10_000), "x.tar: truncated: it ends in the middle"),
        (member(size=1 << 70), "x.tar: a.jpg: damaged"),
        (member(tarfile.XHDTYPE, size=1 << 40), "x.tar: a header of 1099511627776 bytes, more than 1048576; damaged"),
        (
            member(tarfile.GNUTYPE_LONGNAME, size=2_000_000),
            "x.tar: a header of 2000000 bytes, more than 1048576; damaged",
        ),
        (member(tarfile.XHDTYPE, size=512) + b"99 path=x".ljust(512), "damaged (an extended header)"),
        (member(tarfile.XHDTYPE, size=512) + b"0 path=x\n".ljust(512), "damaged (an extended header)"),
        (b"x" * 512, "no tar archive"),
        (b"x", "no tar archive"),
        (member() + b"x" * 512, "damaged"),
    ],
)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in refused(opened(tmp_path, content + END))


def test_an_archive_within_one_may_not_reach_beyond_it(tmp_path: Path) -> None:
    inner = member(size=600)  # says 600 bytes, and the outer archive goes on
    content = opened(tmp_path, official.tarred([("inner.tar", inner), ("secret", b"s" * 5000)]))
    (found, _) = members(content)
    with pytest.raises(Mistake, match=r"x\.tar: inner\.tar: a\.jpg: goes on beyond the archive's end"):
        list(members(content, found))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 6000), piece=st.binary(max_size=600), cut=st.integers(0, 600), pack=st.booleans())
def test_damage_ends_in_a_mistake_or_in_members_that_are_there(
    tmp_path: Path, at: int, piece: bytes, cut: int, pack: bool
) -> None:
    whole = official.tarred(NAMES.items(), tarfile.PAX_FORMAT)
    damaged = whole[:at] + piece + whole[at + cut :]
    content = opened(tmp_path, official.packed(damaged) if pack else damaged)
    try:
        found = list(members(content))
    except Mistake:
        return
    assert sum(member.size for member in found) <= len(damaged)
    for entry in found:
        assert len(content.exactly(entry.offset, entry.size)) == entry.size


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=3000))
def test_any_bytes_behind_gzips_mark(tmp_path: Path, content: bytes) -> None:
    unpacked = opened(tmp_path, b"\x1f\x8b" + content)
    with pytest.raises(Mistake, match=r"x\.tar: (damaged gzip|cut short)"):
        unpacked.exactly(0, 10_000)


@given(pieces=st.lists(st.binary(max_size=300), min_size=1, max_size=4), reads=st.lists(st.integers(0, 900)))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_gzip_file_reads_as_the_plain_one(tmp_path: Path, pieces: list[bytes], reads: list[int]) -> None:
    """In any order, also where several lie behind one another with zeros between."""
    plain = b"".join(pieces)
    content = opened(tmp_path, b"\0\0".join(map(official.packed, pieces)))
    for at in reads:
        assert content.read(at, 100) == plain[at : at + 100]
    assert content.length(len(plain)) == len(plain)
    if plain:
        assert content.length(len(plain) - 1) == len(plain)
    with pytest.raises(Mistake, match=f"cut short after {len(plain)} bytes"):
        content.exactly(0, len(plain) + 1)


def test_reading_on_in_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "zeros.gz", "wb", compresslevel=1) as stream:
        for _ in range(40):
            stream.write(bytes(1 << 20))
    tracemalloc.start()
    assert Unpacked(tmp_path / "zeros.gz", "zeros").read(30 << 20, 10) == bytes(10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20
