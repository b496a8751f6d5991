"""ILSVRC-2012's three files: tars within a tar, a devkit, and what can be wrong with them."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.raw.base import TEST, TRAIN, Source
from pipeline.data.raw.matlab import struct_array
from pipeline.data.sources import imagenet
from pipeline.data.sources.imagenet import Images
from pipeline.errors import Mistake
from tests.pipeline.data import official

CLASSES = ("n02012849 crane", "n02119789 kit fox", "n02124075 Egyptian cat", "n03126707 crane")
META = "ILSVRC2012_devkit_t12/data/meta.mat"
TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"

Change = Callable[[dict[str, dict[str, bytes]]], object]


def put(folder: Path, change: Change = lambda parts: None) -> Path:
    parts = official.imagenet()
    change(parts)
    official.write_imagenet(folder, parts)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(Mistake) as caught:
        Images(folder).scan()
    return str(caught.value)


def test_every_image_is_read_where_it_lies(tmp_path: Path) -> None:
    source: Source = Images(put(tmp_path))
    scan = source.scan()
    assert scan.classes == CLASSES
    parts = official.imagenet()
    train = [found for found in scan.found if found.split == TRAIN]
    assert [found.path for found in train[:5]] == [
        "train/n02012849/n02012849_0.JPEG", "train/n02012849/n02012849_1.JPEG", "train/n02012849/n02012849_2.JPEG",
        "train/n02012849/n02012849_3.JPEG", "train/n02119789/n02119789_0.JPEG",
    ]  # fmt: skip
    assert [found.label for found in train[::4]] == list(CLASSES)
    contents = dict(source.contents([found.path for found in scan.found]))
    assert contents["train/n02124075/n02124075_3.JPEG"] == official.jpeg((40, 30, 0))
    for found in scan.found:
        assert found.stamp.size == len(contents[found.path])

    test = [found for found in scan.found if found.split == TEST]
    assert [found.path for found in test] == [f"val/ILSVRC2012_val_{place:08d}.JPEG" for place in range(1, 9)]
    assert [found.label for found in test] == [
        # ground truth 4 2 1 3 1 2 3 4 in the devkit's numbers
        "n03126707 crane", "n02124075 Egyptian cat", "n02119789 kit fox", "n02012849 crane", "n02119789 kit fox",
        "n02124075 Egyptian cat", "n02012849 crane", "n03126707 crane",
    ]  # fmt: skip
    assert contents[test[2].path] == parts["validation"]["ILSVRC2012_val_00000003.JPEG"]

    pixels = source.decoder(16, 3)(contents["train/n02124075/n02124075_3.JPEG"]).pixels
    assert pixels.shape == (16, 16, 3)
    np.testing.assert_allclose(pixels[8, 8], (40, 30, 0), atol=3)
    assert Images(tmp_path).read("val/ILSVRC2012_val_00000007.JPEG") == contents["val/ILSVRC2012_val_00000007.JPEG"]


def test_read_without_a_scan_looks_into_one_synset_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.3 million headers would be read in every process otherwise."""
    source = Images(put(tmp_path))
    looked: list[str] = []
    plain = imagenet.members

    def members(content: object, within: object = None) -> object:
        looked.append(getattr(within, "name", "the archive"))
        return plain(content, within)  # type: ignore[arg-type]

    monkeypatch.setattr(imagenet, "members", members)
    monkeypatch.setattr(imagenet, "_KEPT_INDICES", 2)
    for name in ("n02124075/n02124075_1", "n02124075/n02124075_2", "n02119789/n02119789_0", "n02124075/n02124075_0"):
        assert source.read(f"train/{name}.JPEG")[:2] == b"\xff\xd8"
    assert looked == ["the archive", "n02124075.tar", "n02119789.tar"]
    with pytest.raises(FileNotFoundError):
        source.read("train/n02124075/gone.JPEG")
    with pytest.raises(FileNotFoundError):
        source.read("train/n99999999/n99999999_1.JPEG")


def test_missing_files_are_told_with_all_three_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with pytest.raises(Mistake) as caught:
        Images(None).scan()
    lines = str(caught.value).splitlines()
    assert lines[:3] == [f"data/raw/imagenet: {name}: missing" for name in imagenet.FILES]
    assert f"put them into {tmp_path}/data/raw/imagenet/ as they are:" in lines[3]
    assert lines[4:] == list(imagenet.FILES)
    put(tmp_path / "data" / "raw" / "imagenet")
    assert len(Images(None).scan().found) == 24


def without(part: str, name: str) -> Change:
    return lambda parts: parts[part].pop(name)


