"""Archives as people have them, and as nobody should have them: each refused by name, with nothing written."""

import gzip
import io
import lzma
import os
import shutil
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pipeline import paths
from pipeline import source as stage
from pipeline.data.raw import streams
from pipeline.data.raw.archive import Archive
from pipeline.data.sources.archive import Images
from pipeline.errors import ExitStatus, Mistake
from tests.pipeline.data import archives

GOOD = {"a/1.png": b"one", "b/2.png": b"two"}
PACKERS = archives.ARCHIVES


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def opened(content: bytes) -> Images:
    Path("set").write_bytes(content)
    return Images(Path("set"))


def refused(content: bytes) -> str:
    """What is said of an archive, be it listed or, where listing shows nothing, read."""
    source = opened(content)
    with pytest.raises(Mistake) as caught:
        list(source.contents([found.path for found in source.scan().found]))
    assert str(caught.value).startswith("data.path: set: ")
    return str(caught.value)


def tar_of(*members: tarfile.TarInfo) -> bytes:
    """The good members and these."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in GOOD.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


def zip_of(*members: zipfile.ZipInfo, content: bytes = b"x") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, good in GOOD.items():
            archive.writestr(name, good)
        for made in members:
            archive.writestr(made, content)
    return stream.getvalue()


# --- as people have them ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PACKERS)
def test_a_folder_around_everything_is_stepped_over(kind: str) -> None:
    files = {f"cifar10/train/{label}/1.png": label.encode() for label in "ab"} | {"__MACOSX/cifar10/._train": b"junk"}
    scan = opened(PACKERS[kind](files)).scan()
    assert scan.classes == ("a", "b")
    assert [(f.path, f.split) for f in scan.found] == [(f"cifar10/train/{label}/1.png", "train") for label in "ab"]


def test_leftovers_and_other_files_as_in_a_folder() -> None:
    files = GOOD | {"README.md": b"", "a/.hidden.png": b"", ".git/a/1.png": b"", "a/notes.txt": b"", "a/Thumbs.db": b""}
    scan = opened(archives.tar(files)).scan()
    assert [found.path for found in scan.found] == ["a/1.png", "b/2.png"]
    assert [path for path, _ in scan.ignored] == ["README.md", "a/notes.txt"]


def test_windows_separators_in_a_zip() -> None:
    made = zipfile.ZipInfo("c/3.png")
    made.create_system = 0
    content = zip_of(made).replace(b"c/3.png", b"c\\3.png")
    assert opened(content).scan().classes == ("a", "b", "c")


def test_a_tar_of_the_year_1979() -> None:
    """Without the mark "ustar", and with a folder that only its slash tells."""
    stream = bytearray(tar_of(member("c/", tarfile.REGTYPE), member("c/3.png")))
    for start in range(0, len(stream), 512):
        if stream[start + 257 : start + 262] == b"ustar":
            stream[start + 257 : start + 265] = bytes(8)
            stream[start + 148 : start + 156] = b" " * 8
            stream[start + 148 : start + 156] = b"%06o\0 " % sum(stream[start : start + 512])
    assert opened(bytes(stream)).scan().classes == ("a", "b", "c")


@pytest.mark.parametrize("opener", [gzip.compress, lzma.compress, zstandard.compress])
def test_streams_one_after_another_and_padding(opener: Callable[[bytes], bytes]) -> None:
    """As pigz, xz and zstd write them with several threads."""
    content = archives.tar(GOOD)
    parts = [opener(content[:700]), opener(content[700:3000]), bytes(8), opener(content[3000:]), bytes(64)]
    assert len(opened(b"".join(parts)).scan().found) == 2


def test_an_unchanged_archive_is_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of members with their hashes is kept, unless the archive is so young that its times may not tell."""
    source = opened(PACKERS["tar.xz"](GOOD))
    source.scan()
    assert not paths.source_memory().exists()
    old = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: old + 10_000_000_000)
    expected = Images(Path("set")).scan()
    (kept,) = paths.source_memory().iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(Archive, "_hashed", lambda *_: pytest.fail("unpacked again"))
        assert Images(Path("set")).scan() == expected
    kept.write_bytes(b"{damaged")
    assert Images(Path("set")).scan() == expected
    Path("set").write_bytes(PACKERS["tar.xz"](GOOD | {"c/3.png": b""}))
    assert len(Images(Path("set")).scan().found) == 3


