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


def losses(name: str, example: tuple[list[list[float]], list[int]], **values: float) -> torch.Tensor:
    scores, labels = example
    loss = LOSSES[name](catalogue.LOSSES[name](**values))
    return loss(torch.tensor(scores, dtype=torch.float64), torch.tensor(labels))


@pytest.mark.parametrize(
    ("example", "expected", "mean"),
    [(THREE, [2.9, 0.0, 12.9], 5.2667), (TEN, [10.58, 0.27, 71.91], 27.5867), (ONE, [1.58], 1.58)],
)
def test_svm_worked_figures(example, expected, mean):
    found = losses("svm", example, margin=1.0)
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    assert found.mean().item() == pytest.approx(mean, abs=5e-5)


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


@pytest.mark.parametrize("settings", [catalogue.Softmax(label_smoothing=0.1), catalogue.Svm(margin=1.0)])
def test_gradients_agree_with_central_differences(settings):
    assert {type(settings).__name__.lower()} <= set(LOSSES)
    loss = LOSSES[type(settings).__name__.lower()](settings)
    scores, labels = torch.tensor(TEN[0], dtype=torch.float64, requires_grad=True), torch.tensor(TEN[1])
    (analytic,) = torch.autograd.grad(loss(scores, labels).sum(), scores)
    step = 1e-6
    for row, column in np.ndindex(3, 10):
        ends = []
        for sign in (1, -1):
            moved = scores.detach().clone()
            moved[row, column] += sign * step
            ends.append(loss(moved, labels).sum().item())
        assert analytic[row, column].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-8)


def test_doubling_the_weights_keeps_a_zero_svm_loss():
    scores, labels = THREE
    doubled = ([[2 * score for score in scores[1]]], [labels[1]])
    assert losses("svm", ([scores[1]], [labels[1]]), margin=1.0).item() == 0.0
    assert losses("svm", doubled, margin=1.0).item() == 0.0


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
    assert losses("svm", (scores, labels), margin=margin).numpy() == pytest.approx(hinge.sum(1), abs=1e-9)

    log_q = s - s.max(1, keepdims=True)
    log_q = log_q - np.log(np.exp(log_q).sum(1, keepdims=True))
    p = np.full(s.shape, smoothing / 4)
    p[rows, y] += 1 - smoothing
    expected = -(p * log_q).sum(1)
    assert losses("softmax", (scores, labels), label_smoothing=smoothing).numpy() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("softmax", {"label_smoothing": 0.0}, 0.7 * 2.0403552 + 0.3 * 0.1403552),  # -log of 0.12998 and of 0.86905
        ("svm", {"margin": 1.0}, 0.7 * 2.9 + 0.3 * 0.0),
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


@pytest.mark.parametrize("name", ["softmax", "svm"])
def test_an_image_that_keeps_all_of_itself_has_its_own_loss(name):
    values = {"softmax": {"label_smoothing": 0.1}, "svm": {"margin": 1.0}}[name]
    loss = LOSSES[name](catalogue.LOSSES[name](**values))
    scores, labels, others = torch.tensor(TEN[0]), torch.tensor(TEN[1]), torch.tensor([0, 0, 0])
    whole, nothing = torch.ones(3), torch.zeros(3)
    assert torch.equal(data_loss(loss, scores, Mixture(labels, others, whole)), loss(scores, labels))
    assert torch.equal(data_loss(loss, scores, Mixture(labels, others, nothing)), loss(scores, others))


def test_the_dominant_label_has_the_larger_share():
    targets = Mixture(torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]), torch.tensor([0.51, 0.49, 0.5]))
    assert dominant(targets).tolist() == [1, 5, 3]
    assert dominant(targets.labels) is targets.labels
