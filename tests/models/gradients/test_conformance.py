"""Every network, loss and penalty of the catalogue has the gradient that differences of its values say."""

import pytest
import torch

from models import catalogue
from models.gradients import entries
from models.gradients.check import Function, check
from models.networks.resnet import Block, _Variant

LEARNERS = [name for name, entry in catalogue.NETWORKS.items() if not entry.memorises]


def hold(function: Function) -> None:
    done = check(function)
    assert done.tensors
    assert not done.problems, f"{function.name}: {done.problems}"


@pytest.mark.parametrize("name", LEARNERS)
def test_network(name):
    functions = list(entries.networks(name))
    assert "images" in functions[0].at
    for function in functions:
        hold(function)


def test_a_bottleneck_block():
    """Alone, in training: a whole ResNet-50 carries any step across kinks (`Resnet.small_variants`)."""
    generator = torch.Generator().manual_seed(0)
    variant = _Variant((1,), 4, bottleneck=True)
    block = entries.by_the_batch(entries.generic(Block(8, 4, 2, variant, survival=1.0)))
    maps = torch.randn(6, 8, 6, 6, generator=generator, dtype=torch.float64)

    def value(tensors):
        parameters = dict(tensors)
        return torch.func.functional_call(block, parameters, (parameters.pop("maps"),)).square().mean()

    at = {name: tensor.detach() for name, tensor in block.named_parameters()} | {"maps": maps}
    assert len(at) == 13  # four convolutions, each with a normalization of two
    hold(Function("bottleneck", value, at))


@pytest.mark.parametrize("name", catalogue.LOSSES)
def test_loss(name):
    for function in entries.losses(name):
        hold(function)


@pytest.mark.parametrize("name", catalogue.LOSSES)
def test_network_under_each_loss(name):
    for function in entries.networks("mlp", name):
        hold(function)


def test_penalties():
    functions = list(entries.penalties())
    assert {"regularization: l1", "regularization: l2", "regularization: all together"} <= {f.name for f in functions}
    assert not [function.name for function in functions if "dropout" in function.name]  # no term of the objective
    for function in functions:
        hold(function)


def test_normalization_and_dropout_are_checked_in_training_too():
    assert [function.name for function in entries.networks("linear")] == ["linear"]  # the same function in training
    plain, training, *_ = entries.networks("convnet")
    assert training.name == "convnet (training)"
    assert training.value(training.at) != plain.value(plain.at)
    assert training.value(training.at) == training.value(training.at)  # the same activations are dropped


def test_a_task_without_targets_says_what_to_add():
    import torch

    with pytest.raises(NotImplementedError, match="ANSWERS: no targets for the task 'poetry'"):
        entries.answers("poetry", 4, torch.Generator())
