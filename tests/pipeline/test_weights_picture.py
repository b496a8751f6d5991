"""Templates and filters: every weight is where it belongs, in a shade that says how large it is."""

import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from models import catalogue
from models.build import build_network
from models.networks.shape import Shape
from pipeline import params, paths, train
from pipeline.weights_picture import FirstLayer, draw, first_layer, pixels, scale
from tests.pipeline.conftest import CLASSES, SHIPPED
from tests.pipeline.test_train import OFFLINE, records

TREE = params.load(SHIPPED).model.model_dump()
SIDE = 64  # of images that every network can take


def opened(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)))


def network(name: str, shape: Shape) -> nn.Module:
    return build_network(name, catalogue.NETWORKS[name](**TREE[name]), shape, 0.0)


def linear(weights: NDArray[np.float64], channels: int, side: int) -> FirstLayer:
    """The first layer of a linear classifier whose classes are called 0, 1, ...; weights: a row a class."""
    shape = Shape(channels, side, len(weights))
    made = network("linear", shape)
    made.load_state_dict({"fc.weight": torch.tensor(weights), "fc.bias": torch.full((len(weights),), 9.0)})
    layer = first_layer(made, shape, [str(number) for number in range(len(weights))])
    assert layer is not None
    return layer


def test_a_shade_says_how_large_a_weight_is() -> None:
    weights = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0], np.float32)
    assert pixels(weights, 2.0).tolist() == [0, 0, 64, 128, 191, 255, 255]


def test_the_scale_spans_all_but_the_largest_weights_and_never_nothing() -> None:
    weights = np.linspace(-1, 1, 2001, dtype=np.float32)
    weights[:4] = 1000.0
    assert scale(weights) == pytest.approx(0.996, abs=0.002)
    assert scale(np.zeros((2, 3), np.float32)) == 1.0
    sparse = np.zeros(1000, np.float32)
    sparse[7] = -0.5
    assert scale(sparse) == 0.5


def test_templates_are_drawn_in_order_on_one_scale() -> None:
    """Three classes, 2x2 grey pixels: 80 pixels a weight, the classes from left to right."""
    weights = np.array([[1.0, 0.0, 0.0, -1.0], [0.5, 0.5, 0.5, 0.5], [0.0, -0.5, 0.0, 1.0]])
    layer = linear(weights, 1, 2)
    assert layer.kind == "templates"
    sheet = opened(draw(layer))
    expected = np.rint(127.5 + 127.5 * weights / scale(layer.weights)).astype(np.uint8).reshape(3, 2, 2)
    for number, template in enumerate(expected):
        left = 4 + number * 164
        tile = np.kron(template, np.ones((80, 80), np.uint8))
        assert (sheet[4:164, left : left + 160] == tile[..., None]).all(), number


def test_each_colour_channel_is_drawn_in_its_own_colour() -> None:
    weights = np.zeros((1, 3, 2, 2))  # class, C, H, W
    weights[0, 0, 0, 1], weights[0, 1, 1, 0], weights[0, 2, 1, 1] = 1.0, 1.0, -1.0
    sheet = opened(draw(linear(weights.reshape(1, 12), 3, 2)))
    corners = [sheet[4 + y, 4 + x].tolist() for y in (40, 120) for x in (40, 120)]
    assert corners == [[128, 128, 128], [255, 128, 128], [128, 255, 128], [128, 128, 0]]


