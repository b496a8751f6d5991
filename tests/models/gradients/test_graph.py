"""The example f(x1, x2) = x1 x2 + sin x1: five ways to its gradient [x2 + cos x1, x1]."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.gradients import automatic, graph, numerical


def test_sympy_finds_the_formulas():
    assert set(graph.symbolic_gradient()) == {"x2 + cos(x1)", "x1"}
    assert graph.symbolic_gradient()[1] == "x1"


@given(x1=st.floats(-3, 3), x2=st.floats(-3, 3))
def test_five_ways_agree(x1, x2):
    expected = pytest.approx([x2 + math.cos(x1), x1], abs=1e-12)
    at = torch.tensor([x1, x2], dtype=torch.float64)
    nodes = {node.name: node for node in graph.worked(graph.EXAMPLE, {"x1": x1, "x2": x2})}
    assert list(graph.symbolic_gradient_at(x1, x2)) == expected
    assert automatic.forward_gradient(graph.example, at).tolist() == expected
    assert automatic.reverse_gradient(graph.example, at).tolist() == expected
    assert list(nodes["f"].tangents.values()) == expected
    assert [nodes["x1"].adjoint, nodes["x2"].adjoint] == expected
    assert numerical.numerical_gradient(graph.example, at).tolist() == pytest.approx([x2 + math.cos(x1), x1], abs=1e-8)
    assert nodes["f"].value == pytest.approx(graph.example(at).item())


def test_every_node_by_hand():
    nodes = {node.name: node for node in graph.worked(graph.EXAMPLE, {"x1": 2.0, "x2": 3.0})}
    sine, cosine = math.sin(2), math.cos(2)
    assert {name: node.value for name, node in nodes.items()} == {
        "x1": 2.0, "x2": 3.0, "v1": 6.0, "v2": sine, "f": 6 + sine
    }  # fmt: skip
    assert {name: node.tangents for name, node in nodes.items()} == {
        "x1": {"x1": 1, "x2": 0},
        "x2": {"x1": 0, "x2": 1},
        "v1": {"x1": 3, "x2": 2},
        "v2": {"x1": cosine, "x2": 0},
        "f": {"x1": 3 + cosine, "x2": 2},
    }
    assert {name: node.adjoint for name, node in nodes.items()} == {
        "x1": 3 + cosine, "x2": 2.0, "v1": 1.0, "v2": 1.0, "f": 1.0
    }  # fmt: skip
    assert nodes["v1"].partials == (3.0, 2.0)


def test_an_input_read_twice_gets_both_adjoints():
    steps = (graph.Step("x", "x"), graph.Step("y", "x x", "product", ("x", "x")))
    nodes = graph.worked(steps, {"x": 3.0})
    assert (nodes[1].value, nodes[1].tangents["x"], nodes[0].adjoint) == (9, 6, 6)
