"""Class weights: every class counts the same in training, whatever its number of images."""

import numpy as np
import pytest
import torch

from models import catalogue
from models.classifier import Classifier
from models.losses import LOSSES, Mixture, balanced_weights, data_loss
from models.tasks import TASKS

LABELS = torch.tensor([0] * 6 + [1] * 3 + [3])  # of four classes, one without images
SCORES = torch.randn(10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
FREE = catalogue.neutral(catalogue.Regularization)
OF_CLASSES = [name for name, settings in catalogue.LOSSES.items() if settings.task == "classification"]


def plain(name: str):
    return LOSSES[name](catalogue.example(catalogue.LOSSES[name]))


def test_weights_are_n_over_c_times_the_classs_images():
    weights = balanced_weights(LABELS, 4)
    assert weights.tolist() == pytest.approx([10 / (3 * 6), 10 / (3 * 3), 0, 10 / (3 * 1)])
    assert weights[LABELS].mean().item() == pytest.approx(1.0)
    of_each = torch.zeros(4).index_add(0, LABELS, weights[LABELS])
    assert of_each[[0, 1, 3]].tolist() == pytest.approx([10 / 3] * 3)  # all three weigh the same together
    assert balanced_weights(torch.arange(12) % 4, 4).tolist() == [1.0] * 4


@pytest.mark.parametrize("name", OF_CLASSES)
def test_an_images_loss_is_multiplied_by_its_classs_weight(name):
    loss, weights = plain(name), balanced_weights(LABELS, 4).double()
    found = data_loss(loss, SCORES, LABELS, weights)
    expected = loss(SCORES, LABELS).numpy() * weights.numpy()[LABELS.numpy()]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    assert torch.equal(data_loss(loss, SCORES, LABELS, None), loss(SCORES, LABELS))


def test_the_one_score_of_two_classes_is_weighted_by_its_label():
    labels, scores = torch.tensor([0, 0, 0, 1]), SCORES[:4, :1]
    found = data_loss(plain("binary_hinge"), scores, labels, balanced_weights(labels, 2).double())
    signs = np.array([-1, -1, -1, 1])
    expected = np.maximum(0, 1 - signs * scores[:, 0].numpy()) * np.array([2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_each_part_of_a_mixed_image_has_its_own_weight():
    loss, weights = plain("softmax"), balanced_weights(LABELS, 4).double()
    partners, shares = LABELS.flip(0), torch.linspace(0, 1, 10, dtype=torch.float64)
    found = data_loss(loss, SCORES, Mixture(LABELS, partners, shares), weights)
    own, other = loss(SCORES, LABELS), loss(SCORES, partners)
    expected = shares * weights[LABELS] * own + (1 - shares) * weights[partners] * other
    torch.testing.assert_close(found, expected)


def test_training_is_weighted_and_validation_is_not():
    network = torch.nn.Linear(4, 4).double()
    weights = balanced_weights(LABELS, 4).double()
    task = TASKS["classification"]
    module = Classifier(network, task, plain("softmax"), FREE, lambda _: None, lambda *_: 1.0, None, weights)
    losses = plain("softmax")(network(SCORES).float(), LABELS)
    assert module.training_step((SCORES, LABELS), 0)["loss"].item() == pytest.approx(
        (losses * weights[LABELS]).mean().item(), rel=1e-6
    )
    assert module.validation_step((SCORES, LABELS), 0)["loss"].item() == pytest.approx(losses.mean().item(), rel=1e-6)
    assert not [name for name in module.state_dict() if "class_weights" in name]  # a function of the data, not learned
