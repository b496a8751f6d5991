"""CIFAR's binary version: as published, unpacked, damaged."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.raw import unpacked
from pipeline.data.raw.base import TEST, TRAIN, Source
from pipeline.data.sources.cifar10 import Images as Cifar10
from pipeline.data.sources.cifar100 import Images as Cifar100
from pipeline.errors import Mistake
from tests.pipeline.data import official

RECORD = 3073


def put(folder: Path, files: dict[str, bytes], form: str) -> Path:
    """In one of the forms that people have; what data.path is set to."""
    folder.mkdir(parents=True, exist_ok=True)
    if form.startswith("archive"):
        file = folder / "cifar-10-binary.tar.gz"
        file.write_bytes(official.cifar10_archive(files))
        return file if form == "archive" else folder
    inside = folder / "cifar-10-batches-bin"
    inside.mkdir(exist_ok=True)
    for name, content in files.items():
        (inside / name).write_bytes(content)
    return inside if form == "folder" else folder


FORMS = ("archive", "archive in a folder", "folder", "folder in a folder")


@pytest.mark.parametrize("form", FORMS)
def test_every_image_and_label_comes_back(tmp_path: Path, form: str) -> None:
    files, truth = official.cifar10(each=20)
    source: Source = Cifar10(put(tmp_path, files, form))
    assert source.sequential == form.startswith("archive")
    scan = source.scan()
    assert scan.classes == official.CIFAR10_CLASSES
    assert [found.path for found in scan.found] == [f"train/{n:05d}" for n in range(100)] + [
        f"test/{n:05d}" for n in range(20)
    ]
    images = np.concatenate([images for images, _ in truth.values()])
    labels = [official.CIFAR10_CLASSES[label] for _, own in truth.values() for label in own]
    assert [found.label for found in scan.found] == labels
    assert [found.split for found in scan.found] == [TRAIN] * 100 + [TEST] * 20
    decode = source.decoder(32, 3)
    contents = dict(source.contents([found.path for found in scan.found]))
    for found, image in zip(scan.found, images, strict=True):
        assert found.stamp.size == len(contents[found.path]) == 3072
        np.testing.assert_array_equal(decode(contents[found.path]).pixels, image)
    backwards = [found.path for found in scan.found[::-7]]
    assert [source.read(path) for path in backwards] == [contents[path] for path in backwards]
    again = Cifar10(put(tmp_path, files, form))  # as prepare opens it: a read without a scan
    assert again.read("train/00047") == contents["train/00047"]


def test_contents_come_as_they_lie_in_the_archive(tmp_path: Path) -> None:
    """One pass over a packed archive, whose batches lie in an order of their own; those wanted alone."""
    files, _ = official.cifar10(each=2)
    source = Cifar10(put(tmp_path, files, "archive"))
    wanted = ["test/00001", "train/00000", "train/00003", "train/00008", "train/00004"]
    assert [path for path, _ in source.contents(wanted)] == [
        "train/00000", "train/00004", "test/00001", "train/00008", "train/00003",
    ]  # fmt: skip


def test_a_packed_archive_is_unpacked_once_for_each_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = official.cifar10(each=400)
    file = put(tmp_path, files, "archive")
    read: list[int] = []
    plain = unpacked._read
    monkeypatch.setattr(unpacked, "_read", lambda file, *of: read.append(of[1]) or plain(file, *of))
    source = Cifar10(file)
    found = source.scan().found
    once = file.stat().st_size + 4 * unpacked._CHUNK
    assert sum(read) <= once
    read.clear()
    assert sum(1 for _ in source.contents([image.path for image in found])) == 2400
    assert sum(read) <= once


@pytest.mark.parametrize("labels", ["fine", "coarse"])
def test_cifar100_by_either_label(tmp_path: Path, labels: str) -> None:
    files, coarse, fine = official.cifar100()
    archive = tmp_path / "cifar-100-binary.tar.gz"
    archive.write_bytes(official.cifar100_archive(files))
    source = Cifar100(archive, labels=labels)  # type: ignore[arg-type]
    scan = source.scan()
    expected = {"fine": fine, "coarse": coarse}[labels]
    assert [found.label for found in scan.found[:200]] == [f"{labels}_{number:02d}" for number in expected]
    assert len(scan.classes) == {"fine": 100, "coarse": 20}[labels]
    image = official.pixels(0, 200, 32, 32, 3)[123]
    np.testing.assert_array_equal(source.decoder(32, 3)(source.read("train/00123")).pixels, image)


def refused(source: Source) -> str:
    with pytest.raises(Mistake) as caught:
        source.scan()
    return str(caught.value)


def changed(name: str, content: bytes | None) -> dict[str, bytes]:
    files, _ = official.cifar10(each=3)
    return {key: value for key, value in {**files, name: content}.items() if value is not None}


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_bad_batches_are_told_with_file_and_remedy(tmp_path: Path, form: str) -> None:
    files, _ = official.cifar10(each=3)
    batch = files["data_batch_2.bin"]
    cases = {
        "data_batch_2.bin: 9218 bytes, no whole number of 3073-byte records; fetch": batch[:-1],
        "data_batch_2.bin: 6146 bytes, cut short: another batch has 9219; fetch": batch[:-RECORD],
        "data_batch_2.bin: 0 bytes, no whole number": b"",
        "data_batch_2.bin: missing; fetch https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz again": None,
        "data_batch_2.bin: image 4: label 10, but batches.meta.txt names 10 classes": batch[:RECORD]
        + b"\x0a"
        + batch[RECORD + 1 :],
    }
    for number, (expected, content) in enumerate(cases.items()):
        message = refused(Cifar10(put(tmp_path / str(number), changed("data_batch_2.bin", content), form)))
        assert expected in message
        assert len(message.splitlines()) == 1


def test_class_names_that_are_no_such(tmp_path: Path) -> None:
    for number, (content, expected) in enumerate(
        [
            (None, "batches.meta.txt: missing"),
            (b"\n\n", "no class names"),
            (b"cat\ncat\n", "no class names, or one twice"),
            (b"\xff\xfe", "batches.meta.txt: no text"),
            (b"x" * 100_000, "100000 bytes, no list of names"),
        ]
    ):
        source = Cifar10(put(tmp_path / str(number), changed("batches.meta.txt", content), "archive"))
        assert expected in refused(source)


def test_nothing_there(tmp_path: Path) -> None:
    message = refused(Cifar10(tmp_path / "nowhere"))
    assert "neither cifar-10-binary.tar.gz nor cifar-10-batches-bin/ is there; set data.path" in message
    assert refused(Cifar10(tmp_path)) == message.replace("/nowhere", "")


def test_archives_that_are_none_or_cut_short(tmp_path: Path) -> None:
    files, _ = official.cifar10(each=3)
    whole = official.cifar10_archive(files)
    file = tmp_path / "cifar-10-binary.tar.gz"
    for content, expected in [
        (b"", "no tar archive"),
        (b"<html>not found</html>" * 40, "no tar archive"),
        (whole[:-9], "cut short after"),
        (whole[: len(whole) // 2], "cut short after"),
        (whole[:-5] + b"\0" * 5, "damaged gzip"),
        (official.packed(b""), "no tar archive"),
        (official.packed(official.tarred(files.items())[:5000]), "cut short after 5000 bytes"),
    ]:
        file.write_bytes(content)
        assert expected in refused(Cifar10(file))
    file.write_bytes(whole + whole[:100])
    assert "cut short after" in refused(Cifar10(file))


def test_the_stamp_sees_every_change(tmp_path: Path) -> None:
    files, _ = official.cifar10(each=3)
    for form in FORMS:
        source = Cifar10(put(tmp_path / form, files, form))
        before = source.stamp()
        assert source.stamp() == before
        file = next(file for file in (tmp_path / form).rglob("*") if file.suffix in (".gz", ".txt"))
        file.write_bytes(file.read_bytes())
        assert source.stamp() != before


def _reads(source: Source, paths: list[str], found: "multiprocessing.SimpleQueue[list[bytes]]") -> None:
    found.put([source.read(path) for path in paths])


def test_forked_processes_read_at_once(tmp_path: Path) -> None:
    """Each from its own place in the packed archive: a shared descriptor would mix them up."""
    files, _ = official.cifar10(each=200)
    source = Cifar10(put(tmp_path, files, "archive"))
    source.read("train/00500")  # a position is open when they fork
    expected = dict(source.contents([f"train/{n:05d}" for n in range(1000)]))
    context = multiprocessing.get_context("fork")
    shares = [list(expected)[start::3] for start in range(3)]
    queues = [context.SimpleQueue() for _ in shares]
    workers = [
        context.Process(target=_reads, args=(source, share, queue)) for share, queue in zip(shares, queues, strict=True)
    ]
    for worker in workers:
        worker.start()
    for share, queue in zip(shares, queues, strict=True):
        assert queue.get() == [expected[path] for path in share]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_ends_in_a_mistake_or_leaves_images(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes changed, cut or put in, in the .tar itself, so that the damage goes deeper than gzip's checksum."""
    files, _ = official.cifar10(each=1)
    tar = official.tarred((f"cifar-10-batches-bin/{name}", content) for name, content in files.items())
    headers = [at for at in range(0, len(tar), 512) if tar[at + 257 : at + 262] == b"ustar"]
    at = data.draw(st.sampled_from(headers)) + data.draw(st.integers(0, 520))
    piece = data.draw(st.binary(min_size=0, max_size=24))
    cut = data.draw(st.integers(0, 24))
    damaged = tar[:at] + piece + tar[at + cut :]
    file = tmp_path / "cifar-10-binary.tar.gz"
    file.write_bytes(damaged if data.draw(st.booleans()) else official.packed(damaged))
    source = Cifar10(file)
    try:
        scan = source.scan()
    except Mistake as mistake:
        if str(mistake).startswith(f"data.path: {file}"):
            return
        raise
    assert len(scan.found) == 6
    for found in scan.found:
        assert len(source.read(found.path)) == 3072
