"""Losses against worked figures and against the formulas written out in NumPy, float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import catalogue
from models.losses import LOSSES, Mixture, data_loss, dominant

THREE = ([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]], [0, 1, 2])
TEN = (
    [
        [-3.45, -8.87, 0.09, 2.9, 4.48, 8.02, 3.78, 1.06, -0.36, -0.72],
        [-0.51, 6.04, 5.31, -4.22, -4.19, 3.58, 4.49, -4.37, -2.09, -2.93],
        [3.42, 4.64, 2.65, 5.1, 2.64, 5.55, -4.34, -1.5, -4.79, 6.14],
    ],
    [3, 1, 6],
)
ONE = ([[-2.85, 0.86, 0.28]], [2])  # of the linear classifier in test_networks.py


# One for every loss, and two where a setting chooses between two formulas.
SETTINGS = {
    "softmax": [catalogue.Softmax(label_smoothing=0.1)],
    "svm": [catalogue.Svm(margins=margins, margin=1.0) for margins in ("all", "worst")],
    "squared_hinge": [catalogue.SquaredHinge(margin=1.0)],
    "one_against_all": [catalogue.OneAgainstAll()],
    "binary_hinge": [catalogue.BinaryHinge()],
    "l1": [catalogue.L1(reduction=reduction) for reduction in ("sum", "mean")],
    "l2": [catalogue.L2(reduction=reduction) for reduction in ("sum", "mean")],
    "smooth_l1": [catalogue.SmoothL1(reduction=reduction) for reduction in ("sum", "mean")],
    "huber": [catalogue.Huber(delta=2.0, reduction=reduction) for reduction in ("sum", "mean")],
}
EVERY = [(name, settings) for name, several in SETTINGS.items() for settings in several]


def examples(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and targets of three images, off the corners, as the loss's task has them."""
    scores = torch.tensor(TEN[0], dtype=torch.float64)
    match catalogue.LOSSES[name].task:
        case "classification":
            return scores, torch.tensor(TEN[1])
        case "binary":
            return scores[:, :1] / 10, torch.tensor([1, 0, 1])
        case "regression":
            return scores, torch.tensor(TEN[0][::-1], dtype=torch.float64) / 2
        case task:
            raise AssertionError(f"give {task} an example")


def losses(name: str, example: tuple[list[list[float]], list[int]], **values: object) -> torch.Tensor:
    scores, labels = example
    loss = LOSSES[name](catalogue.LOSSES[name](**values))
    return loss(torch.tensor(scores, dtype=torch.float64), torch.tensor(labels))


def svm(example: tuple[list[list[float]], list[int]], margins: str = "all", margin: float = 1.0) -> torch.Tensor:
    return losses("svm", example, margins=margins, margin=margin)


@pytest.mark.parametrize(
    ("example", "expected", "mean"),
    [(THREE, [2.9, 0.0, 12.9], 5.2667), (TEN, [10.58, 0.27, 71.91], 27.5867), (ONE, [1.58], 1.58)],
)
def test_svm_worked_figures(example, expected, mean):
    found = svm(example)
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    assert found.mean().item() == pytest.approx(mean, abs=5e-5)


def test_the_ten_class_examples_are_taken_for_a_dog_an_automobile_and_a_truck():
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert [names[i] for i in np.argmax(TEN[0], axis=1)] == ["dog", "automobile", "truck"]
    assert [names[i] for i in TEN[1]] == ["cat", "automobile", "frog"]


def test_svm_of_the_worst_margin_worked_figures():
    assert svm(THREE, "worst").tolist() == pytest.approx([2.9, 0.0, 6.6], abs=1e-9)


def test_squared_hinge_worked_figures():
    assert losses("squared_hinge", THREE, margin=1.0).tolist() == pytest.approx([8.41, 0.0, 83.25], abs=1e-9)


