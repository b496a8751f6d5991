"""Probabilities of a whole split: averaged over views, the same in whatever batches it is read."""

import numpy as np
import pytest
import torch
from torch import nn

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
