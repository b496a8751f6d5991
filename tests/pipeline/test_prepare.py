"""Packing: what goes where, what is quarantined, and that a mistake or a full disk leaves nothing half-written."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import paths, prepare, source, stage, tracking
from pipeline.data import listing
from pipeline.data.packing import decoding
from pipeline.data.raw.archive import Archive
from pipeline.data.sources import open_source
from pipeline.data.store import open_split, read_classes
from pipeline.errors import ExitStatus, Mistake
from pipeline.params import Params, load
from pipeline.pictures import contact_sheet
from pipeline.tracking import open_run as tracking_open_run

ROOT = Path(__file__).parents[2]

OF_SOURCE = {"source.json", "initial.safetensors"}  # what the stage before has left in data/


class Recorder:
    """Stands where the tracking run stands."""

    @contextmanager
    def open_run(self, *arguments: Any, **more: Any) -> Iterator["Recorder"]:
        with tempfile.TemporaryDirectory() as folder:
            self.work = SimpleNamespace(folder=Path(folder))
            yield self

    def log_metrics(self, values: Any, step: int) -> None:
        self.metrics = values

    def log_artifact(self, path: Path, folder: str = "") -> None:
        assert path.exists()


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    found = Recorder()
    monkeypatch.setattr(tracking, "open_run", found.open_run)
    monkeypatch.setattr(prepare, "open_run", found.open_run)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("source: digits", "source: folder").replace("path: null", "path: raw")
    text = text.replace("split: auto", "split: stratified")
    Path("params.yaml").write_text(text.replace("drain_seconds: 60.0", "drain_seconds: 0.0"), encoding="utf-8")
    for number, label in enumerate(("cat", "dog")):
        for index in range(20):
            picture(f"raw/{label}/{index:02d}.{'jpg' if index % 2 else 'png'}", 100 * number + index)
    return found


def picture(name: str, value: int, size: tuple[int, int] = (40, 36)) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 255 - value, 90)).save(name)


def both_stages(**data: object) -> Params:
    params = load().overlaid({"data": data})
    source.run(params)
    prepare.run(params)
    return params


def tree(*folders: Path) -> dict[str, str]:
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return {file.as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def report() -> Any:
    return json.loads((paths.PREPARED / "report.json").read_text())


def test_every_image_is_in_one_split_with_its_own_pixels_and_label(recorder: Recorder) -> None:
    both_stages(image_size=8)
    classes = read_classes(paths.PREPARED)
    assert classes == ("cat", "dog")
    names: list[str] = []
    for folder, count in (
        (paths.PREPARED / "train", 26), (paths.PREPARED / "validation", 6), (paths.TEST, 8)
    ):  # fmt: skip
        split = open_split(folder)
        assert len(split) == count
        assert split.images.shape == (count, 8, 8, 3)
        for pixels, label, name in zip(split.images, split.labels, split.paths(), strict=True):
            assert name.startswith(classes[label])
            expected = 100 * int(label) + int(name.split("/")[1][:2])
            assert np.abs(pixels.astype(int) - [expected, 255 - expected, 90]).max() <= 3
        names += split.paths()
    assert sorted(names) == sorted(item.path for item in listing.read(paths.SOURCE).items)
    assert report()["images"] == {"train": 26, "validation": 6, "test": 8}
    assert recorder.metrics["images/test"] == 8
    assert (paths.PREPARED / "class_counts.csv").read_text().splitlines()[1] == "cat,13,3,4"
    assert {path.name for path in Path("data").iterdir()} == {"prepared", "splits.csv", "test", *OF_SOURCE}


def test_two_runs_give_equal_bytes_whatever_the_processes(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    params = both_stages(image_size=8)
    first = tree(paths.PREPARED, paths.TEST)
    monkeypatch.setattr(decoding, "_FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr(decoding, "_MOST_IMAGES_A_BLOCK", 3)
    prepare.run(params)
    assert tree(paths.PREPARED, paths.TEST) == first
    items = listing.read(paths.SOURCE)
    folder = open_source("folder", "raw", Path.cwd(), {})
    three = decoding.pack(items, folder, Path("three"), 8, 3, workers=3).images
    np.testing.assert_array_equal(three, decoding.pack(items, folder, Path("one"), 8, 3, workers=1).images)


def packed(name: str) -> None:
    """The folder `raw` as a compressed tar, whose members come in an order of its own."""
    with tarfile.open(name, "w:xz") as archive:
        for file in sorted(Path("raw").rglob("*.*"), reverse=True):
            archive.add(file, file.relative_to("raw").as_posix())


def test_a_compressed_tar_is_decoded_in_one_pass_to_the_same_bytes(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged()
    Path("raw/dog/gone.png").unlink()  # a link, which no archive may have
    both_stages(image_size=8, max_bad_fraction=0.1)
    first = tree(paths.PREPARED, paths.TEST)
    packed("set.tar.xz")
    monkeypatch.setattr(Archive, "read", None)  # a pass over the archive for each image
    both_stages(image_size=8, max_bad_fraction=0.1, source="archive", path="set.tar.xz")
    assert tree(paths.PREPARED, paths.TEST) == first


@pytest.mark.parametrize("archived", [False, True])
def test_tiny_huge_and_odd_shaped_images_are_found_by_their_own_sizes(recorder: Recorder, archived: bool) -> None:
    picture("raw/cat/tiny.png", 3, (16, 20))
    picture("raw/dog/odd.png", 9, (200, 40))
    picture("raw/dog/huge.png", 15, (8192, 2100))
    if archived:
        packed("set.tar.xz")
        both_stages(image_size=32, source="archive", path="set.tar.xz")
    else:
        both_stages(image_size=32)
    with (paths.PREPARED / "findings.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["kind"] in ("tiny", "huge", "odd shape")]
    assert [(row["kind"], row["image"], row["detail"]) for row in rows] == [
        ("tiny", "cat/tiny.png", "16 x 20"),
        ("huge", "dog/huge.png", "8192 x 2100"),
        ("odd shape", "dog/odd.png", "200 x 40"),
    ]
    assert report()["checks"]["size"] == {
        "height": {"least": 20, "median": 36.0, "most": 2100},
        "width": {"least": 16, "median": 40.0, "most": 8192},
    }


def test_an_archive_that_has_changed_since_it_was_listed(recorder: Recorder) -> None:
    packed("set.tar.xz")
    params = load().overlaid({"data": {"source": "archive", "path": "set.tar.xz"}})
    source.run(params)
    picture("raw/cat/01.jpg", 7)
    Path("raw/dog/00.png").unlink()
    packed("set.tar.xz")
    with pytest.raises(Mistake) as refused:
        prepare.run(params)
    found = [line.partition("set.tar.xz: ")[2] for line in refused.value.lines]
    assert found == [f"{name}: changed since it was listed; run again" for name in ("cat/01.jpg", "dog/00.png")]
    assert not paths.PREPARED.exists()


@pytest.mark.parametrize("split", ["auto", "stratified"])
def test_groups_are_kept_whole_or_their_cutting_is_told(
    recorder: Recorder, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{label}/{index:02d}.png", label, index // 4) for label in ("cat", "dog") for index in range(0, 20, 2)]
    text = "".join(f"{path},{label},{label} {patient}\n" for path, label, patient in rows)
    Path("raw/patients.csv").write_text("path,label,patient\n" + text)
    both_stages(source="table", path="raw/patients.csv", table={"group": "patient"}, split=split)
    where: dict[str, set[str]] = {}
    for line in paths.SPLITS.read_text().splitlines()[1:]:
        _, _, group, place, _ = line.split(",")
        where.setdefault(group, set()).add(place)
    cut = sum(len(places) > 1 for places in where.values())
    assert len(where) == 10
    assert report()["split"]["groups_cut"] == cut
    assert (cut == 0) == (split == "auto")
    assert (f"{cut} groups lie in several splits" in capsys.readouterr().out) == (split != "auto")


def damaged() -> None:
    whole = Path("raw/cat/01.jpg").read_bytes()
    Path("raw/cat/cut.jpg").write_bytes(whole[: len(whole) // 2])
    Path("raw/cat/empty.png").write_bytes(b"")
    Path("raw/dog/text.jpg").write_bytes(b"I am no image")
    Path("raw/dog/gone.png").symlink_to("nowhere")


def test_bad_files_are_quarantined_with_the_reason(recorder: Recorder) -> None:
    damaged()
    both_stages(max_bad_fraction=0.1)
    reasons = {entry["path"]: entry["reason"] for entry in report()["quarantined"]}
    assert list(reasons) == ["cat/cut.jpg", "cat/empty.png", "dog/gone.png", "dog/text.jpg"]
    assert "truncated" in reasons["cat/cut.jpg"]
    assert reasons["cat/empty.png"] == "empty file"
    assert "not an image" in reasons["dog/text.jpg"]
    assert "broken link" in reasons["dog/gone.png"]
    assert sum(report()["images"].values()) == 40


def test_too_many_bad_files_end_the_stage_and_keep_the_old_outputs(recorder: Recorder) -> None:
    both_stages()
    before = tree(paths.PREPARED, paths.TEST)
    damaged()
    for index in range(12):
        Path(f"raw/dog/bad{index:02d}.jpg").write_bytes(b"no")
    with pytest.raises(Mistake) as caught:
        both_stages()
    lines = caught.value.lines
    assert lines[0].startswith("16 of 56 files cannot be read, more than data.max_bad_fraction (0.05)")
    assert lines[1].startswith("cat/cut.jpg: truncated")
    assert lines[-1] == "... and 6 more"
    assert len(lines) == 12
    assert tree(paths.PREPARED, paths.TEST) == before
    assert {path.name for path in Path("data").iterdir()} == {"prepared", "splits.csv", "test", *OF_SOURCE}


@pytest.mark.parametrize("change", ["content", "gone"])
def test_a_file_changed_since_it_was_listed(recorder: Recorder, change: str) -> None:
    params = load()
    source.run(params)
    if change == "gone":
        os.unlink("raw/cat/04.png")
    else:
        picture("raw/cat/04.png", 77)
    with pytest.raises(Mistake, match=r"cat/04.png: changed since it was listed; run again"):
        prepare.run(params)
    assert not paths.PREPARED.exists()


def test_a_listing_of_another_source(recorder: Recorder) -> None:
    source.run(load())
    digits = load().overlaid({"data": {"source": "digits", "path": None}})
    with pytest.raises(Mistake, match=r"data/source\.json: lists folder, but data\.source is digits; `dvc repro`"):
        prepare.run(digits)


def test_too_few_images_to_split(recorder: Recorder) -> None:
    picture("raw/bird/1.png", 1)
    with pytest.raises(Mistake, match="class bird: 1 readable image, at least 3 needed"):
        both_stages()
    assert not paths.PREPARED.exists()


def test_strange_names_reach_the_index_as_text(recorder: Recorder) -> None:
    for index in range(4):
        picture(os.fsdecode(b"raw/caf\xe9 \xf0\x9f\x90\x88\n/%d \xff.png" % index), 50 + index)
    both_stages()
    assert "caf\\xe9 🐈\\n" in read_classes(paths.PREPARED)
    names = [name for folder in (paths.PREPARED / "train", paths.TEST) for name in open_split(folder).paths()]
    assert any(name.startswith("caf\\xe9 🐈\\n/") for name in names)


def test_given_splits_and_leaks_between_them(recorder: Recorder) -> None:
    for split in ("train", "test"):
        shutil.copytree("raw", f"given/{split}")
    both_stages(path="given", split="auto")
    assert report()["images"] == {"train": 34, "validation": 6, "test": 40}
    assert report()["strategy"] == "given"
    assert report()["checks"]["leaks"] == {
        "test_exact": 40,
        "test_near": 0,
        "validation_exact": 0,
        "validation_near": 0,
    }
    assert all(name.startswith("test/") for name in open_split(paths.TEST).paths())


@pytest.mark.parametrize("place", ["data/prepared", "data/test", ".retrace"])
def test_a_file_in_the_way_of_an_output_is_named_and_kept(
    recorder: Recorder, place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source.run(load())
    if Path(place).is_dir():
        shutil.rmtree(place)
    Path(place).write_text("mine")
    monkeypatch.setattr(prepare, "open_run", tracking_open_run)
    assert stage.main(prepare.run) == ExitStatus.MISTAKE
    said = capsys.readouterr().err
    assert f"{place}: in the way" in said
    assert "Traceback" not in said
    assert Path(place).read_text() == "mine"
    assert not [entry.name for entry in Path("data").iterdir() if entry.name.endswith(".tmp")]


def test_a_place_that_cannot_be_written_to(recorder: Recorder) -> None:
    """On a real file system that is mounted read-only: permissions alone do not hold back root."""
    source.run(load())
    shutil.copytree("data", "only")
    shutil.rmtree("data")
    mounted = "mount --bind only only && mount -o remount,ro,bind only && ln -s only data"
    done = in_own_namespace(f"{mounted} && {sys.executable} -m pipeline.prepare")
    assert done.returncode == 2, done.stderr
    assert "not permitted" in done.stderr
    assert "Traceback" not in done.stderr
    assert {entry.name for entry in Path("only").iterdir()} == OF_SOURCE


def in_own_namespace(script: str) -> subprocess.CompletedProcess[str]:
    """A shell script that may mount file systems, which nobody else sees."""
    enter = ["unshare", "--mount", "--map-root-user"] if os.geteuid() else ["unshare", "--mount"]
    Path("mounted").mkdir()
    if shutil.which("unshare") is None or subprocess.run([*enter, "mount", "-t", "tmpfs", "x", "mounted"]).returncode:
        pytest.skip("no file system can be mounted here")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*enter, "sh", "-c", script], capture_output=True, text=True, env=environment, timeout=120)


def test_a_full_disk_is_a_mistake_and_leaves_nothing(recorder: Recorder) -> None:
    """On a real small file system, in a namespace of its own."""
    both_stages()
    script = (
        "mount -t tmpfs -o size=100k tmpfs small && cp data.json small/source.json && ln -s small data &&"
        f" {sys.executable} -m pipeline.prepare; status=$?; ls -A small; exit $status"
    )
    shutil.copy(paths.SOURCE, "data.json")
    shutil.rmtree("data")
    Path("small").mkdir()
    done = in_own_namespace(script)
    assert done.returncode == 2, done.stderr
    assert "no space left on the disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[1:] == ["prepare: looking for copies", "source.json"]


def test_a_worker_that_dies_is_told(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    source.run(load())
    items = listing.read(paths.SOURCE)
    folder = open_source("folder", "raw", Path.cwd(), {})
    stage = os.getpid()

    def read(self: object, path: str) -> bytes:
        if os.getpid() != stage:
            os.kill(os.getpid(), 9)
        raise AssertionError("read in the stage's own process")

    monkeypatch.setattr(type(folder), "read", read)
    with pytest.raises(RuntimeError, match="-9 means that it was killed"):
        decoding.pack(items, folder, Path("x"), 8, 3, workers=2)


ENDLESS = """
import sys, time
from pathlib import Path
from pipeline.data import listing
from pipeline.data.packing import decoding
from pipeline.data.sources import open_source