def other(part: str, name: str, content: bytes) -> Change:
    return lambda parts: parts[part].__setitem__(name, content)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            without("devkit", TRUTH),
            "ILSVRC2012_devkit_t12.tar.gz: data/ILSVRC2012_validation_ground_truth.txt: missing",
        ),
        (without("devkit", META), "ILSVRC2012_devkit_t12.tar.gz: data/meta.mat: missing; fetch the devkit again"),
        (other("devkit", TRUTH, b"4\n2\n1\n3\n"), "8 images, but 4 labels in ILSVRC2012_validation_ground_truth.txt"),
        (other("devkit", TRUTH, b"4\n5\n"), "line 2: 5: no synset"),
        (other("devkit", TRUTH, b"4\n\xff-1\n"), "line 2: \ufffd-1: no synset"),
        (other("devkit", TRUTH, b""), "data/ILSVRC2012_validation_ground_truth.txt: empty"),
        (other("devkit", META, b"x" * 200), "data/meta.mat: damaged (no MATLAB 5 file)"),
        (other("devkit", META, official.meta_mat()[:300]), "data/meta.mat: damaged ("),
        (other("devkit", META, official.meta_mat(name="others")), "data/meta.mat: damaged (no variable synsets)"),
        (other("devkit", META, official.meta_mat(official.SYNSETS[-1:])), "fewer than two synsets"),
        (without("train", "n02119789.tar"), "ILSVRC2012_img_train.tar: n02119789.tar missing (1 synsets)"),
        (other("train", "n02119789.tar", bytes(1024)), "n02119789.tar: no image in it"),
        (other("train", "n02119789.tar", b"x" * 600), "ILSVRC2012_img_train.tar: n02119789.tar: no tar archive"),
        (without("validation", "ILSVRC2012_val_00000002.JPEG"), "ILSVRC2012_img_val.tar: 7 images, but 8 labels"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_remedy(tmp_path: Path, change: Change, expected: str) -> None:
    message = refused(put(tmp_path, change))
    assert message.startswith(f"data.path: {tmp_path}: ILSVRC2012_")
    assert expected in message
    assert "again" in message


def test_tars_cut_short_or_packed(tmp_path: Path) -> None:
    put(tmp_path)
    for name in imagenet.FILES[:2]:
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert f"{name}: truncated: it ends in the middle" in refused(tmp_path)
        (tmp_path / name).write_bytes(official.packed(whole))
        assert f"{name}: packed with gzip; unpack it (`gunzip`)" in refused(tmp_path)
        (tmp_path / name).write_bytes(whole)
    assert len(Images(tmp_path).scan().found) == 24


def test_the_stamp_sees_every_change(tmp_path: Path) -> None:
    source = Images(put(tmp_path))
    stamps = {source.stamp()}
    for name in imagenet.FILES:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes())
        stamps.add(source.stamp())
    (tmp_path / imagenet.FILES[0]).unlink()
    stamps.add(source.stamp())
    assert len(stamps) == 5


def unpacked_meta() -> bytes:
    """The same variable without compression, so that damage goes deep."""
    from scipy.io import loadmat, savemat

    stream = io.BytesIO()
    savemat(stream, {"synsets": loadmat(io.BytesIO(official.meta_mat()))["synsets"]})
    return stream.getvalue()


UNPACKED = unpacked_meta()


def test_matlab_text_and_numbers_as_scipy_reads_them() -> None:
    from scipy.io import loadmat

    rows = loadmat(io.BytesIO(UNPACKED))["synsets"][:, 0]
    for content in (UNPACKED, official.meta_mat()):
        found = struct_array(content, "synsets")
        assert [list(row) for row in found] == [list(rows.dtype.names)] * 5
        for ours, theirs in zip(found, rows, strict=True):
            for name in ("WNID", "words", "gloss"):
                assert ours[name] == str(theirs[name][0])
            for name in ("ILSVRC2012_ID", "num_children", "num_train_images"):
                assert ours[name] == float(theirs[name][0, 0])


def test_a_matlab_file_cut_anywhere_is_refused() -> None:
    for end in range(len(UNPACKED) - 8):
        with pytest.raises(ValueError, match=r"."):
            struct_array(UNPACKED[:end], "synsets")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"\x0c\0\0\0\x08\0\0\0", b"\x0c\0\0\0\x04\0\0\0", "cut short"),  # a number of 4 of 8 bytes
        (b"\x0c\0\0\0\x08\0\0\0", b"\x0a\0\0\0\x08\0\0\0", "numbers of an unknown kind"),
        (b"\x05\0\x04\0\x11\0\0\0", b"\x05\0\x04\0\0\0\0\0", "structs without names of fields"),
        (b"\x05\0\x04\0\x11\0\0\0", b"\x05\0\x05\0\x11\0\0\0", "cut short"),  # 5 bytes in a tag that has room for 4
        (b"kit fox", b"\xff\xffit fo", "text that is not utf-8"),
        (b"synsets", b"synsetz", "no variable synsets"),
    ],
)
def test_what_is_no_struct_array_is_told(old: bytes, new: bytes, expected: str) -> None:
    assert old in UNPACKED
    with pytest.raises(ValueError, match=expected):
        struct_array(UNPACKED.replace(old, new), "synsets")


def test_a_matlab_variable_that_grows_without_end() -> None:
    packed = zlib.compress(bytes(65 << 20))
    content = UNPACKED[:128] + struct.pack("<II", 15, len(packed)) + packed
    with pytest.raises(ValueError, match="beyond 67108864 bytes"):
        struct_array(content, "synsets")


@settings(max_examples=400)
@given(at=st.integers(0, len(UNPACKED)), piece=st.binary(max_size=16), cut=st.integers(0, 16))
def test_a_damaged_matlab_file_ends_in_a_mistake_or_in_synsets(at: int, piece: bytes, cut: int) -> None:
    """SciPy ends in a segmentation fault here."""
    try:
        found = imagenet._synsets(UNPACKED[:at] + piece + UNPACKED[at + cut :], "meta.mat")
    except Mistake as mistake:
        if str(mistake).startswith("meta.mat: "):
            return
        raise
    assert len(found) >= 2
    assert all(synset.label.isprintable() for synset in found.values())