@pytest.mark.parametrize("name", catalogue.NETWORKS)
def test_every_network_is_drawn_if_it_has_what_can_be(name: str) -> None:
    shape = Shape(3, SIDE, 5)
    made = network(name, shape)
    layer = first_layer(made, shape, list("abcde"))
    convolutions = [module for module in made.modules() if isinstance(module, nn.Conv2d)]
    if convolutions:
        assert layer is not None
        assert layer.kind == "filters"
        units, _, height, width = convolutions[0].weight.shape
        assert layer.weights.shape == (units, height, width, 3)
        row, column = divmod(units - 1, -(-units // -(-units // 16)))  # the last one's place: rows of 16 at most
        last = np.moveaxis(convolutions[0].weight.detach().numpy()[-1], 0, 2)
        tile = np.kron(pixels(last, scale(layer.weights)), np.ones((56 // height, 56 // width, 1)))
        sheet = opened(draw(layer))
        left = 4 + column * 60 + (56 - tile.shape[1]) // 2
        top = 4 + row * (tile.shape[0] + 4)
        assert (sheet[top : top + tile.shape[0], left : left + tile.shape[1]] == tile).all()
    elif name == "linear":
        assert layer is not None
        assert layer.weights.shape == (5, SIDE, SIDE, 3)
        assert list(layer.captions) == list("abcde")
    else:
        assert layer is None


@pytest.mark.parametrize(
    ("names", "outputs", "captions"),
    [
        (("cat", "dog"), 2, ["cat", "dog"]),
        (("cat", "dog"), 1, ["dog, not cat"]),  # one score, positive for the second
        (("x",), 1, ["x"]),
        (("cat", "dog"), 6, ["cat", "dog", "2", "3", "4", "5"]),  # and a box
        ((), 2, ["0", "1"]),
    ],
)
def test_a_template_is_called_what_it_speaks_for(names: tuple[str, ...], outputs: int, captions: list[str]) -> None:
    shape = Shape(1, 4, outputs)
    layer = first_layer(network("linear", shape), shape, names)
    assert layer is not None
    assert list(layer.captions) == captions


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_points_of_the_plane_have_no_image(name: str) -> None:
    shape = Shape(2, 1, 3)
    assert first_layer(network(name, shape), shape, list("abc")) is None


@pytest.mark.parametrize(("kind", "side", "units"), [("templates", 32, 20), ("templates", 224, 3), ("filters", 11, 96)])
def test_equal_weights_give_equal_bytes_that_fit_a_page(kind: str, side: int, units: int) -> None:
    weights = np.random.default_rng(0).normal(size=(units, side, side, 3)).astype(np.float32)
    names = [f"class {unit}" if kind == "templates" else "" for unit in range(units)]
    png = draw(FirstLayer(kind, weights, names))  # type: ignore[arg-type]
    assert png == draw(FirstLayer(kind, weights.copy(), names))  # type: ignore[arg-type]
    picture = Image.open(io.BytesIO(png))
    assert picture.info == {}
    assert picture.width <= 1016  # what the report gives a picture
    dark = opened(draw(FirstLayer(kind, weights, names), dark=True))  # type: ignore[arg-type]
    light = opened(png)
    assert light.shape == dark.shape
    assert light[0, 0].tolist() == [255, 255, 255]
    assert dark[0, 0].max() < 40
    tile = pixels(weights[0], scale(weights))
    if side <= 56:
        factor = (96 if kind == "templates" else 56) // side
        enlarged = np.repeat(np.repeat(tile, factor, 0), factor, 1)
        for sheet in (light, dark):
            assert any((sheet[4 : 4 + len(enlarged), x : x + len(enlarged)] == enlarged).all() for x in range(30))


def test_of_very_many_the_first_are_shown() -> None:
    weights = np.random.default_rng(0).normal(size=(600, 3, 3, 1)).astype(np.float32)
    few, many = (opened(draw(FirstLayer("filters", weights[:count], [""] * count))) for count in (512, 600))
    legend = many.shape[0] - few.shape[0]  # which is longer: "The first 512 of 600 filters."
    assert few.shape[1] == many.shape[1]
    assert legend in (0, 18)


@pytest.mark.parametrize(("name", "file"), [("linear", "templates.png"), ("convnet", "filters.png"), ("mlp", None)])
def test_a_training_leaves_the_picture_with_its_model_and_its_run(project, small_params, name, file) -> None:
    paths.SEARCH.mkdir(parents=True)
    paths.BEST.write_text("{}\n")
    train.run(small_params(tracking=OFFLINE, model={"name": name}, train={"epochs": 1}))
    drawn = {path.name for path in paths.MODEL.glob("*.png")} - {"learning_curves.png"}
    logged = {record["path"] for record in records() if record["type"] == "artifact"}
    assert drawn == ({file} if file else set())
    assert logged >= drawn
    if name == "linear":
        from models.build import load_model

        layer = first_layer(load_model(paths.MODEL).network, Shape(1, 8, 3), CLASSES)
        assert layer is not None
        assert (paths.MODEL / "templates.png").read_bytes() == draw(layer)
