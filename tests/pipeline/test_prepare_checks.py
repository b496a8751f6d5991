"""Copies, splits and folds all the way through `prepare`, on files."""

import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import paths, prepare, source, stage
from pipeline.data import listing
from pipeline.data.store import open_split
from pipeline.errors import ExitStatus, Mistake
from pipeline.params import load
from tests.pipeline.data.checks.test_copies import scenes
from tests.pipeline.test_prepare import Recorder, both_stages, recorder, report, tree

__all__ = ["recorder"]


@pytest.fixture
def leaky(recorder: Recorder) -> None:
    """Splits with: an exact copy of a test image in train, one recompressed in validation, one shifted in train, and a
    validation image again in train."""
    shutil.rmtree("raw")
    pictures = iter(scenes(60))
    for split, count in (("train", 8), ("val", 5), ("test", 5)):
        for label in ("cat", "dog"):
            for index in range(count):
                save(next(pictures), f"raw/{split}/{label}/{index}.png")
    shutil.copy("raw/test/cat/0.png", "raw/train/cat/exact.png")
    Image.open("raw/test/cat/1.png").save("raw/val/cat/recompressed.jpg", quality=70)
    save(np.roll(np.asarray(Image.open("raw/test/dog/2.png")), 1, axis=1), "raw/train/dog/shifted.png")
    shutil.copy("raw/val/dog/3.png", "raw/train/dog/chosen.png")


def save(pixels: np.ndarray, name: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(name)


def rows() -> dict[str, dict[str, str]]:
    with paths.SPLITS.open(encoding="utf-8", newline="") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


COPIES = {"train/cat/exact.png", "val/cat/recompressed.jpg", "train/dog/shifted.png", "train/dog/chosen.png"}


def test_warn_says_so_and_keeps_all(leaky: None, capsys: pytest.CaptureFixture[str]) -> None:
    both_stages(split="auto", on_leak="warn")
    said = capsys.readouterr().out
    assert "3 of 10 test images have a copy in train or validation (1 exact); 1 of 11 validation images have" in said
    assert report()["images"] == {"train": 19, "validation": 11, "test": 10}
    assert report()["checks"]["leaks"] == {"test_exact": 1, "test_near": 2, "validation_exact": 1, "validation_near": 0}
    assert report()["split"]["dropped"] == 0
    with (paths.PREPARED / "findings.csv").open(encoding="utf-8", newline="") as stream:
        found = {frozenset((row["image"], row["other"])) for row in csv.DictReader(stream)}
    assert {frozenset(("test/cat/0.png", "train/cat/exact.png"))} <= found
    assert {frozenset(("test/dog/2.png", "train/dog/shifted.png"))} <= found
    assert (paths.PREPARED / "checks.png").stat().st_size > 5000


def test_drop_leaves_the_copies_out_and_no_test_image(leaky: None) -> None:
    both_stages(split="auto", on_leak="drop")
    assert {name for name, row in rows().items() if row["split"] == "dropped"} == COPIES
    assert report()["images"] == {"train": 16, "validation": 10, "test": 10}
    assert set(report()["dropped"]) == COPIES
    kept = open_split(paths.PREPARED / "train").paths() + open_split(paths.PREPARED / "validation").paths()
    assert not COPIES & set(kept)
    assert len(kept) == 26


def test_fail_names_them_and_leaves_nothing(leaky: None, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    text = text.replace("split: stratified", "split: auto").replace("on_leak: warn", "on_leak: fail")
    Path("params.yaml").write_text(text, encoding="utf-8")
    source.run(load())
    assert stage.main(prepare.run) == ExitStatus.MISTAKE
    said = capsys.readouterr().err
    assert "4 images have a copy in a split before theirs, and data.on_leak is fail" in said
    assert "test/cat/0.png (test): exact copy of train/cat/exact.png (train)" in said
    assert "test/cat/1.png (test): near copy of val/cat/recompressed.jpg (validation)" in said
    assert "val/dog/3.png (validation): exact copy of train/dog/chosen.png (train)" in said
    assert "Traceback" not in said
    assert sorted(entry.name for entry in Path("data").iterdir()) == ["initial.safetensors", "source.json"]


def test_a_class_that_dropping_would_empty(leaky: None) -> None:
    shutil.rmtree("raw/val/cat")
    Path("raw/val/cat").mkdir()
    shutil.copy("raw/test/cat/3.png", "raw/val/cat/only.png")
    with pytest.raises(Mistake, match=r"class cat: data\.on_leak: drop leaves none of its images in validation"):
        both_stages(split="auto", on_leak="drop")
    assert not paths.SPLITS.exists()


@pytest.mark.parametrize("split", ["auto", "stable", "stratified"])
def test_the_order_of_listing_does_not_matter(leaky: None, split: str) -> None:
    params = both_stages(split=split, on_leak="drop", folds=3)
    before = tree(Path("data"))
    found = listing.read(paths.SOURCE)
    items = list(found.items)
    random.Random(1).shuffle(items)
    paths.SOURCE.write_bytes(found._replace(items=tuple(items)).to_bytes())
    prepare.run(params)
    after = tree(Path("data"))
    for name in ("data/splits.csv", "data/prepared/findings.csv", "data/prepared/checks.png"):
        assert after[name] == before[name], name


def test_splits_csv_with_folds(leaky: None) -> None:
    both_stages(split="stable", folds=3)
    table = rows()
    assert list(table) == sorted(item.path for item in listing.read(paths.SOURCE).items)
    assert {row["split"] for row in table.values()} == {"train", "validation", "test"}
    assert all((row["fold"] == "") == (row["split"] == "test") for row in table.values())
    assert {row["fold"] for row in table.values()} == {"", "0", "1", "2"}
    assert table["train/cat/exact.png"]["split"] == table["test/cat/0.png"]["split"]
    assert table["train/cat/exact.png"]["label"]


def test_images_added_later_move_no_old_one(leaky: None) -> None:
    both_stages(split="stable")
    before = rows()
    assert report()["split"]["lent"] == 0
    for index, pixels in enumerate(scenes(30, seed=9)):
        save(pixels, f"raw/train/{'cat' if index % 2 else 'dog'}/more{index}.png")
    both_stages(split="stable")
    after = rows()
    assert len(after) == len(before) + 30
    assert all(after[name]["split"] == row["split"] for name, row in before.items())


def test_the_report_is_numbers_for_dvc_metrics(leaky: None) -> None:
    both_stages(split="auto")

    def leaves(value: Any) -> list[Any]:
        return [leaf for each in value.values() for leaf in leaves(each)] if isinstance(value, dict) else [value]

    facts = json.loads((paths.PREPARED / "report.json").read_text(encoding="utf-8"))
    assert all(isinstance(leaf, int | float) for leaf in leaves(facts["checks"]))
