"""The check itself: what it must catch, what it must not, and what it says of kinks."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.gradients.check import COORDINATES, Function, check, relative_error
from models.gradients.kinks import corner


class WrongReluGradient(torch.autograd.Function):
    """max(0, x), whose way back is off by a hundred-thousandth where x is positive: ten times what passes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def setup_context(context, inputs, output) -> None:
        context.save_for_backward(*inputs)
        context.save_for_forward(*inputs)

    @staticmethod
    def backward(context, back: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        return (1 + 1e-5) * back * (x > 0)

    @staticmethod
    def jvp(context, tangent: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        return tangent * (x > 0)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_layers(activation) -> Function:
    inputs = numbers(6, 5)
    at = {"first": numbers(8, 5, seed=1), "second": numbers(3, 8, seed=2), "bias": numbers(3, seed=3)}

    def value(tensors):
        hidden = activation(inputs @ tensors["first"].T)
        return functional.cross_entropy(hidden @ tensors["second"].T + tensors["bias"], torch.arange(6) % 3)

    return Function("two layers", value, at)


def test_a_right_gradient_passes():
    done = check(two_layers(torch.relu))
    assert done.problems == []
    assert [tensor.checked for tensor in done.tensors] == [COORDINATES, COORDINATES, 3]
    assert done.worst.error < 1e-8
    assert done.cost.parameters == 40 + 24 + 3


def test_a_broken_gradient_is_caught_and_its_tensor_named():
    """Only the weights before the broken layer are wrong; forward mode is right, and disagrees too."""
    done = check(two_layers(WrongReluGradient.apply))
    (problem,) = done.problems
    assert problem.startswith("first: relative error 5.0e-06, reverse mode against central differences")
    assert done.worst.name == "first"


def test_a_broken_forward_mode_is_caught():
    class WrongTangent(WrongReluGradient):
        @staticmethod
        def backward(context, back):
            (x,) = context.saved_tensors
            return back * (x > 0)

        @staticmethod
        def jvp(context, tangent):
            (x,) = context.saved_tensors
            return 2 * tangent * (x > 0)

    (problem,) = check(two_layers(WrongTangent.apply)).problems
    assert problem.startswith("first: relative error 3.3e-01, forward mode against reverse mode")


def test_a_gradient_that_is_no_number_is_caught():
    done = check(Function("root", lambda tensors: (tensors["x"] * 0).sqrt().sum(), {"x": numbers(3)}))
    assert done.problems
    assert done.worst.error != done.worst.error


def test_what_does_not_matter_has_a_zero_gradient_both_ways():
    """A shift of all scores, as a bias before a normalization: reverse mode says 1e-17, differences 1e-11."""
    scores = numbers(4, 5)

    def value(tensors):
        return functional.cross_entropy(scores + tensors["shift"], torch.arange(4))

    (tensor,) = check(Function("shift", value, {"shift": numbers(1)})).tensors
    assert tensor.is_zero
    assert tensor.problem is None


def test_a_gradient_left_out_is_not_taken_for_zero():
    def value(tensors):
        return functional.cross_entropy(tensors["x"].detach() * tensors["w"], torch.arange(4))

    done = check(Function("detached", value, {"x": numbers(4, 5), "w": numbers(5, seed=1)}))
    assert done.problems == ["x: relative error 1.0e+00, reverse mode against central differences"]


def test_kinks_are_left_out_counted_and_told():
    """Three of twenty numbers of the sum |x| stand at 0, or so near that the step goes across."""
    at = numbers(20).abs() + 0.1
    at[3], at[7], at[9] = 0.0, 1e-7, 1e-6  # the last is within the step, 7.6e-6, but not within its sixteenth
    done = check(Function("sum |x|", lambda tensors: tensors["x"].abs().sum(), {"x": at}), coordinates=20)
    (tensor,) = done.tensors
    assert (tensor.checked, tensor.kinks, tensor.left_out) == (20, 3, 2)
    assert tensor.problem is None
    assert tensor.error < 1e-9
    assert tensor.kink.index == 3  # the largest jump
    assert (tensor.kink.left, tensor.kink.right, tensor.kink.gradient) == (-1, 1, 0)


def test_too_many_kinks_fail():
    at = torch.zeros(8, dtype=torch.float64)
    (problem,) = check(Function("sum |x|", lambda tensors: tensors["x"].abs().sum(), {"x": at})).problems
    assert problem == "x: 8 of 8 coordinates are at kinks: too few are left to judge by"


def test_a_wrong_gradient_cannot_pass_for_a_kink():
    """Away from kinks a wrong gradient is wrong, however its one-sided slopes differ."""

    def value(tensors):
        return 1e3 * WrongReluGradient.apply(tensors["x"]).square().sum()

    (tensor,) = check(Function("square", value, {"x": numbers(12).abs() + 0.1})).tensors
    assert tensor.kinks == 0
    assert tensor.error == pytest.approx(5e-6, rel=0.01)


def test_relative_error_by_norms():
    a, n = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert relative_error(a, n) == pytest.approx(5 / 7)
    assert relative_error(a, a) == 0
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0


def test_walking_along_a_line_finds_the_corner():
    function = Function(
        "|x - 0.5|", lambda tensors: (tensors["x"][0] - 0.5).abs(), {"x": torch.tensor([0.0, 1.0]).double()}
    )
    found = next(found for seed in range(20) if (found := corner(function, seed)))
    assert found.left == pytest.approx(-found.right)
    assert found.central == pytest.approx(0, abs=1e-3)
    assert found.is_found
    assert corner(two_layers(torch.relu)) is not None
    assert corner(two_layers(torch.tanh)) is None
