"""The picture of the example's computational graph."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from models.gradients.graph import EXAMPLE, Step, worked
from pipeline.graph_figure import _places, computational_graph

ROOT = Path(__file__).parents[2]
NODES = worked(EXAMPLE, {"x1": 2.0, "x2": 3.0})


def test_equal_nodes_give_equal_bytes_and_others_give_others():
    assert computational_graph(NODES) == computational_graph(NODES)
    assert computational_graph(NODES) != computational_graph(worked(EXAMPLE, {"x1": 2.0, "x2": 3.5}))
    assert computational_graph(NODES) != computational_graph(NODES, dark=True)


def test_nodes_stand_right_of_their_parents_and_not_upon_each_other():
    steps = (*EXAMPLE, Step("g", "f x2", "product", ("f", "x2")))
    places = _places(worked(steps, {"x1": 2.0, "x2": 3.0}))
    assert len(set(places.values())) == len(steps)
    for step in steps:
        assert all(places[parent][0] < places[step.name][0] for parent in step.parents)


def test_it_has_what_each_theme_needs():
    light, dark = (
        np.asarray(Image.open(io.BytesIO(computational_graph(NODES, dark=dark))).convert("RGB"), dtype=int)
        for dark in (False, True)
    )
    assert light.shape == dark.shape
    assert light[0, 0].tolist() == [255, 255, 255]
    assert dark[0, 0].sum() < 100
    blue = (light[..., 2] - light[..., 0] > 100).sum()  # tangents
    red = (light[..., 0] - light[..., 2] > 100).sum()  # adjoints
    assert blue > red > 100


def test_the_picture_in_the_docs_is_this_one():
    assert (ROOT / "docs/computational_graph.png").read_bytes() == computational_graph(NODES)