def test_the_stage_unpacks_once_and_lists_nothing_of_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(PACKERS["tar.gz"](GOOD))
    asked: list[str] = []
    monkeypatch.setattr(Images, "contents", lambda self, wanted: iter([asked.extend(wanted)] if wanted else []))
    found, remembered = stage.listed("archive", source, source.scan(), {})
    assert not asked
    assert [item.size for item in found.items] == [3, 3]
    assert all(item.sha256 for item in found.items)
    assert os.getcwd().encode() not in found.to_bytes()
    assert remembered == {}  # it is young


def test_a_touched_archive_has_another_stamp() -> None:
    source = opened(archives.tar(GOOD))
    before = source.stamp()
    assert source.stamp() == before
    os.utime("set", (1, 1))
    assert source.stamp() != before


# --- as nobody should have them ---------------------------------------------------------------------------------------


def test_no_archive() -> None:
    for look in (Images.stamp, Images.scan, lambda source: source.sequential, lambda source: source.read("a/1.png")):
        with pytest.raises(Mistake, match=r"not found; set data\.path"):
            look(Images(Path("nowhere.zip")))
    Path("folder").mkdir()
    with pytest.raises(Mistake, match=r"set data\.source: folder"):
        Images(Path("folder")).scan()
    assert "empty; copy" in refused(b"")
    for other in (b"x", b"Rar!\x1a\x07\0" + bytes(2000), b"7z\xbc\xaf'\x1c" + bytes(2000)):
        assert "make it a .zip, .tar," in refused(other)
    assert "header is none" in refused(gzip.compress(bytes(range(256)) * 4))


@pytest.mark.parametrize("name", ["/etc/passwd", "C:/x.png", "../x.png", "a/../../x.png", "a/.."])
@pytest.mark.parametrize("pack", [archives.tar, archives.zipped, PACKERS["tar.zst"]])
def test_names_that_lead_outside(name: str, pack: Callable[[archives.Files], bytes]) -> None:
    message = refused(pack(GOOD | {name: b"x"}))
    assert f"set: {name}: an absolute name" in message or f"set: {name}: a name that climbs out" in message


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"), (tarfile.LNKTYPE, "a hard link"), (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"), (tarfile.FIFOTYPE, "a named pipe"), (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"Z", "of an unknown type b'Z'"),
    ],
)  # fmt: skip
def test_links_and_devices_in_a_tar(kind: bytes, what: str) -> None:
    content = tar_of(member("a/odd.png", kind, "1.png"))
    for packed in (content, gzip.compress(content)):
        assert f"set: a/odd.png: {what}; pack the files themselves" in refused(packed)


@pytest.mark.parametrize(("mode", "what"), [(0o120777, "a symbolic link"), (0o020666, "a device")])
def test_links_and_devices_in_a_zip(mode: int, what: str) -> None:
    made = zipfile.ZipInfo("a/odd.png")
    made.external_attr = mode << 16
    assert f"set: a/odd.png: {what}" in refused(zip_of(made))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_twice() -> None:
    assert "set: a/1.png: twice" in refused(tar_of(member("a/1.png")))
    assert "set: ./a//1.png: twice" in refused(tar_of(member("./a//1.png")))
    assert "set: a/1.png: twice" in refused(zip_of(zipfile.ZipInfo("a/1.png")))
    assert "set: a: both a file and a folder" in refused(tar_of(member("a")))
    assert opened(tar_of(member("a", tarfile.DIRTYPE), member("a/", tarfile.DIRTYPE))).scan().classes == ("a", "b")


@pytest.mark.parametrize("name", ["more.zip", "a/more.TAR", "b/deep/train.tar.gz", "c.7z"])
def test_an_archive_in_the_archive(name: str) -> None:
    for kind in ("zip", "tar", "tar.xz"):
        assert f"set: {name}: an archive in the archive" in refused(PACKERS[kind](GOOD | {name: b"x"}))


@pytest.mark.parametrize("kind", PACKERS)
def test_truncated_anywhere(kind: str) -> None:
    whole = PACKERS[kind]({f"{label}/{n}.png": archives.png(n) for label in "ab" for n in range(3)})
    for share in (0.01, 0.3, 0.5):  # a plain tar ends with kilobytes of zeros that nobody misses
        refused(whole[: int(share * len(whole))])
    if "." in kind and kind != "gnu.tar":
        assert "truncated" in refused(whole[:-1])


def test_a_tar_without_its_end() -> None:
    content = archives.tar(GOOD)
    assert "truncated" in refused(content[: 2 * 1024])
    assert len(opened(content[: 2 * 1024 + 512]).scan().found) == 2  # one block of zeros is an end


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz", "tar.zst"])
def test_content_that_is_not_what_its_checksum_says(kind: str) -> None:
    image = bytes(range(256)) * 4
    pack = PACKERS[kind]
    content = bytearray(pack({"a/1.png": image, "b/2.png": image[::-1]}))
    start = content.index(b"a/1.png") + len("a/1.png") if kind == "zip" else len(content) // 2
    content[start + 20] ^= 0x10
    assert "damaged" in refused(bytes(content))