def test_one_against_all_is_a_binary_hinge_on_each_raw_score():
    """By hand: scores 3.2, 5.1, -1.7 of class 0 give max(0, 1 - 3.2) + (1 + 5.1) + max(0, 1 - 1.7)."""
    assert losses("one_against_all", THREE).tolist() == pytest.approx([0 + 6.1 + 0, 2.3 + 0 + 3.0, 3.2 + 3.5 + 4.1])


@pytest.mark.parametrize(("label", "expected"), [(1, 0.7), (0, 1.3)])
def test_binary_hinge_worked_figures(label, expected):
    assert losses("binary_hinge", ([[0.3]], [label])).tolist() == pytest.approx([expected])


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [("l1", {}, 2.5), ("l2", {}, 4.25), ("smooth_l1", {}, 1.625), ("huber", {"delta": 2.0}, 2.125)],
)
def test_regression_worked_figures(name, values, expected):
    """Of the differences 0.5 and -2."""
    scores, targets = torch.tensor([[1.5, -1.0]]), torch.tensor([[1.0, 1.0]])
    for reduction, share in (("sum", 1), ("mean", 2)):
        loss = LOSSES[name](catalogue.LOSSES[name](**values, reduction=reduction))
        assert loss(scores, targets).tolist() == pytest.approx([expected / share])


def test_both_losses_of_one_linear_classifier_worked():
    w = np.array([[0.01, -0.05, 0.1, 0.05], [0.7, 0.2, 0.05, 0.16], [0, -0.45, -0.2, 0.03]])
    scores = w @ [-15, 22, -44, 56] + [0, 0.2, -0.3]
    assert scores == pytest.approx(ONE[0][0])
    example = ([scores.tolist()], [2])
    assert svm(example).item() == pytest.approx(1.58)
    assert losses("softmax", example, label_smoothing=0.0).item() == pytest.approx(1.0401906, abs=5e-8)


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (THREE, [2.0403552, 0.0791318, 6.1564772]),
        (TEN, [5.1698427, 0.5774810, 11.2944848]),
        (ONE, [1.0401906]),
    ],
)
def test_softmax_worked_figures(example, expected):
    assert losses("softmax", example, label_smoothing=0.0).tolist() == pytest.approx(expected, abs=5e-8)


def test_softmax_worked_mean_and_probabilities():
    assert losses("softmax", THREE, label_smoothing=0.0).mean().item() == pytest.approx(2.7586547, abs=5e-8)
    probabilities = [torch.exp(-losses("softmax", ([THREE[0][0]], [label]), label_smoothing=0.0)) for label in range(3)]
    assert [p.item() for p in probabilities] == pytest.approx([0.12998, 0.86905, 0.00097], abs=5e-6)


def test_slides_that_print_other_figures_take_the_logarithm_to_base_ten():
    """0.89 and 0.452 for the first of the three and for the one example."""
    for example, printed in ((THREE, 0.89), (ONE, 0.452)):
        nats = losses("softmax", example, label_smoothing=0.0)[0].item()
        assert nats / np.log(10) == pytest.approx(printed, abs=5e-3 if printed == 0.89 else 5e-4)


def test_every_loss_of_the_catalogue_is_tested_here():
    assert set(SETTINGS) | {"localisation"} == set(LOSSES) == set(catalogue.LOSSES)  # made of two of them


@pytest.mark.parametrize(("name", "settings"), EVERY, ids=str)
def test_one_loss_an_image_that_does_not_depend_on_its_batch(name, settings):
    loss = LOSSES[name](settings)
    scores, targets = examples(name)
    together = loss(scores, targets)
    assert together.shape == (3,)
    assert (together >= 0).all()
    assert together.tolist() == pytest.approx([loss(scores[i : i + 1], targets[i : i + 1]).item() for i in range(3)])


