"""Every figure against scikit-learn's, on labels and probabilities of all kinds."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from pipeline.metrics import Evaluation, evaluate


@st.composite
def predictions(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]:
    """Probabilities (N, K), labels (N,), classes; some classes without images or without predictions."""
    count = draw(st.integers(2, 7))
    images = draw(st.integers(1, 40))
    labels = draw(st.lists(st.integers(0, count - 1), min_size=images, max_size=images))
    scores = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=(images, count)) * draw(st.integers(0, 60))
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities, np.array(labels), tuple(f"class {i}" for i in range(count))


@settings(deadline=None, max_examples=60)
@given(predictions())
def test_figures_are_those_of_scikit_learn(case: tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]):
    probabilities, labels, classes = case
    everything = list(range(len(classes)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ours must be silent about classes without predictions
        result = evaluate(probabilities, labels, classes)
        summary = result.summary()
        precision, recall, f1 = result.precision, result.recall, result.f1
    expected = reference.precision_recall_fscore_support(labels, result.predicted, labels=everything, zero_division=0)
    np.testing.assert_allclose([precision, recall, f1, result.support], expected, rtol=1e-12)
    np.testing.assert_array_equal(
        result.confusion, reference.confusion_matrix(labels, result.predicted, labels=everything)
    )
    present = sorted(set(labels.tolist()))
    macro = reference.precision_recall_fscore_support(
        labels, result.predicted, labels=present, average="macro", zero_division=0
    )
    assert summary["accuracy"] == pytest.approx(reference.accuracy_score(labels, result.predicted), rel=1e-12)
    np.testing.assert_allclose([summary[f"macro_{name}"] for name in ("precision", "recall", "f1")], macro[:3])
    assert summary["macro_recall"] == pytest.approx(float(recall[present].mean()))
    right = probabilities[np.arange(len(labels)), labels].astype(float)
    assert summary["loss"] == pytest.approx(np.mean([-math.log(max(p, 1.1754943508222875e-38)) for p in right]))
    assert summary["images"] == len(labels)


def test_loss_is_scikit_learns_log_loss():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), size=200)
    labels = rng.integers(0, 5, 200)
    expected = reference.log_loss(labels, probabilities, labels=list(range(5)))
    assert evaluate(probabilities, labels, "abcde").loss == pytest.approx(expected, rel=1e-6)  # float32 inputs


def test_a_probability_of_zero_costs_much_but_not_everything():
    result = evaluate([[1.0, 0.0], [1.0, 0.0]], [1, 0], ("a", "b"))
    assert result.losses.tolist() == [pytest.approx(87.336, abs=1e-3), 0.0]
    assert not np.signbit(result.losses).any()


def test_equal_probabilities_predict_the_first_class():
    assert evaluate([[0.25, 0.25, 0.25, 0.25]], [3], "abcd").predicted.tolist() == [0]


def mistaken(right_share: list[float], labels: list[int]) -> Evaluation:
    rows = [[r, 1 - r] if label == 0 else [1 - r, r] for r, label in zip(right_share, labels, strict=True)]
    return evaluate(rows, labels, ("a", "b"))


def test_worst_mistakes_come_by_loss_and_then_by_position():
    result = mistaken([0.4, 0.9, 0.1, 0.1, 0.3], [0, 1, 0, 1, 1])
    assert result.worst(10).tolist() == [2, 3, 4, 0]
    assert result.worst(2).tolist() == [2, 3]
    assert result.worst(0).tolist() == []


def test_a_faultless_model_has_no_mistakes():
    assert mistaken([0.9, 0.8], [0, 1]).worst(5).tolist() == []


@pytest.mark.parametrize(
    ("probabilities", "labels", "said"),
    [
        ([[0.5, 0.5]], [2], "labels from 2 to 2"),
        ([[0.5, 0.5]], [-1], "labels from -1"),
        ([[0.5, 0.5]], [0, 1], "do not fit 2 classes"),
        ([[0.2, 0.3, 0.5]], [0], "do not fit 2 classes"),
        (np.zeros((0, 2)), [], "do not fit 2 classes"),
        ([[0.5, 0.5], [math.nan, 0.5]], [0, 1], "image 1 are not finite"),
    ],
)
def test_what_does_not_fit_together_is_refused(probabilities: list[list[float]], labels: list[int], said: str):
    with pytest.raises(ValueError, match=said):
        evaluate(probabilities, labels, ("a", "b"))