def test_a_stored_member_of_a_zip_with_a_wrong_checksum() -> None:
    content = archives.zipped(GOOD, zipfile.ZIP_STORED).replace(b"two", b"TWO")
    assert "set: b/2.png: damaged: its content is not what its checksum says" in refused(content)


def test_an_encrypted_zip() -> None:
    content = bytearray(zip_of())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert "set: a/1.png: encrypted; pack it again without a password" in refused(bytes(content))


def test_a_zip_of_another_method() -> None:
    assert "compressed by method 12; pack it again with deflate" in refused(archives.zipped(GOOD, zipfile.ZIP_BZIP2))


def test_joined_archives() -> None:
    content = archives.tar(GOOD)
    assert "goes on after its end" in refused(content + content)
    assert "goes on after its end" in refused(gzip.compress(content) + gzip.compress(content))


def bomb() -> bytes:
    """70 MB of nothing."""
    return tar_of(member("a/bomb.png", size=70 << 20))


@pytest.mark.parametrize("opener", [lambda content: gzip.compress(content, 9), lzma.compress, zstandard.compress])
def test_a_bomb_in_a_stream(opener: Callable[[bytes], bytes]) -> None:
    assert "taken for a decompression bomb" in refused(opener(bomb()))


def test_a_bomb_in_a_zip() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/bomb.png", bytes(70 << 20))
    assert "taken for a decompression bomb" in refused(stream.getvalue())


def test_a_zip_that_grows_beyond_what_it_says() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(1 << 20))
        archive.writestr("b/1.png", b"x")
    said = struct.pack("<L", 1 << 20)
    content = stream.getvalue()
    assert content.count(said) == 2
    assert "not what its checksum says" in refused(content.replace(said, struct.pack("<L", 5)))


def test_members_of_a_zip_that_share_their_content() -> None:
    """How a zip of kilobytes unpacks to petabytes (Fifield 2019): all members point at one content."""
    content = bytearray(zip_of())
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = bytes(4)  # where its local header is said to lie
    assert "its content lies in another member's" in refused(bytes(content))


def test_a_total_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_MOST_BYTES", 1000)
    for kind in ("zip", "tar.gz"):
        assert "taken for a decompression bomb" in refused(PACKERS[kind]({"a/1": os.urandom(1500), "b/1": b""}))


def test_a_dictionary_that_would_fill_the_memory() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
    assert "damaged" in refused(lzma.compress(archives.tar(GOOD), filters=filters))
    parameters = zstandard.ZstdCompressionParameters(window_log=28)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    assert "damaged" in refused(stream.compress(archives.tar(GOOD)) + stream.flush())


def test_a_pax_header_of_a_gigabyte() -> None:
    header = member("x", tarfile.XHDTYPE)
    header.size = 1 << 30
    assert "more than 1048576" in refused(header.tobuf(tarfile.USTAR_FORMAT) + bytes(512))


def test_a_size_below_zero_and_beyond_every_disk() -> None:
    for size in (-1, 1 << 70):
        header = member("a/1.png")
        header.size = size
        assert "damaged" in refused(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def test_a_huge_member_is_listed_as_unreadable() -> None:
    stream = tar_of(member("a/3.png"))
    header = member("b/huge.png")
    header.size = 2 << 30
    with open("set", "wb") as file:
        file.write(stream[: 4 * 512] + header.tobuf())
        file.truncate(4 * 512 + 512 + (2 << 30) + 1024)  # takes no room on the disk
    problems = {found.path: found.problem for found in Images(Path("set")).scan().found}
    assert problems["a/1.png"] is None
    assert "not opened" in str(problems["b/huge.png"])


def test_the_stage_ends_with_2_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).parents[4]
    text = (root / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("source: digits", "source: archive").replace("path: null", "path: set")
    Path("params.yaml").write_text(text, encoding="utf-8")
    for file in ("dvc.yaml", "constraints.txt"):
        shutil.copy(root / file, file)
    Path("set").write_bytes(tar_of(member("a/link.png", tarfile.SYMTYPE, "1.png")))
    assert stage.main() == ExitStatus.MISTAKE
    error = capsys.readouterr().err
    assert "data.path: " in error
    assert "set: a/link.png: a symbolic link" in error
    assert "Traceback" not in error
    assert not paths.SOURCE.exists()
