"""A loss that does not learn from what a set has is refused, with the reason and the remedy."""

import pytest

from pipeline import params as params_module
from pipeline.commands.check import count_images, notices
from pipeline.data.answers import Answers, require_learnable
from pipeline.errors import Mistake
from tests.pipeline.conftest import SHIPPED

DIGITS = Answers(tuple("0123456789"))
TWO = Answers(("no", "yes"))
POSE = Answers((), ("x", "y"))
SHAPES = Answers(("ring", "star", "cross"), boxes=True)


def params(loss: str, **changes: object) -> params_module.Params:
    return params_module.load(SHIPPED).overlaid({"loss": {"name": loss}, **changes})


@pytest.mark.parametrize(
    ("loss", "answers"),
    [
        ("softmax", DIGITS), ("svm", TWO), ("softmax", SHAPES), ("binary_hinge", TWO), ("l2", POSE),
        ("smooth_l1", POSE), ("localisation", SHAPES),
    ],
)  # fmt: skip
def test_what_fits_is_learned(loss, answers):
    require_learnable(params(loss), answers)


@pytest.mark.parametrize(
    ("loss", "answers", "why"),
    [
        ("softmax", POSE, r"softmax needs classes, but .* digits has targets \(x, y\), .* use l1, l2.* or huber"),
        ("binary_hinge", POSE, "binary_hinge needs classes"),
        ("localisation", POSE, "localisation needs classes"),
        ("l2", DIGITS, r"l2 learns numbers, .* has 10 classes and no targets; use softmax.* \(data\.table\.targets\)"),
        ("localisation", DIGITS, r"localisation needs a box .* has none; use softmax.* \(data\.table\.box\)"),
        ("binary_hinge", DIGITS, "binary_hinge tells two classes apart by one score, .* has 10; use softmax"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(loss, answers, why):
    with pytest.raises(Mistake, match=rf"params\.yaml: loss\.name: {why}"):
        require_learnable(params(loss), answers)


@pytest.mark.parametrize("loss", ["softmax", "binary_hinge", "l2", "localisation"])
def test_what_memorises_needs_classes_whatever_loss_rests(loss):
    memory = params(loss, model={"name": "neighbours"}, augment={"cutmix": 1.0}, evaluate={"tta": "flip"})
    for answers in (DIGITS, TWO, SHAPES):
        require_learnable(memory, answers)
    with pytest.raises(Mistake, match=r"model\.name: neighbours votes for classes, .* \(x, y\).* loss\.name l1"):
        require_learnable(memory, POSE)


@pytest.mark.parametrize(
    ("loss", "answers", "changes", "why"),
    [
        ("l2", POSE, {"augment": {"cutmix": 1.0}}, r"augment\.cutmix: not with loss l2: .* mixup can be used; set"),
        ("localisation", SHAPES, {"augment": {"cutmix": 1.0}}, r"augment\.cutmix: .* two objects"),
        ("localisation", SHAPES, {"augment": {"mixup": 0.1}}, r"augment\.mixup: .* two objects"),
        ("localisation", SHAPES, {"evaluate": {"tta": "flip"}}, r"evaluate\.tta: flip averages over moved views"),
        (
            "localisation",
            SHAPES,
            {"search": {"space": {"augment": {"mixup": {"low": 0.0, "high": 0.5, "log": False}}}}},
            r"search\.space\.augment\.mixup: not with loss localisation: .*; take it out",
        ),
    ],
)  # fmt: skip
def test_what_augmentation_cannot_do_for_a_task_is_refused(loss, answers, changes, why):
    with pytest.raises(Mistake, match=why):
        require_learnable(params(loss, **changes), answers)


def test_mixup_serves_regression():
    require_learnable(params("l2", augment={"mixup": 0.4}), POSE)


def test_check_says_it_from_the_source_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = {"source": "pose", "pose": {"images": 20}}
    with pytest.raises(
        Mistake, match=r"loss\.name: softmax needs classes, but data\.source pose has targets \(x_right,"
    ):
        count_images(params("softmax", data=few))
    counted = count_images(params("l2", data=few))
    assert (counted.total, counted.classes, counted.targets) == (20, 0, 6)
    counted = count_images(params("localisation", data={"source": "shapes", "shapes": {"images": 24}}))
    assert counted.classes == 8
    with pytest.raises(Mistake, match=r"localisation needs a box"):
        count_images(params("localisation"))


def test_check_warns_of_what_moves_pixels_under_targets():
    def said(**augment: object) -> list[str]:
        return [line for line in notices(params("l2", augment=augment)) if "targets stay" in line]

    still = {"rotation_degrees": 0.0, "crop_padding": 0}
    (line,) = said(**still, horizontal_flip=True, brightness=0.1)
    assert line.startswith("augment.horizontal_flip: moves the pixels")
    (line,) = said(**{**still, "rotation_degrees": 5.0}, automatic="rand")
    assert line.startswith("augment.rotation_degrees, augment.automatic: move the pixels")
    assert said(**still, brightness=0.1) == []
    assert [line for line in notices(params("softmax")) if "targets stay" in line] == []
