"""Probabilities of a whole split: averaged over views, the same in whatever batches it is read."""

import numpy as np
import pytest
import torch
from torch import nn

from models import catalogue
from models.build import Description, Predictor, build_network
from models.networks.shape import Shape
from pipeline import inference
from pipeline.data.store import Split
from pipeline.data.views import VIEWS, Averaged

SIDE = 6
IMAGES = np.random.default_rng(1).integers(0, 256, (50, SIDE, SIDE, 1), dtype=np.uint8)
SPLIT = Split(images=IMAGES, labels=np.zeros(50, dtype=np.int64), folder=None)


class Answer(nn.Module):
    """A model whose answer to a batch (N, H, W, C) is a function; it is exact, so batches cannot change its bits."""

    classes = ("left", "right")
    image_shape = (SIDE, SIDE, 1)
    seen = SIDE

    def __init__(self, function) -> None:
        super().__init__()
        self.forward = function


def left_share(images: torch.Tensor) -> torch.Tensor:
    """The left half's share of the light: sums of whole numbers."""
    light = images.float().sum((1, 3))
    left, right = light[:, : SIDE // 2].sum(1), light[:, SIDE // 2 :].sum(1)
    return torch.stack([left, right], 1) / (left + right)[:, None]


def predict(function, views: Averaged) -> np.ndarray:
    return inference.predict(Answer(function), SPLIT, "cpu", "", views)


@pytest.mark.parametrize("name", VIEWS)
def test_a_constant_model_stays_itself_to_the_bit(name):
    odd = torch.tensor([1 / 3, 2 / 3])
    found = predict(lambda images: odd.expand(len(images), 2), Averaged(name))
    assert (found == odd.numpy()).all()


def test_a_mirror_makes_left_and_right_equal():
    found = predict(left_share, Averaged("flip"))
    assert np.allclose(found, 0.5, atol=1e-7)
    assert np.ptp(predict(left_share, Averaged("none"))[:, 0]) > 0.05


@pytest.mark.parametrize("name", VIEWS)
def test_the_mean_is_that_of_the_answers_to_each_view(name):
    views = Averaged(name, 2)
    answers = [left_share(torch.from_numpy(view)).double().numpy() for view in views.of(IMAGES)]
    assert len(answers) == views.count
    assert predict(left_share, views) == pytest.approx(np.mean(answers, axis=0), abs=1e-7)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("batch", [16, 17, 50])
def test_batches_change_no_bit(monkeypatch, name, batch):
    whole = predict(left_share, Averaged(name))
    monkeypatch.setattr(inference, "_PIXELS_A_BATCH", batch * SIDE * SIDE)
    sizes = []

    def watched(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return left_share(images)

    assert np.array_equal(predict(watched, Averaged(name)), whole)
    assert max(sizes) == batch


def test_the_crop_of_a_model_goes_into_the_corners():
    """It sees the 4 x 4 centre of 6 x 6 pixels: every corner of the image comes into the mean."""
    corners = np.zeros((1, SIDE, SIDE, 1), dtype=np.uint8)
    corners[0, 0, 0] = corners[0, 0, -1] = corners[0, -1, 0] = corners[0, -1, -1] = 250

    def light(images: torch.Tensor) -> torch.Tensor:
        centre = images[:, 1:5, 1:5].float().sum((1, 2, 3)) / 250
        return torch.stack([centre, 1 - centre], 1)

    model = Answer(light)
    model.seen = 4
    split = Split(images=corners, labels=np.zeros(1, dtype=np.int64), folder=None)
    shares = [inference.predict(model, split, "cpu", "", Averaged(name, 9))[0, 0] for name in ("none", "ten_crop")]
    assert shares == pytest.approx([0.0, 0.8])  # eight of ten views see one corner each


@pytest.mark.parametrize("side", [5, 4])
@pytest.mark.parametrize(("name", "views"), [("none", 1), ("flip", 2), ("ten_crop", 10)])
def test_a_model_that_crops_is_averaged_as_alexnet_is(name, views, side):
    """A linear classifier of the crop, all of it in NumPy: W x + b, softmax, mean."""
    torch.manual_seed(0)
    network = build_network("linear", catalogue.Linear(), Shape(3, side, 4), 0.0)
    description = Description(
        network="linear", network_settings={}, dropout=0.0, loss="softmax", loss_settings={"label_smoothing": 0.0},
        classes=["a", "b", "c", "d"], image_size=SIDE, crop_size=side, channels=3, mean=[0.4] * 3, std=[0.1, 0.2, 0.3],
    )  # fmt: skip
    images = np.random.default_rng(2).integers(0, 256, (30, SIDE, SIDE, 3), dtype=np.uint8)
    split = Split(images=images, labels=np.zeros(30, dtype=np.int64), folder=None)
    found = inference.predict(Predictor(network, description).eval(), split, "cpu", "", Averaged(name))

    middle, end = (SIDE - side) // 2, SIDE - side
    corners = [(0, 0), (0, end), (end, 0), (end, end)] if name == "ten_crop" else []
    crops = [images[:, top : top + side, left : left + side] for top, left in [(middle, middle), *corners]]
    crops += [crop[:, :, ::-1] for crop in crops] if name != "none" else []
    weight, bias = (value.detach().double().numpy() for value in (network.fc.weight, network.fc.bias))
    total = np.zeros((30, 4))
    for crop in crops:
        inputs = (crop / 255 - 0.4) / [0.1, 0.2, 0.3]
        exponentials = np.exp(inputs.transpose(0, 3, 1, 2).reshape(30, -1) @ weight.T + bias)
        total += exponentials / exponentials.sum(1, keepdims=True)
    assert len(crops) == views
    assert found == pytest.approx(total / views, abs=1e-6)