@pytest.mark.parametrize(("name", "settings"), EVERY, ids=str)
def test_gradients_agree_with_central_differences(name, settings):
    loss = LOSSES[name](settings)
    scores, labels = examples(name)
    scores.requires_grad_()
    (analytic,) = torch.autograd.grad(loss(scores, labels).sum(), scores)
    step = 1e-6
    for row, column in np.ndindex(*scores.shape):
        ends = []
        for sign in (1, -1):
            moved = scores.detach().clone()
            moved[row, column] += sign * step
            ends.append(loss(moved, labels).sum().item())
        assert analytic[row, column].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-8)


def test_doubling_the_weights_keeps_a_zero_svm_loss():
    scores, labels = THREE
    doubled = ([[2 * score for score in scores[1]]], [labels[1]])
    for margins in ("all", "worst"):
        assert svm(([scores[1]], [labels[1]]), margins).item() == 0.0
        assert svm(doubled, margins).item() == 0.0


def test_softmax_survives_huge_scores():
    found = losses("softmax", ([[1e4, -1e4], [1e4, -1e4]], [0, 1]), label_smoothing=0.0)
    assert found.tolist() == [0.0, 2e4]


@settings(deadline=None)
@given(
    scores=st.lists(st.lists(st.floats(-50, 50), min_size=4, max_size=4), min_size=1, max_size=6),
    smoothing=st.floats(0, 0.9),
    margin=st.floats(0.01, 10),
    data=st.data(),
)
def test_losses_equal_their_formulas(scores, smoothing, margin, data):
    labels = data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores)))
    s, y = np.array(scores), np.array(labels)
    rows = np.arange(len(y))

    hinge = np.maximum(0, s - s[rows, y][:, None] + margin)
    hinge[rows, y] = 0
    assert svm((scores, labels), margin=margin).numpy() == pytest.approx(hinge.sum(1), abs=1e-9)
    assert svm((scores, labels), "worst", margin).numpy() == pytest.approx(hinge.max(1), abs=1e-9)
    squared = losses("squared_hinge", (scores, labels), margin=margin)
    assert squared.numpy() == pytest.approx((hinge**2).sum(1), abs=1e-9)

    signs = np.where(np.arange(4) == y[:, None], 1, -1)
    each = np.maximum(0, 1 - signs * s)
    assert losses("one_against_all", (scores, labels)).numpy() == pytest.approx(each.sum(1), abs=1e-9)
    binary = losses("binary_hinge", (s[:, :1].tolist(), (y % 2).tolist()))
    assert binary.numpy() == pytest.approx(np.maximum(0, 1 - np.where(y % 2 == 1, 1, -1) * s[:, 0]), abs=1e-9)

    log_q = s - s.max(1, keepdims=True)
    log_q = log_q - np.log(np.exp(log_q).sum(1, keepdims=True))
    p = np.full(s.shape, smoothing / 4)
    p[rows, y] += 1 - smoothing
    expected = -(p * log_q).sum(1)
    assert losses("softmax", (scores, labels), label_smoothing=smoothing).numpy() == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(
    pairs=st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=3, max_size=3),
    delta=st.floats(0.01, 10),
)
def test_regression_losses_equal_their_formulas(pairs, delta):
    scores, targets = (torch.tensor([values], dtype=torch.float64) for values in zip(*pairs, strict=True))
    d = np.array(pairs)[:, 0] - np.array(pairs)[:, 1]
    small, large = 0.5 * d**2, np.abs(d)
    formulas = {
        "l1": large,
        "l2": d**2,
        "smooth_l1": np.where(large < 1, small, large - 0.5),
        "huber": np.where(large <= delta, small, delta * (large - 0.5 * delta)),
    }
    for name, each in formulas.items():
        values = {"delta": delta} if name == "huber" else {}
        for reduction in ("sum", "mean"):
            loss = LOSSES[name](catalogue.LOSSES[name](**values, reduction=reduction))
            assert loss(scores, targets).numpy() == pytest.approx([getattr(each, reduction)()], rel=1e-12, abs=1e-12)
    one = LOSSES["huber"](catalogue.Huber(delta=1.0, reduction="sum"))(scores, targets)
    assert torch.equal(one, LOSSES["smooth_l1"](catalogue.SmoothL1(reduction="sum"))(scores, targets))


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("softmax", {"label_smoothing": 0.0}, 0.7 * 2.0403552 + 0.3 * 0.1403552),  # -log of 0.12998 and of 0.86905
        ("svm", {"margins": "all", "margin": 1.0}, 0.7 * 2.9 + 0.3 * 0.0),
        ("squared_hinge", {"margin": 1.0}, 0.7 * 8.41 + 0.3 * 0.0),
        ("one_against_all", {}, 0.7 * 6.1 + 0.3 * (1 + 3.2)),
    ],
)
def test_the_loss_of_a_mixed_image_worked(name, values, expected):
    """Seven parts of class 0, three of class 1."""
    targets = Mixture(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.7], dtype=torch.float64))
    loss = LOSSES[name](catalogue.LOSSES[name](**values))
    scores = torch.tensor(THREE[0][:1], dtype=torch.float64)
    assert data_loss(loss, scores, targets).tolist() == pytest.approx([expected], abs=1e-7)


