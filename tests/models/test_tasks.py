"""What each task asks of a network and says of a picture: figures against counts made by hand, and files."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import catalogue
from models.build import Description, build_network, load_model, save_model
from models.catalogue.examples import example
from models.losses import LOSSES, Located, Mixture
from models.networks.shape import Shape
from models.tasks import TASKS, Centre, overlap

CENTRE = Centre(0, 8)


def test_every_task_has_a_figure_and_a_loss():
    assert set(TASKS) == set(catalogue.FIGURES) == {loss.task for loss in catalogue.LOSSES.values()}


def test_how_many_outputs():
    assert {name: task.outputs(5, 3) for name, task in TASKS.items()} == {
        "classification": 5, "binary": 1, "regression": 3, "localisation": 9,
    }  # fmt: skip


@pytest.mark.parametrize("loss", catalogue.LOSSES)
def test_a_loss_takes_what_its_task_gives_it(loss):
    task = TASKS[catalogue.LOSSES[loss].task]
    outputs = torch.randn(6, task.outputs(2, 3), requires_grad=True)
    targets = task.example(6, 2, 3)
    values = LOSSES[loss](example(catalogue.LOSSES[loss]))(outputs, targets)
    assert values.shape == (6,)
    values.sum().backward()
    assert torch.isfinite(outputs.grad).all()
    total = task.total(outputs.detach(), targets)
    assert total.ndim == 0
    assert total >= 0


# --- boxes ------------------------------------------------------------------------------------------------------------

_box = st.tuples(*[st.integers(-3, 15)] * 4)


@given(box=_box, other=_box)
def test_overlap_is_a_count_of_pixels(box, other):
    """Whole numbers, so that an area is a number of pixels; a box without an area, or inside out, has none."""

    def pixels(edges: tuple[int, ...]) -> set[tuple[int, int]]:
        left, top, right, bottom = edges
        return {(x, y) for x in range(left, right) for y in range(top, bottom)}

    union = pixels(box) | pixels(other)
    expected = len(pixels(box) & pixels(other)) / len(union) if union else 0.0
    found = overlap(torch.tensor([box], dtype=torch.float64), torch.tensor([other], dtype=torch.float64))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_an_object_is_found_by_class_and_half_of_the_union():
    located = Located(torch.tensor([0, 0, 1, 1]), torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 4))
    scores = torch.tensor([[2.0, 1.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])  # the second is wrong
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0.5, 1], [0, 0, 0.49, 1]])  # the last: too small
    assert TASKS["localisation"].total(torch.cat([scores, boxes], 1), located).item() == 2


def test_the_localisation_loss_is_cross_entropy_and_smooth_l1():
    """Worked by hand: cross-entropy 2.0403552 of the syllabus, smooth L1 of 0.5, -2, 0, 0: 0.125 + 1.5."""
    outputs = torch.tensor([[3.2, 5.1, -1.7, 0.5, -2.0, 0.25, 1.0]], dtype=torch.float64)
    targets = Located(torch.tensor([0]), torch.tensor([[0.0, 0.0, 0.25, 1.0]], dtype=torch.float64))
    for weight in (0.0, 1.0, 10.0):
        loss = LOSSES["localisation"](catalogue.Localisation(box_weight=weight))
        assert loss(outputs, targets).item() == pytest.approx(2.0403552 + weight * 1.625, abs=5e-8)


def test_the_localisation_loss_has_the_slope_of_central_differences():
    loss = LOSSES["localisation"](catalogue.Localisation(box_weight=3.0))
    targets = Located(torch.tensor([1, 0]), torch.rand(2, 4, dtype=torch.float64))
    outputs = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), outputs)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_absolute_errors_are_those_of_numpy_also_of_mixed_targets():
    random = np.random.default_rng(0)
    outputs, own, other = random.normal(size=(3, 5, 4))
    shares = random.uniform(size=5)
    total = TASKS["regression"].total(torch.from_numpy(outputs).float(), torch.from_numpy(own).float())
    assert total.item() == pytest.approx(np.abs(outputs - own).mean(1).sum(), rel=1e-6)
    mixture = Mixture(*(torch.from_numpy(values).float() for values in (own, other, shares)))
    expected = np.abs(outputs - (shares[:, None] * own + (1 - shares[:, None]) * other)).mean(1).sum()
    assert TASKS["regression"].total(torch.from_numpy(outputs).float(), mixture).item() == pytest.approx(expected, 1e-6)


def test_of_two_mixed_classes_the_dominant_one_counts():
    mixture = Mixture(torch.tensor([0, 0]), torch.tensor([1, 1]), torch.tensor([0.7, 0.2]))
    assert TASKS["binary"].total(torch.tensor([[-1.0], [1.0]]), mixture).item() == 2
    assert TASKS["binary"].total(torch.tensor([[1.0], [-1.0]]), mixture).item() == 0


# --- two classes by one score -----------------------------------------------------------------------------------------


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_larger_probability_follows_the_sign_also_at_zero(score):
    scores = torch.tensor([[score]], dtype=torch.float32)
    said = TASKS["binary"].answers(scores, CENTRE)
    assert said.shape == (1, 2)
    assert said.argmax(1).item() == (1 if score >= 0 else 0)
    assert said.sum().item() == pytest.approx(1, abs=1e-6)
    assert said[0, 1].item() == pytest.approx(1 / (1 + math.exp(-max(score, -700))), abs=1e-6)
    for label in (0, 1):
        right = TASKS["binary"].total(scores, torch.tensor([label]))
        assert right.item() == (said.argmax(1).item() == label)


@pytest.mark.parametrize("score", [0.0, -0.0, 1e-9, -1e-9, 2e-8, -2e-8, 1e-38, -1e-38])
def test_the_sign_decides_however_small(score):
    said = TASKS["binary"].answers(torch.tensor([[score]]), CENTRE)
    assert said.argmax(1).item() == int(score >= 0)


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "settings", "said"),
    [("binary_hinge", {}, 2), ("l2", {"reduction": "sum"}, 3), ("localisation", {"box_weight": 1.0}, 6)],
)
def test_a_model_comes_back_from_its_files_and_says_what_its_task_asks(tmp_path, loss, settings, said):
    regression = loss == "l2"
    description = Description(
        network="linear",
        network_settings={},
        dropout=0.0,
        loss=loss,
        loss_settings=settings,
        classes=[] if regression else ["no", "yes"],
        targets=["x", "y", "z"] if regression else [],
        image_size=8,
        crop_size=4,
        channels=1,
        mean=[0.5],
        std=[0.25],
    )
    network = build_network("linear", catalogue.Linear(), description.shape, 0.0)
    save_model(tmp_path, network, description)
    model = load_model(tmp_path)
    assert (model.classes, model.targets) == (tuple(description.classes), tuple(description.targets))
    images = torch.randint(0, 256, (5, 8, 8, 1), dtype=torch.uint8)
    with torch.no_grad():
        answers, outputs = model(images), model.scores(images)
    assert answers.shape == (5, said)
    if regression:
        assert torch.equal(answers, outputs)
    if loss == "localisation":  # the network sees pixels 2 to 6
        torch.testing.assert_close(answers[:, 2:], outputs[:, 2:] * 4 + 2)
        torch.testing.assert_close(answers[:, :2], outputs[:, :2].softmax(1))


def test_a_classifiers_description_does_not_speak_of_targets(tmp_path):
    """model.yaml keeps the bytes that it had before there were targets."""
    shape = Shape(1, 8, 2)
    network = build_network("linear", catalogue.Linear(), shape, 0.0)
    description = Description(
        network="linear", network_settings={}, dropout=0.0, loss="svm", loss_settings={"margin": 1.0},
        classes=["a", "b"], image_size=8, channels=1, mean=[0.5], std=[0.25],
    )  # fmt: skip
    save_model(tmp_path, network, description)
    assert "targets" not in (tmp_path / "model.yaml").read_text()