decoding._MOST_IMAGES_A_BLOCK = 1
folder = open_source("folder", "raw", Path.cwd(), {})
plain = type(folder).read
type(folder).read = lambda self, path: time.sleep(2) or plain(self, path)
print("started", flush=True)
decoding.pack(listing.read(Path("data/source.json")), folder, Path("x"), 8, 3, workers=2)
"""


def test_no_worker_outlives_a_killed_stage(recorder: Recorder) -> None:
    source.run(load())
    stage_process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert stage_process.stdout is not None
    stage_process.stdout.readline()
    until(lambda: len(of_session(stage_process.pid)) == 3)
    stage_process.kill()
    stage_process.wait()
    stage_process.stdout.close()
    until(lambda: not of_session(stage_process.pid), seconds=10)  # forty files of two seconds would take forty


def of_session(session: int) -> list[str]:
    """The processes that live in it."""
    listed = subprocess.run(["ps", "-s", str(session), "-o", "stat="], capture_output=True, text=True).stdout
    return [state for state in listed.split() if not state.startswith("Z")]


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.1)


def test_the_contact_sheet_shows_training_images_alone(recorder: Recorder) -> None:
    both_stages(image_size=8)
    train = open_split(paths.PREPARED / "train")
    rows = [(name, train.images[train.labels == label][:12]) for label, name in enumerate(("cat", "dog"))]
    assert (paths.PREPARED / "contact_sheet.png").read_bytes() == contact_sheet(rows)


def test_the_embedded_digits(recorder: Recorder, small_params: Callable[..., Params]) -> None:
    params = small_params()
    source.run(params)
    prepare.run(params)
    assert open_split(paths.PREPARED / "train").images.shape == (1168, 8, 8, 1)
    assert read_classes(paths.PREPARED) == tuple("0123456789")


# --- sets made by code ------------------------------------------------------------------------------------------------


def test_equal_points_are_no_copies_and_the_report_says_that_nothing_was_looked_for(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {"figure": "clusters", "classes": 2, "noise": 0.0, "images": 60, "seed": 0}  # all of a class are one point
    both_stages(source="points", path=None, split="auto", on_leak="fail", points=made)
    assert report()["images"] == {"train": 39, "validation": 9, "test": 12}
    assert report()["strategy"] == "stratified"
    assert report()["checks"] == {}
    assert "not pictures" in report()["unchecked"]
    assert "not pictures: no copies" in capsys.readouterr().out
    assert Path("data/prepared/findings.csv").read_text().count("\n") == 1
    assert open_split(paths.PREPARED / "train").images.shape == (39, 1, 1, 2)


def test_a_vector_is_not_blank(recorder: Recorder) -> None:
    made = {"case": "ring", "dimensions": 1024, "images": 40, "seed": 0}  # numbers so small that bytes hardly differ
    both_stages(source="hard_cases", path=None, split="auto", hard_cases=made)
    assert report()["checks"] == {}


def test_shapes_are_looked_through(recorder: Recorder) -> None:
    dials = dict.fromkeys(("viewpoint", "illumination", "deformation", "occlusion", "clutter", "intra_class"), 0.0)
    made = {**dials, "side": 16, "images": 80, "seed": 0}  # every image of a class is the same
    both_stages(source="shapes", path=None, split="auto", shapes=made)
    assert report()["checks"]["leaks"]["test_exact"] == len(open_split(paths.TEST)) == 16
    assert "unchecked" not in report()