@settings(deadline=None)
@given(
    scores=st.lists(st.lists(st.floats(-50, 50), min_size=4, max_size=4), min_size=1, max_size=6),
    smoothing=st.floats(0, 0.9),
    data=st.data(),
)
def test_the_softmax_loss_of_mixed_images_is_the_cross_entropy_of_mixed_targets(scores, smoothing, data):
    """H(p, q) = -sum p log q with q = softmax(s), in NumPy."""
    count = len(scores)
    labels, others = (
        np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))) for _ in range(2)
    )
    shares = np.array(data.draw(st.lists(st.floats(0, 1), min_size=count, max_size=count)))
    one_hot = np.eye(4)
    p = shares[:, None] * one_hot[labels] + (1 - shares[:, None]) * one_hot[others]
    p = (1 - smoothing) * p + smoothing / 4
    s = np.array(scores)
    log_q = s - s.max(1, keepdims=True)
    log_q = log_q - np.log(np.exp(log_q).sum(1, keepdims=True))
    found = data_loss(
        LOSSES["softmax"](catalogue.Softmax(label_smoothing=smoothing)),
        torch.from_numpy(s),
        Mixture(*(torch.from_numpy(values) for values in (labels, others, shares))),
    )
    assert found.numpy() == pytest.approx(-(p * log_q).sum(1), abs=1e-9)


def test_the_loss_of_mixed_numbers_is_the_expectation_over_both_targets():
    """Of 1 with a target of 0 (seven parts) or 3: 0.7 * 1 + 0.3 * 4."""
    loss = LOSSES["l2"](catalogue.L2(reduction="sum"))
    targets = Mixture(torch.tensor([[0.0]]), torch.tensor([[3.0]]), torch.tensor([0.7]))
    assert data_loss(loss, torch.tensor([[1.0]]), targets).tolist() == pytest.approx([1.9])


@pytest.mark.parametrize(("name", "settings"), EVERY, ids=str)
def test_an_image_that_keeps_all_of_itself_has_its_own_loss(name, settings):
    loss = LOSSES[name](settings)
    scores, labels = examples(name)
    others = labels.flip(0)
    whole, nothing = torch.ones(3), torch.zeros(3)
    assert torch.equal(data_loss(loss, scores, Mixture(labels, others, whole)), loss(scores, labels))
    assert torch.equal(data_loss(loss, scores, Mixture(labels, others, nothing)), loss(scores, others))


def test_the_dominant_label_has_the_larger_share():
    targets = Mixture(torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]), torch.tensor([0.51, 0.49, 0.5]))
    assert dominant(targets).tolist() == [1, 5, 3]
    assert dominant(targets.labels) is targets.labels
