"""What is worked out by hand against reverse mode, forward mode and worked figures."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from models import catalogue
from models.gradients import analytic, automatic
from models.losses import LOSSES
from models.networks.linear import Network as Linear
from models.networks.shape import Shape


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_the_softmax_jacobian():
    scores = numbers(5)
    found = analytic.softmax_jacobian(scores)
    same(found, automatic.forward_gradient(lambda s: s.softmax(0), scores))
    same(found.sum(1), torch.zeros(5, dtype=torch.float64))  # a shift of all scores changes nothing


def test_the_softmax_jacobian_of_the_worked_scores():
    found = analytic.softmax_jacobian(torch.tensor([3.2, 5.1, -1.7], dtype=torch.float64))
    assert found[0].tolist() == pytest.approx([0.12998 * 0.87002, -0.12998 * 0.86905, -0.12998 * 0.00097], abs=5e-6)


def test_the_chain_rule_gives_cross_entropy_by_scores():
    """dL/ds = J^T dL/d sigma: sigma - t."""
    scores, targets = numbers(5), torch.tensor([0.1, 0.6, 0.0, 0.3, 0.0], dtype=torch.float64)
    by_probabilities = analytic.cross_entropy_by_probabilities(scores.softmax(0), targets)
    same(by_probabilities, automatic.reverse_gradient(lambda p: -(targets * p.log()).sum(), scores.softmax(0)))
    same(analytic.softmax_jacobian(scores).T @ by_probabilities, scores.softmax(0) - targets)


def test_a_dense_layer_by_its_weights():
    inputs, weights = numbers(4), numbers(3, 4, seed=1)
    found = analytic.dense_by_weights(inputs, 3)
    same(found, automatic.forward_gradient(lambda w: w @ inputs, weights))
    assert found[1, 1].tolist() == inputs.tolist()
    assert (found[1, 0] == 0).all()


@pytest.mark.parametrize(
    ("loss", "by_scores"),
    [
        (catalogue.Softmax(label_smoothing=0.0), analytic.softmax_by_scores),
        (catalogue.Svm(margins="all", margin=1.0), analytic.svm_by_scores),
    ],
)
def test_the_linear_classifier_is_the_projects_own_with_its_losses(loss, by_scores):
    network = Linear(catalogue.Linear(), Shape(channels=1, image_size=3, outputs=5), 0.0).double()
    images, labels = numbers(6, 1, 3, 3), torch.tensor([0, 1, 2, 3, 4, 4])
    LOSSES[type(loss).__name__.lower()](loss)(network(images), labels).mean().backward()
    weights, bias = network.fc.weight.detach(), network.fc.bias.detach()
    by_weights, by_bias = analytic.linear_classifier(by_scores, weights, bias, images.flatten(1), labels)
    same(by_weights, network.fc.weight.grad)
    same(by_bias, network.fc.bias.grad)


def test_the_svm_gradient_of_the_worked_example():
    """Scores [3.2, 5.1, -1.7], y = 0: one margin is violated."""
    found = analytic.svm_by_scores(torch.tensor([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0]]), torch.tensor([0, 1]))
    assert found.tolist() == [[-1, 1, 0], [0, 0, 0]]


def test_a_convolution_by_filters_bias_and_images():
    images, filters, back = numbers(2, 3, 6, 7), numbers(4, 3, 3, 3, seed=1), numbers(2, 4, 4, 5, seed=2)
    bias = numbers(4, seed=3)
    by_filters = automatic.adjoint(lambda w: functional.conv2d(images, w, bias), filters, back)[1]
    same(analytic.convolution_by_filters(images, back, 3), by_filters)
    same(
        analytic.convolution_by_bias(back),
        automatic.adjoint(lambda b: functional.conv2d(images, filters, b), bias, back)[1],
    )
    by_images = automatic.adjoint(lambda x: functional.conv2d(x, filters), images, back)[1]
    same(analytic.convolution_by_images(filters, back), by_images)


@pytest.mark.parametrize(
    ("by_hand", "layer"),
    [(analytic.max_pooling, functional.max_pool2d), (analytic.average_pooling, functional.avg_pool2d)],
)
def test_pooling(by_hand, layer):
    maps, back = numbers(2, 3, 4, 6), numbers(2, 3, 2, 3, seed=1)
    same(by_hand(maps, back, 2), automatic.adjoint(lambda x: layer(x, 2), maps, back)[1])


LAYERS = {
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(0.01),
    "gelu": nn.GELU(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
}


@pytest.mark.parametrize("name", analytic.ACTIVATIONS)
def test_activations(name):
    inputs = torch.linspace(-4, 4, 33, dtype=torch.float64)  # zero, the corner, is one of them
    same(analytic.ACTIVATIONS[name](inputs), automatic.reverse_gradient(lambda z: LAYERS[name](z).sum(), inputs))


def test_forward_and_reverse_mode_multiply_by_the_jacobian_from_either_side():
    matrix, at = numbers(3, 4), numbers(4, seed=1)
    direction, weight = numbers(4, seed=2), numbers(3, seed=3)

    def function(x: torch.Tensor) -> torch.Tensor:
        return (matrix @ x).tanh()

    jacobian = (1 - function(at).square())[:, None] * matrix
    value, slope = automatic.tangent(function, at, direction)
    same(value, function(at))
    same(slope, jacobian @ direction)
    same(automatic.adjoint(function, at, weight)[1], jacobian.T @ weight)
    same(automatic.forward_gradient(lambda x: function(x).sum(), at), jacobian.sum(0))
    same(automatic.reverse_gradient(lambda x: function(x).sum(), at), jacobian.sum(0))
