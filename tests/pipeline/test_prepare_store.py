"""What prepare stores of each image: pixels or JPEG, targets, boxes."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import paths
from pipeline.data.store import open_split, read_classes
from tests.pipeline.test_prepare import Recorder, both_stages, packed, picture, recorder, report, tree

__all__ = ["recorder"]

FOLDERS = (paths.PREPARED / "train", paths.PREPARED / "validation", paths.TEST)


def every_image() -> Iterator[tuple[np.ndarray, str]]:
    for folder in FOLDERS:
        split = open_split(folder)
        yield from zip(split.images[:], split.paths(), strict=True)


def test_targets_are_stored_beside_the_images(recorder: Recorder) -> None:
    names = [f"{label}/{index:02d}.png" for label in ("cat", "dog") for index in range(0, 20, 2)]
    rows = [f"{name},{n / 8},{-n}" for n, name in enumerate(names)]
    Path("raw/angles.csv").write_text("\n".join(["path,angle,height", *rows]))
    table = {"label": None, "targets": "angle, height"}
    both_stages(source="table", path="raw/angles.csv", table=table, image_size=18)
    assert read_classes(paths.PREPARED) == ()
    assert json.loads((paths.PREPARED / "targets.json").read_text()) == ["angle", "height"]
    seen = []
    for folder in (paths.PREPARED / "train", paths.PREPARED / "validation", paths.TEST):
        split = open_split(folder)
        assert split.targets is not None
        for name, target in zip(split.paths(), split.targets, strict=True):
            number = names.index(name)
            assert target.tolist() == [number / 8, -number]
            seen.append(name)
    assert sorted(seen) == names
    values = [names.index(name) / 8 for name in open_split(paths.PREPARED / "train").paths()]
    told = report()["per_target"][0]
    assert (told["target"], told["least"], told["most"]) == ("angle", min(values), max(values))
    assert told["mean"] == pytest.approx(np.mean(values))
    assert told["deviation"] == pytest.approx(np.std(values))


def test_boxes_move_with_the_pixels_and_what_is_not_kept_of_one_quarantines_its_image(recorder: Recorder) -> None:
    """Of 40 x 36 pixels the middle 36 are kept and reduced to 18."""
    names = [f"{label}/{index:02d}.png" for label in ("cat", "dog") for index in range(0, 20, 2)]
    given = {name: (8 + n % 5, 6, 20 + n, 30) for n, name in enumerate(names)}
    given |= {"cat/00.png": (50, 0, 60, 10), "dog/00.png": (0, 0, 1, 36)}
    rows = [",".join((name, name[:3], *map(str, box))) for name, box in given.items()]
    Path("raw/boxes.csv").write_text("\n".join(["path,label,left,top,right,bottom", *rows]))
    table = {"box": "left, top, right, bottom"}
    both_stages(source="table", path="raw/boxes.csv", table=table, image_size=18, max_bad_fraction=0.2)
    assert {entry["path"]: entry["reason"] for entry in report()["quarantined"]} == {
        "cat/00.png": "box 50, 0, 60, 10: outside the image of 40 x 36 pixels",
        "dog/00.png": "box 0, 0, 1, 36: outside the centre square that is kept of 40 x 36 pixels",
    }
    seen = 0
    for folder in (paths.PREPARED / "train", paths.PREPARED / "validation", paths.TEST):
        split = open_split(folder)
        assert split.boxes is not None
        for name, box in zip(split.paths(), split.boxes, strict=True):
            left, top, right, bottom = given[name]
            np.testing.assert_allclose(box, [(left - 2) / 2, top / 2, min(right - 2, 36) / 2, bottom / 2])
            seen += 1
    assert seen == 18


def test_beyond_max_packed_bytes_jpeg_is_kept(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    """A JPEG file of the right size keeps its bytes; others keep their pixels, nearly."""
    for number in range(6):
        picture(f"raw/cat/small{number}.jpg", 20 * number, (16, 16))
    both_stages(image_size=16)
    pixels = {name: image for image, name in every_image()}
    assert (paths.PREPARED / "train/images.npy").exists()
    both_stages(image_size=16, max_packed_bytes=46 * 16 * 16 * 3 - 1)
    assert "46 files to 16 x 16 x 3, kept as JPEG" in capsys.readouterr().out
    first = tree(paths.PREPARED, paths.TEST, paths.SPLITS.parent)
    jpegs = b"".join((folder / "images.bin").read_bytes() for folder in FOLDERS)
    assert all(Path(f"raw/cat/small{number}.jpg").read_bytes() in jpegs for number in range(6))
    found = {name: image for image, name in every_image()}
    assert found.keys() == pixels.keys()
    for name, image in found.items():
        assert np.abs(image.astype(int) - pixels[name]).max() <= (0 if "small" in name else 3)
    both_stages(image_size=16, max_packed_bytes=0)
    assert tree(paths.PREPARED, paths.TEST, paths.SPLITS.parent) == first
    packed("set.tar.xz")
    both_stages(image_size=16, max_packed_bytes=0, source="archive", path="set.tar.xz")
    again = tree(paths.PREPARED, paths.TEST, paths.SPLITS.parent)
    assert {name: digest for name, digest in again.items() if name != "data/source.json"} == {
        name: digest for name, digest in first.items() if name != "data/source.json"
    }


@pytest.mark.parametrize("dimensions", [2, 64])
def test_vectors_are_never_kept_as_jpeg(recorder: Recorder, dimensions: int) -> None:
    made = {"case": "modes", "dimensions": dimensions, "images": 60, "seed": 0}
    both_stages(source="hard_cases", path=None, split="auto", hard_cases=made)
    before = tree(paths.PREPARED, paths.TEST)
    both_stages(source="hard_cases", path=None, split="auto", hard_cases=made, max_packed_bytes=0)
    assert tree(paths.PREPARED, paths.TEST) == before


def test_pose_is_stored_with_its_rotations(recorder: Recorder) -> None:
    made = {"target": "quaternion", "side": 8, "images": 40, "seed": 0}
    both_stages(source="pose", path=None, split="auto", pose=made)
    names = json.loads((paths.PREPARED / "targets.json").read_text())
    assert len(names) == 4
    for folder in FOLDERS:
        targets = open_split(folder).targets
        assert targets is not None
        np.testing.assert_allclose((targets**2).sum(1), 1.0)  # unit quaternions
    assert [told["target"] for told in report()["per_target"]] == names
    assert (paths.PREPARED / "class_counts.csv").read_text().splitlines()[1] == "all,26,6,8"
