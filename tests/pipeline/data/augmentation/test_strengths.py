"""Other strengths for a class or an image: who gets them, and what is said of mistakes."""

import numpy as np
import pytest

from pipeline import params
from pipeline.data.augmentation import Policy, of_split
from pipeline.data.store import open_split, write_split
from pipeline.errors import Mistake
from tests.pipeline.data.test_augmentation import IMAGES, OFF, STATISTICS, pixels, policy

CLASSES = ("3", "6", "9")
LABELS = np.arange(len(IMAGES)) % 3
PATHS = [f"{CLASSES[label]}/{number:04}.png" for number, label in enumerate(LABELS)]


@pytest.fixture
def train(tmp_path):
    write_split(tmp_path, IMAGES, LABELS, PATHS, CLASSES, ["0" * 64] * len(IMAGES))
    return open_split(tmp_path)


def test_an_image_goes_before_its_class_and_a_class_before_the_set(train):
    settings = OFF.with_changes(
        {
            "horizontal_flip": True,
            "brightness": 0.4,
            "per_class": {"6": {"horizontal_flip": False}, "9": {"brightness": 0.1, "rotation_degrees": 30.0}},
            "per_image": {PATHS[4]: {"brightness": 0.0}, PATHS[0]: {"cutout_size": 9}},
        }
    )
    own = of_split(settings, train, CLASSES)
    used = Policy(settings, STATISTICS, 9, 0, own)
    samples = list(range(len(IMAGES)))
    found = pixels(used, 0, samples)
    whole = pixels(policy(settings), 0, samples)
    sixes, nines = np.flatnonzero(LABELS == 1), np.flatnonzero(LABELS == 2)
    rest = np.setdiff1d(np.flatnonzero(LABELS == 0), [0])
    assert np.array_equal(found[rest], whole[rest])
    of_class = pixels(policy(settings.with_changes({"horizontal_flip": False})), 0, samples)
    others = np.setdiff1d(sixes, [4])
    assert np.array_equal(found[others], of_class[others])
    assert not np.array_equal(found[others], whole[others])
    assert np.array_equal(
        found[4], IMAGES[4].astype(np.float32) * np.float32(1 / 255)
    )  # of its class it keeps the flip
    changes = {"brightness": 0.1, "rotation_degrees": 30.0}
    assert np.array_equal(found[nines], pixels(policy(settings.with_changes(changes)), 0, nines))
    assert (found[0] == 0).mean() > 0.2
    assert np.array_equal(pixels(used, 0, [4, 0, 2]), found[[4, 0, 2]])


def test_a_whole_set_alone_reads_no_index(train):
    (train.folder / "index.parquet").unlink()
    assert of_split(OFF, train, CLASSES).of_sample is None
    of_split(OFF.with_changes({"per_class": {"3": {"scale": 0.1}}}), train, CLASSES)


def test_classes_and_images_that_are_not_there_are_named(train):
    wrong = OFF.with_changes({"per_class": {"sax": {}}, "per_image": {"6/0001.pmg": {}, "3/0000.png": {}}})
    with pytest.raises(Mistake) as caught:
        of_split(wrong, train, (*CLASSES, "six"))
    first, second = caught.value.lines
    assert first == "params.yaml: augment.per_class.sax: no such class; did you mean 'six'?"
    assert second.startswith("params.yaml: augment.per_image.6/0001.pmg: no such training image; did you mean '6/0001")


FLIPS = "horizontal_flip: false      # mirror every second image at random (off for digits: a mirrored 2 is no 2)\n"
FLIPS += "  alternating_flip: false"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("per_class: {}", 'per_class: {"6": {horizontal_flop: true}}',
         "augment.per_class.6.horizontal_flop: unknown key; did you mean 'horizontal_flip'?"),
        ("per_class: {}", 'per_class: {"6": {scale: -1.0}}',
         "augment.per_class.6.scale: -1.0 is not allowed; must be a number at least 0 and at most 9"),
        ("per_class: {}", "per_class: {6: {scale: 0.1}}", "augment.per_class.6: a name is text; put it in quotes"),
        ("per_class: {}", 'per_class: {"6": {crop_size: 4}}',
         "augment.per_class.6.crop_size: holds for the whole set; set it in augment itself"),
        ("per_class: {}", 'per_class: {"6": true}',
         "augment.per_class.6: true is not allowed; must be a mapping of augment's keys"),
        ("per_image: {}", 'per_image: {"a.b/c.png": {blur: high}}',
         'augment.per_image.a.b/c.png.blur: "high" is not allowed; must be a number at least 0 and at most 16'),
        ("per_class: {}", 'per_class: {"6": {horizontal_flip: true, alternating_flip: true}}',
         "augment.per_class.6: makes both horizontal_flip and alternating_flip true; set one of the two to false"),
        (FLIPS, "horizontal_flip: true\n  alternating_flip: true",
         "augment.alternating_flip: mirrors instead of horizontal_flip, not on top; set one of the two to false"),
        ("perspective: 0.0", "perspective: 0.3",
         "augment.perspective: 0.3 is not allowed; must be a number at least 0 and below 0.25"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(tmp_path, params_text, old, new, said):
    assert old in params_text
    file = tmp_path / "params.yaml"
    file.write_text(params_text.replace(old, new, 1))
    with pytest.raises(Mistake) as caught:
        params.load(file)
    (line,) = caught.value.lines
    changed = new.split("\n")[-1]
    place = 1 + next(number for number, row in enumerate(file.read_text().splitlines()) if changed in row)
    assert line == f"{file}:{place}: {said}"


def test_overrides_cannot_be_searched(tmp_path, params_text):
    file = tmp_path / "params.yaml"
    file.write_text(
        params_text.replace("  space:  ", "  space:  \n    augment:\n      per_class:\n        choices: [{}]\n#", 1)
    )
    with pytest.raises(Mistake, match=r"search\.space\.augment\.per_class: cannot be searched"):
        params.load(file)
