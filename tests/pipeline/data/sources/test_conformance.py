"""What every kind of source promises, and that one set of images is the same in whatever it comes."""

import hashlib
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline import source as stage
from pipeline.data import listing
from pipeline.data.packing import decoding
from pipeline.data.raw.base import Source
from pipeline.data.sources import open_source
from pipeline.data.sources.shapes import DIALS
from tests.pipeline.data import archives

Maker = Callable[[Path], Source]
SETTINGS = {"image": "path", "label": "label"}


def as_digits(place: Path) -> Source:
    return open_source("digits", None, place, {})


def as_hard_cases(place: Path) -> Source:
    return open_source("hard_cases", None, place, {"case": "modes", "dimensions": 64, "images": 30, "seed": 0})


def as_shapes(place: Path) -> Source:
    return open_source("shapes", None, place, {"side": 8, "images": 30, "seed": 0, **dict.fromkeys(DIALS, 0.5)})


def as_folder(place: Path) -> Source:
    archives.folder(archives.images(), place / "set")
    return open_source("folder", "set", place, {})


def as_archive(kind: str, around: str = "") -> Maker:
    def make(place: Path) -> Source:
        files = {f"{around}{name}": content for name, content in archives.images().items()}
        (place / f"set.{kind}").write_bytes(archives.ARCHIVES[kind](files))
        return open_source("archive", f"set.{kind}", place, {})

    return make


def rows(files: archives.Files) -> list[tuple[str, str]]:
    return [(name, name.partition("/")[0]) for name in files]


def plain() -> dict[str, bytes]:
    """The images whose names a table in UTF-8 can hold."""
    return {name: content for name, content in archives.images().items() if name.isprintable()}


def csv(files: archives.Files) -> bytes:
    return b"path,label\n" + "".join(f"{name},{label}\n" for name, label in rows(files)).encode()


def as_csv(place: Path) -> Source:
    archives.folder(plain() | {"labels.csv": csv(plain())}, place / "set")
    return open_source("table", "set/labels.csv", place, SETTINGS)


def as_parquet_in_a_folder(place: Path) -> Source:
    import pyarrow as pa
    from pyarrow import parquet

    archives.folder(plain(), place / "set")
    names, labels = zip(*rows(plain()), strict=True)
    table = pa.table({"label": pa.array(labels).dictionary_encode(), "other": [0.5] * len(names), "path": names})
    parquet.write_table(table, place / "set" / "labels.parquet")
    return open_source("table", "set", place, SETTINGS | {"file": "labels.parquet"})


def as_table_in(kind: str) -> Maker:
    def make(place: Path) -> Source:
        files = {f"set/images/{name}": content for name, content in plain().items()}
        files["set/meta/labels.csv"] = csv(plain())
        (place / f"set.{kind}").write_bytes(archives.ARCHIVES[kind](files))
        return open_source("table", f"set.{kind}", place, SETTINGS | {"file": "meta/labels.csv", "folder": "images"})

    return make


SOURCES: dict[str, Maker] = {
    "digits": as_digits,
    "hard_cases": as_hard_cases,
    "shapes": as_shapes,
    "folder": as_folder,
    **{kind: as_archive(kind) for kind in archives.ARCHIVES},
    "tar around": as_archive("tar", "some/where/"),
    "tar.xz dot": as_archive("tar.xz", "./"),
    "csv": as_csv,
    "parquet": as_parquet_in_a_folder,
    "table in zip": as_table_in("zip"),
    "table in tar": as_table_in("tar"),
    "table in tar.gz": as_table_in("tar.gz"),
}
ALWAYS_THERE = ("digits", "hard_cases", "shapes")


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.chdir(tmp_path)
    return SOURCES[request.param](tmp_path)


def test_the_listing_is_sorted_whole_and_always_the_same(source: Source) -> None:
    scan = source.scan()
    paths = [found.path for found in scan.found]
    assert paths == sorted(set(paths))
    assert len(paths) >= 10
    assert {found.label for found in scan.found} == set(scan.classes)
    assert list(scan.classes) == sorted(scan.classes)
    assert source.scan() == scan
    assert source.stamp() == source.stamp()


def test_contents_are_what_read_gives_and_have_the_size_and_hash_listed(source: Source) -> None:
    scan = source.scan()
    stamps = {found.path: found.stamp for found in scan.found}
    contents = dict(source.contents(stamps.keys()))
    assert contents.keys() == stamps.keys()
    for path in list(stamps)[:12]:
        assert source.read(path) == contents[path]
        assert len(contents[path]) == stamps[path].size
        if path in scan.hashes:
            assert scan.hashes[path] == hashlib.sha256(contents[path]).hexdigest()
    assert (set(stamps) <= scan.hashes.keys()) == source.sequential
    some = list(stamps)[3:7]
    assert sorted(path for path, _ in source.contents(some)) == some
    assert list(source.contents(())) == []


@pytest.mark.parametrize("source", [kind for kind in SOURCES if kind not in ALWAYS_THERE], indirect=True)
def test_what_is_not_there_is_a_missing_file(source: Source) -> None:
    with pytest.raises(FileNotFoundError):
        source.read("no/such.png")
    with pytest.raises(FileNotFoundError):
        list(source.contents(["no/such.png"]))


def test_another_process_reads_the_same(source: Source) -> None:
    """As decoding does it, and also where a process starts anew, as on macOS."""
    path = source.scan().found[-1].path
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(pickle.loads(pickle.dumps(source)).read, (path,)) == source.read(path)


def test_contents_decode(source: Source) -> None:
    decode = source.decoder(8, 3)
    for _, content in source.contents([found.path for found in source.scan().found[:3]]):
        assert decode(content).pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("kind", [name for name in SOURCES if name not in (*ALWAYS_THERE, "folder")])
def test_the_same_images_in_whatever_they_come(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes, labels, hashes and pixels; what lies around them changes the path alone."""
    monkeypatch.chdir(tmp_path)
    source = SOURCES[kind](tmp_path)
    found = listed(source)
    reference = as_folder(tmp_path / "reference")
    expected = listed(reference)
    assert found.classes == expected.classes
    wanted = {item.sha256: item for item in expected.items}
    if "table" in kind or kind in ("csv", "parquet"):
        wanted = {digest: item for digest, item in wanted.items() if item.path.isprintable()}
    assert {item.sha256 for item in found.items} == wanted.keys()
    for item in found.items:
        same = wanted[item.sha256]
        assert (item.label, item.size, item.split) == (same.label, same.size, same.split)
        assert item.path.removeprefix("some/where/").removeprefix("set/images/") == same.path
    ours = {i.sha256: pixels for i, pixels in zip(found.items, packed(found, source, tmp_path), strict=True)}
    theirs = {i.sha256: pixels for i, pixels in zip(expected.items, packed(expected, reference, tmp_path), strict=True)}
    for digest, pixels in ours.items():
        np.testing.assert_array_equal(pixels, theirs[digest])


def listed(source: Source) -> listing.Listing:
    return stage.listed("any", source, source.scan(), {})[0]


def packed(found: listing.Listing, source: Source, place: Path) -> np.ndarray:
    result = decoding.pack(found, source, place / "packed", 8, 3, workers=1)
    assert not result.bad
    assert not result.changed
    return np.array(result.images)
